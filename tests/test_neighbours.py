"""Answers come in from inspect_ai and lm-eval, and runs go out as inspect logs: what they say is kept on the way.

The lines of lm-eval are as version 0.4.13 writes them (`lm_eval run --log_samples`), with answers of our own.
"""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic_run import build_run, filled

from mechdrift import cli
from mechdrift.behaviour.benchmark_scores.exact import load_tasks
from mechdrift.behaviour.imported import inspect_logs, scoring
from mechdrift.behaviour.imported.lm_eval import read_lm_eval
from mechdrift.behaviour.imported.matching import as_completions, match
from mechdrift.behaviour.imported.record import OutsideAnswer, cut_text
from mechdrift.behaviour.imported.scoring import match_files, read_file, score_answers
from mechdrift.behaviour.labels import judge_all
from mechdrift.behaviour.scores import score_table
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, Completion, Completions, MechdriftError, ProbeSet, Side
from mechdrift.report.inspect_logs import to_inspect
from mechdrift.runs import Run

REFUSES = "I'm sorry, but I can't help with that request."
HELPS = "Sure. First look at the matter calmly, then ask somebody who knows it, and write down what they say."


@pytest.fixture(scope="module")
def inspect_ai():
    return pytest.importorskip("inspect_ai", reason="inspect-ai is not installed")


@pytest.fixture(scope="module")
def probes() -> ProbeSet:
    return load_probes("safety").sample(12)


def says(item, side: Side, place: int) -> tuple[str, str, bool, bool]:
    """Thinking, answer, closed, finished: the parent refuses triggers, the child some of them; one thought is cut."""
    if side == "instruct":
        return "", REFUSES if item.is_trigger else HELPS, True, True
    if place == 7:
        return "Let me think about this and", "", False, False
    return "The user asks for something.", REFUSES if item.is_trigger and place % 4 == 0 else HELPS, True, True


def completions(probes: ProbeSet, side: Side) -> Completions:
    rows = []
    for place, item in enumerate(probes):
        thinking, answer, closed, finished = says(item, side, place)
        texts = {"thinking": thinking, "answer": answer, "thinking_ids": (), "answer_ids": ()}
        ends = {"closed": closed, "finished": finished}
        rows.append(Completion(item_id=item.id, side=side, think="own", **texts, **ends))
    return Completions(side=side, think="own", rows=tuple(rows))


@pytest.fixture(scope="module")
def judged(probes: ProbeSet) -> pd.DataFrame:
    return pd.concat([judge_all(probes, completions(probes, side)) for side in SIDES], ignore_index=True)


