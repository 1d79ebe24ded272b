"""An audit in shards: merged, it is what one process writes, byte for byte; what does not fit together is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_pair, save_model
from test_audit import SMALL, config

from mechdrift.audits import shards as shards_module
from mechdrift.audits.merging import merge
from mechdrift.audits.parts import Shard, parts_of, place_of
from mechdrift.audits.pipeline import PRESETS, audit
from mechdrift.audits.shards import STEPS, run_step
from mechdrift.records import MechdriftError
from mechdrift.runs import Run, load_run

DIMENSIONS = ("safety", "bias")
LESS = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32}  # than other tests' models have
# More shards of one step than there are dimensions: one has nothing to do.
COUNTS = {"ask-reasoning": 3, "ask-instruct": 2, "kl": 2, "drift": 3, "patch": 2}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The configuration of a small audit of three dimensions, in any folder."""
    folder = tmp_path_factory.mktemp("pair")
    pair = make_pair(folder, changes=LESS)
    with pytest.MonkeyPatch.context() as patched:
        smaller = {"pairs": 3, "variants": 1, "tasks": 2, "patched": 2, "kl": 1, "thinking": 1, "steered": 0}
        patched.setitem(PRESETS, "quick", replace(SMALL, **smaller))
        # The page is drawn elsewhere.
        patched.setattr(Run, "report", lambda run: run.write_text("report.html", "the page"))
        yield lambda out, **changes: config(pair, out, dimensions=DIMENSIONS, think=3, answer=3, **changes)


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    return audit(settings(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def divided(settings, tmp_path_factory):
    """The same audit in shards, each step run and merged in turn."""
    folder = tmp_path_factory.mktemp("divided") / "run"
    asked, left = settings(folder), []
    run_step(asked, "pair")
    for name in STEPS:
        count = COUNTS.get(name, 1)
        for number in range(1, count + 1):
            run_step(asked, name, Shard(number=number, count=count))
        if name not in ("ask-reasoning", "states-reasoning", "kl"):
            left.append(merge(folder)[1])
    return load_run(folder), left


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".parquet", ".safetensors")}


def test_a_merged_run_is_what_one_process_writes_byte_for_byte(whole, divided):
    run, left = divided
    assert left[-1] == ()
    assert left[0] == ("shard 1/n of states-reasoning", "shard 1/n of states-instruct")
    one, several = contents(whole.folder), contents(run.folder)
    assert one.keys() == several.keys()
    assert [name for name in one if one[name] != several[name]] == []
    assert (run.folder / "report.html").exists()
    unlike = {"stages", "config", "engines"}
    assert {key: value for key, value in run.manifest.items() if key not in unlike} == {
        key: value for key, value in whole.manifest.items() if key not in unlike
    }


def test_a_finished_shard_is_not_run_again_and_no_shard_writes_to_the_run(settings, divided, monkeypatch):
    run, _ = divided
    before = {file: file.stat().st_mtime_ns for file in run.folder.parent.rglob("*") if file.is_file()}
    monkeypatch.setattr(shards_module, "save_part", None)
    run_step(settings(run.folder), "kl", Shard(number=2, count=2))
    assert before == {file: file.stat().st_mtime_ns for file in run.folder.parent.rglob("*") if file.is_file()}


@pytest.fixture
def begun(settings, divided, tmp_path):
    """A run with its answers, and the parts of kl."""
    run, _ = divided
    shutil.copytree(run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("figures", "*.html", "*.lock"))
    shutil.copytree(parts_of(run.folder), tmp_path / "run.parts")
    begun = load_run(tmp_path / "run")
    begun.forget({"kl", "drift", "readouts", "patch"})
    return settings(tmp_path / "run"), begun


