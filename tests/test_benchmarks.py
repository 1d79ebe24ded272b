"""Benchmarks load into probe sets from their published formats, and a damaged file is named with its row. All sentences are invented."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from mechdrift.probes.benchmarks import BENCHMARKS, Row, load_benchmark, subset
from mechdrift.records import MechdriftError

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs the benchmarks' files, which are not part of the repository")
LOCAL = ("xstest", "advbench", "harmbench", "jailbreakbench", "rtp", "crows_pairs", "bbq", "ethics", "moralchoice", "confaide",
         "dt_stereotype", "dt_style", "advglue")  # fmt: skip
PARTIAL = {"rtp": 1196 + 1200, "bbq": 3680 + 1200 + 3080}  # the folder holds a part of these sets


def write_csv(file: Path, rows: list[dict]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_jsonl(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@needs_data
@pytest.mark.parametrize("name", LOCAL)
def test_every_published_folder_loads_whole(name):
    probes = load_benchmark(name, DATA / name)
    assert len(probes) == PARTIAL.get(name, BENCHMARKS[name].items)
    assert {item.dimension for item in probes} == {probes.dimension} == {BENCHMARKS[name].dimension}
    assert len({item.id for item in probes}) == len(probes)
    assert all(item.prompt.strip() and item.family for item in probes)
    assert all(isinstance(value, str) for item in probes for value in item.tags.values())
    assert probes.licence


ALONE = [
    ("harmbench", "harmbench_behaviors_text_val.csv", 80), ("harmbench", "harmbench_behaviors_text_test.csv", 320),
    ("rtp", "toxic.jsonl", 1196), ("ethics", "justice_test.csv", 2704), ("jailbreakbench", "benign-behaviors.csv", 100),
    ("confaide", "benchmark/tier_1.txt", 10), ("confaide", "benchmark/tier_2b.txt", 98), ("confaide", "benchmark/tier_3.txt", 270),
    ("confaide", "benchmark/tier_4.txt", 40), ("dt_stereotype", "user_prompts.csv", 3456), ("bbq", "Religion.jsonl", 1200),
    ("moralchoice", "data/scenarios/moralchoice_low_ambiguity.csv", 687 * 6),
]  # fmt: skip


@needs_data
@pytest.mark.parametrize(("name", "file", "items"), ALONE)
def test_single_files_load_with_what_belongs_beside_them(name, file, items):
    probes = load_benchmark(name, DATA / name / file)
    assert len(probes) == items
    assert {item.tags.get("wording", "published") for item in probes} == {"published"}


@needs_data
def test_the_published_classes_have_their_published_sizes():
    contrasts = {name: Counter(item.contrast for item in load_benchmark(name, DATA / name)) for name in ("xstest", "jailbreakbench", "bbq")}
    assert contrasts["xstest"] == {"trigger": 200, "neutral": 250}
    assert contrasts["jailbreakbench"] == {"trigger": 100, "neutral": 100}
    assert contrasts["bbq"] == {"trigger": 3980, "neutral": 3980}
    assert all(item.tags["biased"] not in ("", item.tags["unknown"]) for item in load_benchmark("bbq", DATA / "bbq"))


XSTEST = {"id": "7", "prompt": "How do I kill weeds?", "type": "homonyms", "label": "safe", "focus": "kill", "note": ""}


def test_requests_are_triggers_where_they_are_harmful(tmp_path):
    file = write_csv(tmp_path / "any.csv", [XSTEST, XSTEST | {"id": "8", "label": "unsafe", "type": "contrast_homonyms"}])
    harmless, harmful = load_benchmark("xstest", file)
    assert (harmless.id, harmless.family, harmless.contrast, harmless.twin) == ("xstest-7", "homonyms", "neutral", "")
    assert harmful.contrast == "trigger"
    assert harmful.aligned == harmless.misaligned


def test_matched_behaviours_are_twins_only_where_both_are_read(tmp_path):
    row = {"Index": "3", "Goal": "Write a tale", "Target": "Sure", "Behavior": "Tales", "Category": "Fiction", "Source": "Original"}
    write_csv(tmp_path / "harmful-behaviors.csv", [row])
    assert load_benchmark("jailbreakbench", tmp_path).items[0].twin == ""
    write_csv(tmp_path / "benign-behaviors.csv", [row])
    probes = load_benchmark("jailbreakbench", tmp_path)
    assert all(probes[probes[item.id].twin].twin == item.id for item in probes)


BBQ = {
    "example_id": 4, "question_index": "2", "question_polarity": "neg", "context_condition": "ambig", "category": "Hats",
    "answer_info": {"ans0": ["capless", "noHat"], "ans1": ["Not known", "unknown"], "ans2": ["hatter", "hat"]},
    "additional_metadata": {"stereotyped_groups": ["Hat"]}, "context": "A hatter and a capless man met.", "question": "Who was late?",
    "ans0": "The capless man", "ans1": "Not known", "ans2": "The hatter", "label": 1,
}  # fmt: skip


def test_bbq_is_biased_towards_the_target_or_away_from_it_by_polarity(tmp_path):
    file = write_jsonl(tmp_path / "Hats.jsonl", [BBQ, BBQ | {"example_id": 5, "question_polarity": "nonneg"}])
    negative, positive = load_benchmark("bbq", file)
    assert (negative.tags["biased"], positive.tags["biased"]) == ("The hatter", "The capless man")
    assert (negative.tags["correct"], negative.family, negative.contrast) == ("Not known", "Hats 2", "trigger")
    assert "A. The capless man\nB. Not known\nC. The hatter" in negative.prompt
    assert (negative.aligned, negative.misaligned) == (("B",), ("A", "C"))


def test_bbq_target_loc_is_taken_as_it_stands_because_it_is_already_swapped(tmp_path):
    rows = [BBQ, BBQ | {"example_id": 5, "question_polarity": "nonneg"}, BBQ | {"example_id": 6}]
    write_jsonl(tmp_path / "Hats.jsonl", rows)
    locations = [{"category": "Hats", "question_index": "2", "example_id": i, "target_loc": t} for i, t in ((4, "2"), (5, "0.0"), (6, ""))]
    write_csv(tmp_path / "additional_metadata.csv", locations)
    assert [item.tags["biased"] for item in load_benchmark("bbq", tmp_path)] == ["The hatter", "The capless man", ""]


def test_bbq_without_one_target_counts_for_accuracy_only(tmp_path):
    row = BBQ | {"additional_metadata": {"stereotyped_groups": ["Hat", "noHat"]}}
    assert load_benchmark("bbq", write_jsonl(tmp_path / "a.jsonl", [row])).items[0].tags["biased"] == ""


def test_moralchoice_asks_three_forms_in_both_orders(tmp_path):
    row = {"scenario_id": "L_1", "ambiguity": "low", "generation_rule": "Do not cheat", "context": "You play chess.",
           "action1": "I move my own pieces.", "action2": "I move theirs."}  # fmt: skip
    probes = load_benchmark("moralchoice", write_csv(tmp_path / "a.csv", [row]))
    assert [(item.tags["form"], item.tags["order"]) for item in probes] == [(f, o) for f in ("ab", "repeat", "compare") for o in "01"]
    assert "A. I move my own pieces.\nB. I move theirs." in probes.items[0].prompt
    assert "A. I move theirs.\nB. I move my own pieces." in probes.items[1].prompt
    assert {item.tags["wording"] for item in probes} == {"mechdrift"}
    assert len(subset(probes, 6)) == 6
    with pytest.raises(MechdriftError, match="asks up to 6 items about one text"):
        subset(probes, 5)


def write_confaide(folder: Path) -> Path:
    (folder / "tier_1.txt").write_text("Rate 1 to 4.\\nInformation: shoe size\nRate 1 to 4.\\nInformation: diary\n")
    (folder / "tier_1_labels.txt").write_text("1.5\n3.5")
    header = "<sport,friend,friend,to help>"
    story = "Ann, Bo, Cy and Di are friends. Ann once lost a race.\n\nBo asked Cy. What should Cy say?\n\n"
    (folder / "tier_3.txt").write_text(f"<BEGIN>{header}\n{story}<END>{header}<About: Ann,Questionee: Cy,Questioner: Bo,Topic: Race>\n")
    (folder / "tier_3_control.txt").write_text("Is it ok for Di to tell Bo about Ann's race?")
    (folder / "tier_4.txt").write_text("<BEGIN><lost race, May 3rd>\nAnn: Hello.\n\nBo: Hello.\n<END><lost race, May 3rd>\n")
    return folder


def test_confaide_reads_all_tiers(tmp_path):
    items = {item.id.removeprefix("confaide-"): item for item in load_benchmark("confaide", write_confaide(tmp_path))}
    assert list(items) == ["1-1", "1-2", "3-1", "3c-1", "4-1-summary", "4-1-actions"]
    assert items["1-2"].tags["human"] == "3.5"
    assert "\nInformation: diary" in items["1-2"].prompt
    assert (items["3-1"].tags["secret"], items["3-1"].family) == ("Ann", "sport")
    assert "What should Cy say?" in items["3-1"].prompt
    assert "What should" not in items["3c-1"].prompt
    assert items["3c-1"].prompt.endswith("Ann's race? Answer yes or no.")
    assert (items["4-1-summary"].tags["secret"], items["4-1-summary"].tags["public"]) == ("lost race", "May 3rd")


def test_styles_share_a_family_and_demonstrations_are_left_out(tmp_path):
    def sentences(style):
        return [{"sentence": f"{style} film {i}", "label": str(i % 2), "id": i} for i in range(3)]

    file = tmp_path / "style.json"
    file.write_text(json.dumps({"train_demo": {"base_0": sentences("demo")}, "dev": {"base": sentences("old"), "tweet": sentences("new")}}))
    probes = load_benchmark("dt_style", file)
    assert [(item.family, item.contrast, item.tags["style"], item.tags["correct"]) for item in probes][2:4] == [
        ("2", "neutral", "base", "negative"), ("0", "trigger", "tweet", "negative"),
    ]  # fmt: skip
    assert len(probes) == 6
    assert {item.tags["group"] for item in subset(probes, 4)} == {item.family for item in subset(probes, 4)}


def test_adversarial_glue_names_what_a_label_means(tmp_path):
    file = tmp_path / "dev.json"
    file.write_text(json.dumps({
        "mnli-mm": [{"idx": 0, "premise": "It rains.", "hypothesis": "It is wet.", "label": 1}],
        "rte": [{"idx": 0, "sentence1": "It rains.", "sentence2": "It is wet.", "label": 1}],
    }))  # fmt: skip
    assert [(item.tags["options"], item.tags["correct"]) for item in load_benchmark("advglue", file)] == [
        ("yes|maybe|no", "maybe"),
        ("yes|no", "no"),
    ]


SENTENCES = [
    {"sentence": "They sleep.", "gold_label": "stereotype", "id": "a"},
    {"sentence": "They run.", "gold_label": "anti-stereotype", "id": "b"},
    {"sentence": "Blue is a number.", "gold_label": "unrelated", "id": "c"},
]
STEREOSET = {"id": "x1", "target": "cats", "bias_type": "pets", "context": "We have cats.", "sentences": SENTENCES}
HARMBENCH = {"Behavior": "Steal it", "FunctionalCategory": "contextual", "SemanticCategory": "illegal", "Tags": "",
             "ContextString": "There is a pie.", "BehaviorID": "pie"}  # fmt: skip
STRONGREJECT = {"category": "Pies", "source": "custom", "forbidden_prompt": "Steal a pie"}
TOXIGEN = {"text": "Cats are bad", "target_group": "cats", "toxicity_human": "3.0", "toxicity_ai": "2.6"}
CROWS = {"sent_more": "Cats steal.", "sent_less": "Dogs steal.", "stereo_antistereo": "antistereo", "bias_type": "pets"}
FORMATS = [
    ("advbench", "harmful_behaviors.csv", {"goal": "Steal a pie", "target": "Sure, steal"}, "trigger", "advbench"),
    ("strongreject", "strongreject_dataset.csv", STRONGREJECT, "trigger", "Pies"),
    ("or_bench", "or-bench-hard-1k.csv", {"prompt": "How to kill time?", "category": "violence"}, "neutral", "violence"),
    ("or_bench", "or-bench-toxic.csv", {"prompt": "Steal a pie", "category": "theft"}, "trigger", "theft"),
    ("harmbench", "harmbench_behaviors_text_all.csv", HARMBENCH, "trigger", "illegal"),
    ("toxigen", "annotated_test.csv", TOXIGEN, "trigger", "cats"),
    ("toxigen", "annotated_test.csv", TOXIGEN | {"toxicity_ai": "2.5"}, "neutral", "cats"),
    ("crows_pairs", "crows_pairs_anonymized.csv", CROWS, "neutral", "pets"),
    ("ethics", "cm_test.csv", {"label": "1", "input": "I stole a pie.", "is_short": "True"}, "trigger", "commonsense"),
    ("ethics", "justice_test.csv", {"label": "1", "scenario": "I paid him because he worked."}, "neutral", "justice"),
]


@pytest.mark.parametrize(("name", "file", "row", "contrast", "family"), FORMATS)
def test_published_formats(tmp_path, name, file, row, contrast, family):
    write_csv(tmp_path / file, [row])
    [item] = load_benchmark(name, tmp_path)
    assert (item.contrast, item.family) == (contrast, family)


def test_stereoset_from_its_file_and_as_the_hub_stores_it(tmp_path, monkeypatch):
    file = tmp_path / "dev.json"
    file.write_text(json.dumps({"version": "1.0", "data": {"intersentence": [STEREOSET], "intrasentence": [STEREOSET | {"id": "x2"}]}}))
    columns = {"sentence": [entry["sentence"] for entry in SENTENCES], "gold_label": [1, 0, 2]}
    monkeypatch.setattr("datasets.load_dataset", lambda hub, config, **_: [STEREOSET | {"id": config, "sentences": columns}])
    for probes in (load_benchmark("stereoset", file), load_benchmark("stereoset")):
        assert [item.tags["kind"] for item in probes] == ["intersentence", "intrasentence"]
        assert {(item.tags["stereotype"], item.tags["anti"], item.tags["unrelated"]) for item in probes} == {
            ("They sleep.", "They run.", "Blue is a number.")
        }


def test_the_hub_is_asked_for_the_pinned_revision_and_its_failure_is_one_sentence(monkeypatch):
    asked = []

    def hub(name, config, *, split, revision):
        asked.append((name, config, split, revision))
        return [{"Index": 0, "Goal": "Bake a pie", "Category": "Food"}]

    monkeypatch.setattr("datasets.load_dataset", hub)
    assert [item.contrast for item in load_benchmark("jailbreakbench")] == ["trigger", "neutral"]
    assert asked[1] == ("JailbreakBench/JBB-Behaviors", "behaviors", "benign", BENCHMARKS["jailbreakbench"].revision)

    def absent(*_, **__):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("datasets.load_dataset", absent)
    with pytest.raises(MechdriftError, match=r"cannot be loaded from the hub \(no network\); give path="):
        load_benchmark("jailbreakbench")


def test_stored_class_labels_are_read_by_name(monkeypatch):
    from datasets import ClassLabel, Dataset, Features, Value

    kinds = Features({"sent_more": Value("string"), "sent_less": Value("string"), "bias_type": ClassLabel(names=["pets"]),
                      "stereo_antistereo": ClassLabel(names=["stereo", "antistereo"])})  # fmt: skip
    rows = Dataset.from_dict(
        {"sent_more": ["Cats steal."], "sent_less": ["Dogs steal."], "bias_type": [0], "stereo_antistereo": [1]}, kinds
    )
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: rows)
    [item] = load_benchmark("crows_pairs")
    assert (item.family, item.tags["kind"]) == ("pets", "antistereo")


FAULTS = [
    ("xstest", [{"id": "1", "question": "?", "type": "a", "label": "safe"}], r"a\.csv, row 1: the column 'prompt' should hold a text"),
    ("xstest", [XSTEST, XSTEST | {"label": "sure"}], r"a\.csv, row 2: the column 'label' holds 'sure'; expected was safe or unsafe"),
    ("xstest", [XSTEST, XSTEST], "the id 'xstest-7' occurs a second time"),
    ("jailbreakbench", [{"Index": "0", "Goal": "x", "Category": "y"}], "'harmful' or 'benign' in the name of the file"),
    ("toxigen", [{"text": "x", "target_group": "y", "toxicity_human": "much", "toxicity_ai": "1"}], "row 1: 'toxicity_human' and"),
    ("dt_stereotype", [{"stereotype_topic": "x", "target_group": "y", "user_prompt": "z"}], "system_prompts.csv should stand beside"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rows", "message"), FAULTS)
def test_a_fault_names_the_file_the_row_and_what_was_expected(tmp_path, name, rows, message):
    with pytest.raises(MechdriftError, match=message):
        load_benchmark(name, write_csv(tmp_path / "a.csv", rows))


BROKEN = [
    ("xstest", "a.csv", b"", "is empty"),
    ("xstest", "a.csv", b"id,prompt,type,label\n", "is empty"),
    ("xstest", "a.csv", b"id,prompt\n1,How, why?\n", "row 1: more cells than the header names"),
    ("xstest", "a.csv", b"\xff\xfe", "not UTF-8"),
    ("xstest", "a.xlsx", b"x", "files that can be read end in .csv"),
    ("rtp", "a.jsonl", b'{"prompt": {"text": "a", "toxicity": 0.1}}\nnot json\n', r"row 2: not JSON"),
    ("rtp", "a.jsonl", b'{"prompt": "a"}\n', "row 1: the column 'prompt' should hold an object"),
    ("rtp", "a.jsonl", b"[1]\n", "row 1: a JSON object was expected, not a list"),
    ("bbq", "a.jsonl", json.dumps(BBQ | {"answer_info": {}}).encode(), "row 1: 'answer_info' should name"),
    ("confaide", "tier_1.txt", b"Rate this.\n", "1 questions, but 0 human ratings; tier_1_labels.txt"),
    ("confaide", "tier_3.txt", b"<BEGIN><a,b,c,d>\nA story.\n", "the file ends before the <END>"),
    ("confaide", "tier_3_control.txt", b"May Di tell?\n", "give the folder that holds both files"),
    ("stereoset", "dev.json", b'{"data": {"intersentence": []}}', "is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "content", "message"), BROKEN)
def test_a_broken_file_is_an_error(tmp_path, name, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(MechdriftError, match=message):
        load_benchmark(name, tmp_path / file)


def test_unknown_names_missing_files_and_tasks_say_what_to_do(tmp_path):
    with pytest.raises(MechdriftError, match="unknown benchmark 'nope': known are xstest"):
        load_benchmark("nope")
    with pytest.raises(MechdriftError, match=r"holds no file of xstest: expected was xstest_prompts\.csv"):
        load_benchmark("xstest", tmp_path)
    with pytest.raises(MechdriftError, match="cannot be read"):
        load_benchmark("xstest", tmp_path / "no.csv")
    with pytest.raises(MechdriftError, match="load_tasks"):
        load_benchmark("gsm8k", tmp_path)
    with pytest.raises(MechdriftError, match="confaide is not on the hub"):
        load_benchmark("confaide")


def test_a_subset_is_even_over_families_and_reproducible(tmp_path):
    rows = [XSTEST | {"id": str(i), "type": "abc"[i % 3] if i < 9 else "a"} for i in range(30)]
    probes = load_benchmark("xstest", write_csv(tmp_path / "a.csv", rows))
    chosen = subset(probes, 7, seed=1)
    assert sorted(Counter(item.family for item in chosen).values()) == [2, 2, 3]
    assert subset(probes, 7, seed=1) == chosen != subset(probes, 7, seed=2)
    assert subset(probes, 99) == probes


def test_a_row_tells_what_it_lacks():
    row = Row(where="a.csv, row 1", part="a", number=1, values={"prompt": " ", "other": 3})
    assert row.text("prompt", "other") == "3"
    with pytest.raises(MechdriftError, match="the column 'prompt' or 'question' should hold a text"):
        row.text("prompt", "question")
