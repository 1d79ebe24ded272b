"""A damaged or foreign file is named with its row, in one sentence; compressed and oddly encoded ones are read."""

import gzip
import json
import re

import pytest
from test_benchmarks_readers import BBQ, XSTEST, write_confaide, write_csv, write_jsonl

from mechdrift.probes.benchmarks.loading import load_benchmark
from mechdrift.probes.benchmarks.rows import Row
from mechdrift.records import MechdriftError

FAULTS = [
    (
        "xstest",
        [{"id": "1", "question": "?", "type": "a", "label": "safe"}],
        r"a\.csv, row 1: the column 'prompt' is missing; there are 'id'",
    ),
    (
        "xstest",
        [XSTEST, XSTEST | {"label": "sure"}],
        r"a\.csv, row 2: the column 'label' holds 'sure'; safe or unsafe was expected",
    ),
    ("xstest", [XSTEST, XSTEST | {"id": "8"}, XSTEST], r"a\.csv, row 3: the id '7' occurs a second time"),
    (
        "jailbreakbench",
        [{"Index": "0", "Goal": "x", "Category": "y"}],
        "'harmful' or 'benign' was expected",
    ),
    (
        "toxigen",
        [{"text": "x", "target_group": "y", "toxicity_human": "much", "toxicity_ai": "1"}],
        "row 1: 'toxicity_human' and",
    ),
    (
        "toxigen",
        [{"text": "x", "target_group": "y", "toxicity_human": "5", "toxicity_ai": "nan"}],
        "should be numbers from 1 to 5",
    ),
    (
        "dt_stereotype",
        [{"stereotype_topic": "x", "target_group": "y", "user_prompt": "z"}],
        "system_prompts.csv should stand beside",
    ),
]


@pytest.mark.parametrize(("name", "rows", "message"), FAULTS)
def test_a_fault_names_the_file_the_row_and_what_was_expected(tmp_path, name, rows, message):
    with pytest.raises(MechdriftError, match=message):
        load_benchmark(name, write_csv(tmp_path / "a.csv", rows))


BROKEN = [
    ("xstest", "a.csv", b"", "is empty"),
    ("xstest", "a.csv", b"id,prompt,type,label\n", "is empty"),
    ("xstest", "a.csv", b"id,prompt\n1,How, why?\n", "row 1: more cells than the header names"),
    ("xstest", "a.csv", b"\xff\xfe", "a.csv, line 1: not UTF-8 text; save the file as UTF-8"),
    ("xstest", "a.csv", "id,prompt\n1,caf\xe9\n".encode("latin-1"), "a.csv, line 2: not UTF-8 text"),
    ("xstest", "a.csv", b"id,prompt,type,label\n1,a,b,safe\n2,a\0,b,safe\n", "a.csv, line 3: a zero byte"),
    ("xstest", "a.csv", "id,prompt".encode("utf-16-le"), "a.csv, line 1: a zero byte"),
    ("xstest", "a.csv", b"\n \n", "is empty"),
    (
        "xstest",
        "a.csv",
        b"id,prompt,type,label\n1,How?,a,safe\n2,Why?",
        "row 2: fewer cells than the header names; the file may be cut",
    ),
    (
        "xstest",
        "a.csv",
        b'id,prompt,type,label\n1,"How',
        "row 1: not CSV (unexpected end of data); the file may be cut short",
    ),
    (
        "xstest",
        "a.csv",
        b"id,prompt,type,label\n1,,a,safe\n",
        "row 1: the column 'prompt' should hold a text, but is empty",
    ),
    ("xstest", "a.csv.gz", b"id,prompt", "a.csv.gz: not a whole gzip file"),
    ("xstest", "a.csv.gz", gzip.compress(b"id,prompt,type,label", mtime=0)[:-9], "a.csv.gz: not a whole gzip file"),
    ("xstest", "a.xlsx", b"x", "files that can be read end in .csv"),
    ("rtp", "a.jsonl", b'{"prompt": {"text": "a", "toxicity": 0.1}}\nnot json\n', "row 2: not JSON"),
    ("rtp", "a.jsonl", b'{"prompt": "a"}\n', "row 1: the column 'prompt' should hold an object"),
    (
        "rtp",
        "a.jsonl",
        b'{"prompt": {"text": "a", "toxicity": "much"}}\n',
        "row 1: the 'toxicity' of the prompt should be a number",
    ),
    ("rtp", "a.jsonl", b'{"prompt": {"text": "a", "toxicity": 7}}\n', "should be a number from 0 to 1, not 7"),
    ("rtp", "a.jsonl", b'{"prompt": {"text": "a", "toxicity": NaN}}\n', "should be a number from 0 to 1, not nan"),
    ("rtp", "a.jsonl", b"[1]\n", "row 1: a JSON object was expected, not a list"),
    ("bbq", "a.jsonl", json.dumps(BBQ | {"answer_info": {}}).encode(), "row 1: 'answer_info' should name"),
    (
        "bbq",
        "a.jsonl",
        json.dumps(BBQ | {"answer_info": {f"ans{i}": [] for i in range(3)}}).encode(),
        "row 1: 'answer_info'",
    ),
    ("confaide", "tier_1.txt", b"Rate this.\n", "1 questions, but 0 human ratings; tier_1_labels.txt"),
    ("confaide", "tier_3.txt", b"<BEGIN><a,b,c,d>\nA story.\n", "the file ends before the <END>"),
    ("confaide", "tier_3_control.txt", b"May Di tell?\n", "tier_3.txt should stand beside this file"),
    ("advglue", "dev.json", b'[{"sentence": "a"}]', "or of the list in it that holds the row"),
    ("stereoset", "dev.json", b'{"data": {"intersentence": []}}', "is empty"),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), BROKEN)