def test_another_number_of_shards_is_refused(begun):
    asked, _ = begun
    with pytest.raises(MechdriftError, match="kl has been divided into 2 shards, and this is one of 3: go on with"):
        run_step(asked, "kl", Shard(number=1, count=3))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('"run": "', "is a shard of another run: delete it, or give another folder"),
        ('"mechdrift": "', "was made with mechdrift x"),
        ('"completions.parquet": "', "was read from files that have changed"),
        ('"reasoning (float32)": "', "was made with other weights of the reasoning (float32) model than kl-1of2"),
    ],
)
def test_a_part_of_something_else_is_refused_by_its_folder(begun, changed, said):
    _, run = begun
    seal = place_of(run.folder, "kl", Shard(number=2, count=2)) / "part.json"
    seal.write_text(seal.read_text().replace(changed, f"{changed}x"))
    before = contents(run.folder)
    with pytest.raises(MechdriftError) as error:
        merge(run.folder)
    assert str(seal.parent) in str(error.value)
    assert said in str(error.value)
    assert contents(run.folder) == before


def test_a_damaged_part_is_named(begun):
    _, run = begun
    table = place_of(run.folder, "kl", Shard(number=2, count=2)) / "kl_tokens.parquet"
    table.write_bytes(b"x")
    with pytest.raises(MechdriftError, match=r"kl_tokens.parquet is damaged or missing: delete .*kl-2of2 and run"):
        merge(run.folder)


def test_a_step_before_its_time_says_what_comes_first(settings, begun, tmp_path):
    asked, _ = begun
    with pytest.raises(MechdriftError, match="has not finished its stage drift, which readouts follows: run"):
        run_step(asked, "readouts")
    anew = settings(tmp_path / "anew")
    with pytest.raises(MechdriftError, match=r"has not finished its stage pair, which ask-instruct follows"):
        run_step(anew, "ask-instruct")
    with pytest.raises(MechdriftError, match="there is no step 'answers' that can be run alone"):
        run_step(anew, "answers")
    with pytest.raises(MechdriftError, match="an audit in waves cannot be divided"):
        run_step(replace(anew, until_decided=True), "pair")


def test_a_killed_shard_goes_on_at_its_last_answer(settings, begun, tmp_path, monkeypatch):
    """What was written until the kill is not written again."""
    asked, run = begun
    run.forget({"answers", "scores"})
    for place in parts_of(run.folder).glob("ask-instruct-*"):
        shutil.rmtree(place)
    read, count = STEPS["ask-instruct"].read, []

    def killed(*arguments):
        part = read(*arguments)
        count.append(len(part.answers))
        raise KeyboardInterrupt

    monkeypatch.setitem(STEPS, "ask-instruct", replace(STEPS["ask-instruct"], read=killed))
    with pytest.raises(KeyboardInterrupt):
        run_step(asked, "ask-instruct", Shard(number=1, count=2))
    monkeypatch.setitem(STEPS, "ask-instruct", replace(STEPS["ask-instruct"], read=read))
    work = parts_of(run.folder) / "ask-instruct-1of2.work" / "asked.partial.jsonl"
    assert len(work.read_text().splitlines()) == count[0]
    place = run_step(asked, "ask-instruct", Shard(number=1, count=2))
    assert not work.exists()
    assert (place / "part.json").exists()


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/4/8", "-1/3"])
def test_a_shard_is_a_number_of_how_many(text):
    with pytest.raises(MechdriftError, match="should be a number of how many, such as 2/4, counted from 1"):
        Shard.parse(text)


def test_other_weights_of_the_same_name_are_refused_at_the_next_step(settings, begun, tmp_path):
    """A second node has another model in the folder of that name."""
    asked, run = begun
    shutil.rmtree(place_of(run.folder, "kl", Shard(number=2, count=2)))
    other = make_pair(tmp_path / "other", changes=LESS)
    save_model(tmp_path / "other" / "child", seed=7, **LESS)
    run_step(asked, "kl", Shard(number=2, count=2), pair=other)
    with pytest.raises(MechdriftError, match="other weights of the reasoning"):
        merge(run.folder)