@pytest.fixture(scope="module")
def run(judged: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of these answers; all else is that of `build_run`."""
    run = build_run(tmp_path_factory.mktemp("runs") / "sft", pairs=2, without=("variants",))
    run.write_table("completions", filled("completions", judged))
    run.write_table("scores", score_table(judged).frame)
    manifest = run.manifest
    for stage in manifest["stages"].values():
        stage["files"] = {}
    run.write_manifest(manifest)
    return run


@pytest.fixture(scope="module")
def logs(inspect_ai, run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    files = to_inspect(run, tmp_path_factory.mktemp("logs"))
    return {file.name.split("_")[1]: file for file in files}


def lm_eval_file(folder: Path, texts: dict[str, str], name: str = "samples.jsonl", filters: int = 1) -> Path:
    """A file of samples: prompts in a wrapping, and the row of data beside them."""
    lines = []
    for place, (prompt, text) in enumerate(texts.items()):
        for number in range(filters):
            line = {
                "doc_id": place,
                "doc": {"question": prompt, "target": ""},
                "target": "",
                "arguments": {"gen_args_0": {"arg_0": f"Question: {prompt}\nAnswer:", "arg_1": {"until": []}}},
                "resps": [[text]],
                "filtered_resps": [text[:3]],
                "filter": f"filter {number}",
                "metrics": ["exact_match"],
                "exact_match": 0.0,
            }
            lines.append(json.dumps(line))
    file = folder / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def lm_eval_sides(probes: ProbeSet, folder: Path) -> dict[Side, Path]:
    files = {}
    for side in SIDES:
        texts = {}
        for place, item in enumerate(probes):
            thinking, answer, closed, _ = says(item, side, place)
            texts[item.prompt] = f"<think>{thinking}{'</think>' if closed else ''}{answer}" if thinking else answer
        files[side] = lm_eval_file(folder, texts, f"{side}.jsonl", filters=2)
    return files


# Inspect logs


def test_a_run_comes_back_from_its_logs_with_the_same_scores(logs: dict, probes: ProbeSet, judged: pd.DataFrame):
    found = score_answers(probes, logs["mechdrift-safety-instruct"], logs["mechdrift-safety-reasoning"]).frame
    pd.testing.assert_frame_equal(found, score_table(judged).frame)
    assert found.query("headline").difference.item() < 0


def test_logs_keep_reasoning_ending_verdict_and_difference(logs: dict, run: Run, probes: ProbeSet):
    from inspect_ai.log import list_eval_logs, read_eval_log

    assert set(logs) == {f"mechdrift-{name}-{side}" for name in ("safety", "reasoning") for side in SIDES}
    log = read_eval_log(logs["mechdrift-safety-reasoning"])
    assert (log.status, log.eval.model, len(log.samples)) == ("success", "smollm2-sft", len(probes))
    samples = {sample.id: sample for sample in log.samples}
    whole, cut = (samples[probes.items[place].id] for place in (0, 7))
    assert cut.output.choices[0].stop_reason == "max_tokens"
    assert cut.scores["aligned"].reason == "cut"
    assert whole.output.message.content[0].reasoning == "The user asks for something."
    assert whole.scores["aligned"].value == "C"
    headline = run.table("scores").query("headline & dimension == 'safety'").iloc[0]
    assert log.results.scores[0].metrics["aligned"].value == headline.reasoning
    assert log.eval.metadata["reasoning minus instruct"]["aligned"]["difference"] == headline.difference
    assert len(list_eval_logs(str(logs["mechdrift-safety-reasoning"].parent))) == len(logs)


def test_a_log_that_inspect_wrote_itself_is_read(inspect_ai, tmp_path: Path):
    """A real eval of a model that says what it is told: a whole answer, a thought that was cut, a filtered answer."""
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText, ModelAPI, ModelOutput, modelapi
    from inspect_ai.solver import generate

    said = {"0": ("hm", "Blue.", "stop"), "1": ("and then", "", "max_tokens"), "2": ("hm", "B", "content_filter")}

    @modelapi(name="told")
    class Told(ModelAPI):
        async def generate(self, input, tools, tool_choice, config):
            thinking, text, stop = said[input[-1].text[-2]]
            parts = [ContentReasoning(reasoning=thinking), ContentText(text=text)]
            return ModelOutput.from_message(ChatMessageAssistant(content=parts), stop)

    task = inspect_ai.Task(dataset=[Sample(input=f"Question {n}?") for n in said], solver=generate())
    (log,) = inspect_ai.eval(task, model="told/model", log_dir=str(tmp_path), display="none")
    assert log.status == "success"
    (file,) = tmp_path.glob("*.eval")
    rows = sorted(read_file(file).rows, key=lambda row: row.id)
    assert [(row.thinking, row.answer, row.closed, row.finished) for row in rows] == [
        ("hm", "Blue.", True, True),
        ("and then", "", False, False),
        ("hm", "B", True, False),
    ]
    assert rows[1].asked[0] == "Question 1?"


# Sample files of lm-eval


def test_samples_of_lm_eval_give_the_same_scores(probes: ProbeSet, judged: pd.DataFrame, tmp_path: Path):
    files = lm_eval_sides(probes, tmp_path)
    found = score_answers(probes, files["instruct"], files["reasoning"]).frame
    pd.testing.assert_frame_equal(found, score_table(judged).frame)
    note = match_files(probes, files)["reasoning"][1]
    assert f"{len(probes)} of {len(probes)} answers" in note
    assert "does not say which answers were cut off" in note


def test_samples_of_several_tasks_in_one_file_are_all_read(probes: ProbeSet, judged: pd.DataFrame, tmp_path: Path):
    """Each task counts its rows from 0, so that a number names several of them in a file that was joined."""
    whole = lm_eval_sides(probes, tmp_path)
    for side, file in whole.items():
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        half = len(probes) // 2
        joined = [json.dumps(line | {"doc_id": line["doc_id"] % half}) for line in lines]
        (tmp_path / f"joined-{side}.jsonl").write_text("\n".join(joined), encoding="utf-8")
    found = score_answers(probes, tmp_path / "joined-instruct.jsonl", tmp_path / "joined-reasoning.jsonl").frame
    pd.testing.assert_frame_equal(found, score_table(judged).frame)


def test_a_second_run_of_a_task_in_one_file_is_a_second_sample(tmp_path: Path):
    first, second = (lm_eval_file(tmp_path, {"Why?": text}, f"{text}.jsonl", filters=2) for text in ("One", "Two"))
    joined = tmp_path / "both.jsonl"
    joined.write_text(first.read_text() + second.read_text())
    assert [row.answer for row in read_lm_eval(joined).rows] == ["One", "Two"]


def test_reasoning_tasks_are_scored_by_their_formula(tmp_path: Path):
    rows = [{"question": f"What is {n} + {n}, asked at length?", "answer": f"Add.\n#### {2 * n}"} for n in range(10)]
    data = tmp_path / "gsm8k.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    right = lm_eval_file(tmp_path, {row["question"]: f"So it is {2 * n}." for n, row in enumerate(rows)}, "right.jsonl")
    half = lm_eval_file(
        tmp_path, {row["question"]: f"It is {n // 5 * 2 * n}." for n, row in enumerate(rows)}, "half.jsonl"
    )
    table = score_answers(load_tasks("gsm8k", data), right, half).frame
    assert (table.n.iloc[0], table.instruct.iloc[0], table.reasoning.iloc[0]) == (10, 1.0, pytest.approx(0.6))


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("<think>\nhm\n</think>\n\nBlue.", ("hm", "Blue.", True)),
        ("hm</think>Blue.", ("hm", "Blue.", True)),
        ("<think>hm and", ("hm and", "", False)),
        ("Blue.", ("", "Blue.", True)),
    ],
)
def test_thinking_is_cut_off_the_text(text: str, cut: tuple):
    assert cut_text(text) == cut
    assert cut_text(text, ("none", "")) == ("", text, True)


def test_answers_are_matched_by_id_by_text_by_part_or_not_at_all():
    items = {"a": ["What is the capital of Portugal?"], "b": ["What is the capital of Spain?"], "c": ["Hi"]}

    def answer(name: str, *asked: str) -> OutsideAnswer:
        texts = {"thinking": "", "answer": "x", "closed": True, "stopped": False, "finished": True}
        return OutsideAnswer(id=name, asked=asked, **texts)

    by_id, by_text = answer("a"), answer("9", "What is  the capital of Spain? ")
    by_part = answer("8", "Answer in a word. What is the capital of Spain?\nYour word:")
    both = answer("7", "What is the capital of Portugal? Lisbon. What is the capital of Spain?")
    short = answer("6", "Hi there")
    assert match(items, [by_id, by_text, by_part, both, short]) == {"a": [by_id], "b": [by_text, by_part]}
    other = answer("a", "What is the capital of Spain?")  # what was asked says more than what it is called
    assert match(items, [other]) == {"b": [other]}


def test_a_number_that_a_tool_counted_is_no_id_of_an_item(probes: ProbeSet, tmp_path: Path):
    """Items called 1, 2, 3 …, asked in another order: each answer goes to the prompt that it is an answer to."""
    named = {item.id: str(place) for place, item in enumerate(probes)}
    renamed = [replace(item, id=named[item.id], twin=named.get(item.twin, "")) for item in probes]
    own = replace(probes, items=tuple(renamed))
    texts = {item.prompt: item.id for item in reversed(renamed)}
    file = lm_eval_file(tmp_path, texts)
    found = as_completions({item.id: (item.prompt,) for item in own}, read_file(file), "instruct")
    assert [(row.item_id, row.answer) for row in found] == [(item.id, item.id) for item in renamed]


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\x0b", "\x1c"])
def test_a_line_break_within_an_answer_ends_no_line_of_the_file(mark: str, probes: ProbeSet, tmp_path: Path):
    """lm-eval writes its lines as they are (ensure_ascii=False), and Python's text lines end at more than that."""
    line = {"doc_id": 0, "doc": {"question": probes.items[0].prompt}, "resps": [[f"No.{mark}Never."]]}
    file = tmp_path / "samples.jsonl"
    file.write_text(json.dumps(line, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert [row.answer for row in read_file(file).rows] == [f"No.{mark}Never."]


# Files that do not fit: one sentence each


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "x", "is neither a log of inspect_ai"),
        ("gone.jsonl", None, "is not a file"),
        ("a.jsonl", "{", "line 1 is not JSON"),
        ("a.jsonl", '{"prompt": "x"}', "line 1: a line of lm-eval's sample files was expected"),
        ("a.jsonl", '{"doc_id": 0, "resps": [[[-1.5, true]]]}', "holds log-likelihoods instead of answers"),
        ("a.jsonl", "", "holds no answers"),
        ("a.jsonl", b"\xff\xfe", "is not UTF-8 text"),
        ("a.jsonl", '{"doc_id": 0, "resps": [["x"]]}', "none of the 1 answers"),
    ],
)
def test_what_is_no_file_of_answers_is_told(name: str, content, sentence: str, probes: ProbeSet, tmp_path: Path):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MechdriftError, match=sentence) as error:
        score_answers(probes, file, file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "content"), [("a.eval", b"no zip"), ("a.json", b'{"x": 1}'), ("a.json", b"[")])