def test_a_broken_file_is_an_error(tmp_path, name, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(MechdriftError, match=re.escape(message)):
        load_benchmark(name, tmp_path / file)


def test_unknown_names_missing_files_and_tasks_say_what_to_do(tmp_path):
    with pytest.raises(MechdriftError, match="unknown benchmark 'nope': known are xstest"):
        load_benchmark("nope")
    with pytest.raises(MechdriftError, match=r"holds no file of xstest: xstest_prompts\.csv"):
        load_benchmark("xstest", tmp_path)
    with pytest.raises(MechdriftError, match="there is no benchmark file or folder"):
        load_benchmark("xstest", tmp_path / "no.csv")
    with pytest.raises(MechdriftError, match=r"there is no benchmark file or folder a.*File name too long"):
        load_benchmark("xstest", "a" * 5000 + ".csv")
    with pytest.raises(MechdriftError, match="load_tasks"):
        load_benchmark("gsm8k", tmp_path)
    with pytest.raises(MechdriftError, match="confaide is not on the hub"):
        load_benchmark("confaide")


def test_a_row_tells_what_it_lacks():
    row = Row(where="a.csv, row 1", part="a", number=1, values={"prompt": " ", "other": 3})
    assert row.text("prompt", "other") == "3"
    with pytest.raises(MechdriftError, match="the column 'prompt' or 'question' should hold a text"):
        row.text("prompt", "question")


WAYS = {
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "Windows lines": lambda data: data.replace(b"\n", b"\r\n"),
    "old Macintosh lines": lambda data: data.replace(b"\n", b"\r"),
    "no line break at the end": bytes.rstrip,
}


@pytest.mark.parametrize("way", WAYS)
def test_files_are_read_however_their_lines_end(tmp_path, way):
    for name, file in (
        ("xstest", write_csv(tmp_path / "a.csv", [XSTEST])),
        ("bbq", write_jsonl(tmp_path / "b.jsonl", [BBQ])),
    ):
        before = load_benchmark(name, file)
        file.write_bytes(WAYS[way](file.read_bytes().replace(b"\r\n", b"\n")))
        assert load_benchmark(name, file) == before


def test_compressed_files_are_read_and_a_plain_one_comes_first(tmp_path):
    file = write_csv(tmp_path / "xstest_prompts.csv", [XSTEST])
    before = load_benchmark("xstest", tmp_path)
    packed = tmp_path / "xstest_prompts.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert load_benchmark("xstest", tmp_path) == before
    file.unlink()
    assert load_benchmark("xstest", tmp_path).items == load_benchmark("xstest", packed).items == before.items


def test_control_questions_are_read_with_the_scenarios_beside_them(tmp_path):
    whole = load_benchmark("confaide", write_confaide(tmp_path))
    alone = load_benchmark("confaide", tmp_path / "tier_3_control.txt")
    assert alone.items == tuple(item for item in whole if item.tags["tier"] == "3 control") != ()
