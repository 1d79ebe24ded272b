"""An audit in shards: merged, it is what one process writes, byte for byte; what does not fit together is refused."""

import json
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_pair
from test_audit import SMALL

from mechdrift.audits import shards as shards_module
from mechdrift.audits.merging import merge
from mechdrift.audits.parts import Shard, parts_of, place_of
from mechdrift.audits.pipeline import PRESETS, audit
from mechdrift.audits.shards import run_step
from mechdrift.audits.steps import STEPS
from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.records import MechdriftError
from mechdrift.runs import Run, load_run, open_run
from mechdrift.studies import launch, local
from mechdrift.studies.doing import Hands
from mechdrift.studies.launch import run_study
from mechdrift.studies.ledger import Ledger
from mechdrift.studies.planning import plan_cells
from mechdrift.studies.status import status_of
from mechdrift.studies.storage import Store
from mechdrift.studies.study import read_study

LESS = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32}  # than other tests' models have
STUDY = """
out = "out"
presets = ["quick"]
shards = 2
[audit]
dimensions = ["safety", "bias"]
think = 3
answer = 3
[[pairs]]
name = "tiny"
instruct = "parent"
reasoning = "child"
null_model = "parent"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The file of a study of one tiny pair. Worker processes are forked, which spares each of them importing torch, and
    the page is drawn elsewhere."""
    folder = tmp_path_factory.mktemp("study")
    make_pair(folder, changes=LESS)
    (folder / "study.toml").write_text(STUDY)
    smaller = {"pairs": 3, "variants": 1, "tasks": 2, "patched": 2, "kl": 1, "thinking": 1, "steered": 0}
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "quick", replace(SMALL, **smaller))
        patched.setattr(Run, "report", lambda run: run.write_text("report.html", "the page"))
        patched.setattr(local, "SPAWN", multiprocessing.get_context("fork"))
        patched.setattr(launch, "planned", lambda study: plan_cells(study, estimate=False))
        patched.setattr(local, "_accelerators", list)
        yield folder / "study.toml"


