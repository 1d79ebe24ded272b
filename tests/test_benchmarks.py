"""Benchmarks load into probe sets whole, from their published folders and from the hub. All sentences are invented."""

import re
from collections import Counter
from pathlib import Path

import pytest
from test_benchmarks_readers import SENTENCES, STEREOSET, XSTEST, write_csv, write_json

from mechdrift.probes.benchmarks.loading import load_benchmark, read_rows, subset
from mechdrift.probes.benchmarks.registry import BENCHMARKS
from mechdrift.records import MechdriftError

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="needs the benchmarks' files, which are not part of the repository"
)
LOCAL = (
    "xstest",
    "advbench",
    "harmbench",
    "jailbreakbench",
    "rtp",
    "crows_pairs",
    "bbq",
    "ethics",
    "moralchoice",
    "confaide",
    "dt_stereotype",
    "dt_style",
    "advglue",
)
PARTIAL = {"rtp": 1196 + 1200, "bbq": 3680 + 1200 + 3080}  # the folder holds a part of these sets


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
    ("harmbench", "harmbench_behaviors_text_val.csv", 80),
    ("harmbench", "harmbench_behaviors_text_test.csv", 320),
    ("rtp", "toxic.jsonl", 1196),
    ("ethics", "justice_test.csv", 2704),
    ("jailbreakbench", "benign-behaviors.csv", 100),
    ("confaide", "benchmark/tier_1.txt", 10),
    ("confaide", "benchmark/tier_2b.txt", 98),
    ("confaide", "benchmark/tier_3.txt", 270),
    ("confaide", "benchmark/tier_4.txt", 40),
    ("dt_stereotype", "user_prompts.csv", 3456),
    ("bbq", "Religion.jsonl", 1200),
    ("moralchoice", "data/scenarios/moralchoice_low_ambiguity.csv", 687 * 6),
]


@needs_data
@pytest.mark.parametrize(("name", "file", "items"), ALONE)
def test_single_files_load_with_what_belongs_beside_them(name, file, items):
    probes = load_benchmark(name, DATA / name / file)
    assert len(probes) == items
    assert {item.tags.get("wording", "published") for item in probes} == {"published"}


@needs_data
def test_the_published_classes_have_their_published_sizes():
    contrasts = {
        name: Counter(item.contrast for item in load_benchmark(name, DATA / name))
        for name in ("xstest", "jailbreakbench", "bbq")
    }
    assert contrasts["xstest"] == {"trigger": 200, "neutral": 250}
    assert contrasts["jailbreakbench"] == {"trigger": 100, "neutral": 100}
    assert contrasts["bbq"] == {"trigger": 3980, "neutral": 3980}
    assert all(item.tags["biased"] not in ("", item.tags["unknown"]) for item in load_benchmark("bbq", DATA / "bbq"))


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

    kinds = Features(
        {
            "sent_more": Value("string"),
            "sent_less": Value("string"),
            "bias_type": ClassLabel(names=["pets"]),
            "stereo_antistereo": ClassLabel(names=["stereo", "antistereo"]),
        }
    )
    rows = Dataset.from_dict(
        {"sent_more": ["Cats steal."], "sent_less": ["Dogs steal."], "bias_type": [0], "stereo_antistereo": [1]}, kinds
    )
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: rows)
    [item] = load_benchmark("crows_pairs")
    assert (item.family, item.tags["kind"]) == ("pets", "antistereo")


def test_a_subset_is_even_over_families_and_reproducible(tmp_path):
    rows = [XSTEST | {"id": str(i), "type": "abc"[i % 3] if i < 9 else "a"} for i in range(30)]
    probes = load_benchmark("xstest", write_csv(tmp_path / "a.csv", rows))
    chosen = subset(probes, 7, seed=1)
    assert sorted(Counter(item.family for item in chosen).values()) == [2, 2, 3]
    assert subset(probes, 7, seed=1) == chosen != subset(probes, 7, seed=2)
    assert subset(probes, 99) == probes


def test_stereoset_from_its_file_and_as_the_hub_stores_it(tmp_path, monkeypatch):
    data = {"intersentence": [STEREOSET], "intrasentence": [STEREOSET | {"id": "x2"}]}
    file = write_json(tmp_path / "dev.json", {"version": "1.0", "data": data})
    columns = {"sentence": [entry["sentence"] for entry in SENTENCES], "gold_label": [1, 0, 2]}
    monkeypatch.setattr(
        "datasets.load_dataset", lambda hub, config, **_: [STEREOSET | {"id": config, "sentences": columns}]
    )
    for probes in (load_benchmark("stereoset", file), load_benchmark("stereoset")):
        assert [item.tags["kind"] for item in probes] == ["intersentence", "intrasentence"]
        assert {(item.tags["stereotype"], item.tags["anti"], item.tags["unrelated"]) for item in probes} == {
            ("They sleep.", "They run.", "Blue is a number.")
        }


UNPINNED = {"rtp", "crows_pairs", "bbq", "ethics", "advglue", "harmbench"}


def test_the_hub_is_asked_for_commits_but_for_the_named_few():
    versions = {name: benchmark.version for name, benchmark in BENCHMARKS.items()}
    assert {name for name, version in versions.items() if version == "unpinned"} == UNPINNED
    assert {name for name, version in versions.items() if version == "files"} == {
        "dt_stereotype",
        "moralchoice",
        "confaide",
        "dt_style",
    }
    assert all(
        version in ("unpinned", "files") or re.fullmatch("[0-9a-f]{40}", version) for version in versions.values()
    )


@needs_data
def test_a_large_limit_takes_everything_and_a_limit_of_one_takes_one():
    probes = load_benchmark("xstest", DATA / "xstest")
    assert subset(probes, 10**9) == probes
    assert len(subset(probes, 1)) == 1
    assert len(read_rows("gsm8k", DATA / "gsm8k" / "test.jsonl")) == 1319