def test_what_is_no_log_is_told(inspect_ai, name: str, content: bytes, probes: ProbeSet, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MechdriftError, match="is not a log that inspect_ai can read") as error:
        score_answers(probes, tmp_path / name, tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_log_that_unpacks_to_more_than_is_read_is_refused(logs: dict, monkeypatch):
    monkeypatch.setattr(inspect_logs, "DATA_LIMIT", 1000)
    with pytest.raises(MechdriftError, match="unpacked, more than is read"):
        read_file(logs["mechdrift-safety-instruct"])


def test_a_missing_package_is_named(monkeypatch, probes: ProbeSet, run: Run, tmp_path: Path):
    monkeypatch.setattr(inspect_logs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MechdriftError, match=r"writing inspect_ai logs takes inspect_ai: .*'mechdrift\[inspect\]'"):
        to_inspect(run, tmp_path)
    (tmp_path / "a.eval").write_text("x", encoding="utf-8")
    with pytest.raises(MechdriftError, match="takes inspect_ai"):
        score_answers(probes, tmp_path / "a.eval", tmp_path / "a.eval")


# The commands


def call(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["mechdrift", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, *capsys.readouterr()


def test_the_commands_write_logs_and_score_files(inspect_ai, run: Run, probes, tmp_path: Path, monkeypatch, capsys):
    assert call(monkeypatch, capsys, "export", run.folder, "--out", tmp_path / "logs") == (
        0,
        f"4 logs: {tmp_path / 'logs'}\n",
        "",
    )
    files = lm_eval_sides(probes, tmp_path)
    words = ("score", "--probes", "safety", "--answers", files["instruct"], files["reasoning"])
    code, out, err = call(monkeypatch, capsys, *words, "--out", tmp_path / "scores.csv")
    assert (code, "aligned" in out) == (0, True)
    assert err.splitlines()[0].startswith(
        f"instruct: {len(probes)} of {len(probes)} answers of {tmp_path.name} (lm-eval)"
    )
    assert pd.read_csv(tmp_path / "scores.csv").n.max() >= len(probes) // 2 - 1
    assert scoring.READERS