@pytest.fixture(scope="module")
def settings(study):
    """The configuration of its audit, in any folder."""
    return next(read_study(study).audits()).config


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The audit in one process."""
    return audit(settings(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def divided(study):
    """The study, in which a worker is killed in the middle of a cell."""
    read, killed = STEPS["kl"].read, study.with_name("killed")

    def killed_once(*arguments):
        if not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(STEPS, "kl", replace(STEPS["kl"], read=killed_once))
        ended = run_study(study)
    assert (ended.done, ended.failed) == (len(plan_cells(read_study(study), estimate=False)), {})
    return load_run(study.parent / "out" / "tiny")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".parquet", ".safetensors")}


def test_a_merged_run_is_what_one_process_writes_byte_for_byte(whole, divided):
    one, several = contents(whole.folder), contents(divided.folder)
    assert one.keys() == several.keys()
    assert [name for name in one if one[name] != several[name]] == []
    assert (divided.folder / "report.html").exists()
    unlike = {"stages", "config", "engines"}
    assert {key: value for key, value in divided.manifest.items() if key not in unlike} == {
        key: value for key, value in whole.manifest.items() if key not in unlike
    }


def test_no_cell_is_begun_more_than_twice_and_the_same_command_does_nothing_again(study, divided):
    starts = [json.loads(path.read_text())["starts"] for path in (divided.folder.parent / "cells").iterdir()]
    assert sorted(starts) == [1] * (len(starts) - 1) + [2]
    found = status_of(read_study(study))
    assert found.lead.startswith(f"{len(starts)} of {len(starts)} cells done, 0 running, 0 failed")
    assert found.tokens > 0
    before = {path: path.stat().st_mtime_ns for path in divided.folder.rglob("*")}
    assert run_study(study).done == len(starts)
    assert before == {path: path.stat().st_mtime_ns for path in divided.folder.rglob("*")}


def test_another_study_in_the_folder_is_refused(study, divided):
    other = replace(read_study(study), shards=3)
    with pytest.raises(MechdriftError, match=r"holds another study \(shards is 2 there, 3 here\): give another out"):
        Ledger(store=Store(other.out)).open(other, [])


def test_a_finished_shard_is_not_run_again_and_no_shard_writes_to_the_run(settings, divided, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in divided.folder.parent.rglob("*") if file.is_file()}
    monkeypatch.setattr(shards_module, "save_part", None)
    run_step(settings(divided.folder), "kl", Shard(number=2, count=2))
    assert before == {file: file.stat().st_mtime_ns for file in divided.folder.parent.rglob("*") if file.is_file()}


@pytest.fixture
def begun(settings, divided, tmp_path):
    """A run with its answers, and the parts of kl."""
    shutil.copytree(divided.folder, tmp_path / "run", ignore=shutil.ignore_patterns("figures", "*.html", "*.lock"))
    shutil.copytree(parts_of(divided.folder), tmp_path / "run.parts")
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


def test_what_is_no_audit_cannot_be_joined(tmp_path):
    open_run(tmp_path / "prices", {"repairs of": {}}, {"config": {"pair": "p"}})
    for folder, said in (("prices", "is a price list of repairs and no audit"), ("none", "is not a run folder")):
        with pytest.raises(MechdriftError, match=said):
            merge(tmp_path / folder)


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


def test_a_parent_answers_once_beside_all_its_children(study, divided, tmp_path, monkeypatch):
    two = study.with_name("two.toml")
    two.write_text(f'{STUDY}[[pairs]]\nname = "other"\ninstruct = "parent"\nreasoning = "parent"\n')
    shutil.copytree(divided.folder.parent, tmp_path / "out")
    found = replace(read_study(two), out=str(tmp_path / "out"))
    hands = Hands(study=found, store=Store(found.out), device="cpu")
    cells = {(cell.step, cell.shard): cell for cell in plan_cells(found, estimate=False) if cell.run == "other"}
    hands.do(cells["pair", "1/1"])
    asked = []
    monkeypatch.setattr(HuggingFace, "write", lambda self, queue: (asked.append(each) for each in queue))
    assert hands.do(cells["ask-instruct", "2/2"]) == {"tokens": 0}
    assert asked == []
    mine, lent = (tmp_path / f"out/{name}.parts/ask-instruct-2of2/answers.jsonl" for name in ("other", "tiny"))
    assert mine.read_bytes() == lent.read_bytes()
    monkeypatch.undo()
    assert hands.do(cells["ask-reasoning", "2/2"])["tokens"] > 0  # children are asked each
    monkeypatch.setattr(shards_module, "bits_of", lambda model: "a parent with other weights")
    assert hands.do(cells["ask-instruct", "1/2"])["tokens"] > 0


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/4/8", "-1/3"])
def test_a_shard_is_a_number_of_how_many(text):
    with pytest.raises(MechdriftError, match="should be a number of how many, such as 2/4, counted from 1"):
        Shard.parse(text)


def test_a_machine_with_other_weights_of_the_same_name_is_found_out(begun, tmp_path):
    asked, run = begun
    shutil.rmtree(place_of(run.folder, "kl", Shard(number=2, count=2)))
    other = make_pair(tmp_path / "other", seeds=(0, 7), changes=LESS)
    run_step(asked, "kl", Shard(number=2, count=2), pair=replace(other, name="parent--child"))
    with pytest.raises(MechdriftError, match="other weights of the reasoning"):
        merge(run.folder)


def test_more_shards_than_dimensions_leave_some_with_nothing_to_do(begun):
    asked, run = begun
    for place in parts_of(run.folder).glob("kl-*"):
        shutil.rmtree(place)
    for number in (1, 2, 3):
        run_step(asked, "kl", Shard(number=number, count=3))
    before = contents(run.folder)
    merge(run.folder)
    assert "kl" in run.finished
    assert contents(run.folder) == before
