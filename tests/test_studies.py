"""A study from its file to its end: the plan, which cell comes next, what a lost worker loses, and what is told."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_pair
from test_shards import LESS

from mechdrift.records import MechdriftError
from mechdrift.studies import launch, slurm
from mechdrift.studies.cells import NOTHING, Cell, as_table, waves_of
from mechdrift.studies.launch import drive
from mechdrift.studies.ledger import Ledger
from mechdrift.studies.planning import plan_cells
from mechdrift.studies.schedule import Schedule
from mechdrift.studies.status import cause_of, status_of
from mechdrift.studies.storage import Store
from mechdrift.studies.study import read_study
from mechdrift.studies.work import Worker
from mechdrift.studies.workers import Ended

TWO = """
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
checkpoints = ["child", "parent"]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with two tiny models, `parent` and `child`."""
    folder = tmp_path_factory.mktemp("study")
    make_pair(folder, changes=LESS)
    return folder


def write(folder: Path, text: str = TWO) -> Path:
    file = folder / "study.toml"
    file.write_text(text, encoding="utf-8")
    return file


def nothing(count: int, **rest) -> list[Cell]:
    """Cells that do nothing."""
    common = {"run": "r", "pair": "p", "checkpoint": "", "preset": "quick", "seed": 0, "step": NOTHING}
    return [Cell(id=f"{number:04}", **(common | rest)) for number in range(count)]


# What a study file says


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("shards = 2", "shard = 2"), "unknown key 'shard'; known are name, out, seeds"),
        (("shards = 2", "shards = 0"), "shards should be 1 to 10,000; it is 0"),
        (('["quick"]', '["huge"]'), "unknown preset 'huge'; known are quick, standard, full"),
        (("think = 3", "think = 3\nthoughts = 4"), r"\[audit\]: unknown key 'thoughts'"),
        (("think = 3", "think = true"), r"\[audit\]: 'think' should be a whole number, not True"),
        (("think = 3", "think = 3\nmargin = [1]"), r"\[audit\]: 'margin' should be a number, not \(1,\)"),
        (("think = 3", "think = 3\njudge = 4"), r"\[audit\]: 'judge' should be the name of a file, not 4"),
        (("think = 3", 'think = 3\nengine = "hf"\ninstruct_engine = "vllm"'), "asked through one kind of engine"),
        (('checkpoints = ["child", "parent"]', ""), "instruct goes with one of reasoning, adapter and checkpoints"),
        (('["child", "parent"]', '["child", "child"]'), "two audits would have the name 'tiny--child'"),
        (("shards = 2", "seeds = [0, 0.5]"), "seeds should be a list of whole numbers"),
        (("[[pairs]]", "[pairs]"), "a study needs one or more tables"),
        (("shards = 2", "shards = "), "is not valid TOML"),
        (("shards = 2", "shards = 1.5"), "shards should be 1 to 10,000; it is 1.5"),
        (
            ('instruct = "parent"\ncheckpoints = ["child", "parent"]', 'pair = "smolm2"'),
            "unknown pair 'smolm2': give one of",
        ),
        (('["quick"]', "[]"), "presets should name one or more of quick, standard, full"),
        (("shards = 2", 'shards = 2\nname = "../x"'), "name should be one name without slashes; it is '../x'"),
        (('out = "out"', "out = 5"), "out should be a folder or an address; it is 5"),
        (("think = 3", "think = -3"), "The budget to think should be"),
        (("think = 3", 'think = "many"'), r"\[audit\]: 'think"),
        (("think = 3", "think = 3\njudge = 5"), r"\[audit\]: 'judge"),
        (("think = 3", 'think = 3\nmargin = "x"'), r"\[audit\]: 'margin' should be a number"),
        (("think = 3", "think = 3\nthink_max = []"), r"\[audit\]: 'think_max"),
        (
            ("think = 3", 'think = 3\ntrust_remote_code = "no"'),
            r"\[audit\]: 'trust_remote_code' should be true or false",
        ),
    ],
)
def test_what_does_not_fit_in_a_study_file_is_named(models, tmp_path, changed, said):
    file = tmp_path / "study.toml"
    file.write_text(TWO.replace(*changed), encoding="utf-8")
    with pytest.raises(MechdriftError, match=said):
        read_study(file)


@pytest.mark.parametrize(
    ("said", "named"), [('stress = ["puzle"]', "no stress mode 'puzle'"), ('repairs = ["x"]', "no repair 'x'")]
)
def test_modes_and_repairs_are_looked_up_before_audits_begin(tmp_path, mechdrift, said, named):
    (tmp_path / "study.toml").write_text(said + '\n[[pairs]]\npair = "smollm2-sft"\n')
    for command in ("plan", "run"):
        code, _, told = mechdrift(command, tmp_path / "study.toml")
        assert (code, named in told) == (1, True)


def test_a_shard_without_its_step_is_refused(mechdrift):
    """It would be the whole audit, on every machine."""
    assert mechdrift("audit", "--shard", "2/4")[::2] == (
        1,
        "mechdrift: --shard divides one step of an audit: say which with --step.\n",
    )


@pytest.mark.parametrize("workers", [0, -1])
def test_a_study_needs_a_worker(models, workers):
    with pytest.raises(MechdriftError, match=f"workers should be 1 or more; it is {workers}"):
        launch.run_study(write(models), workers=workers)


def test_a_plan_goes_on_without_models_of_another_machine_and_says_which(tmp_path, mechdrift):
    file = write(tmp_path, TWO.replace('"parent"\n', '"/elsewhere/parent"\n'))
    code, table, told = mechdrift("plan", file, "--dry-run")
    assert code == 0
    assert "?" in table
    assert told.count("tiny: tokens and memory are not known here: there is no folder '/elsewhere/parent'") == 1


def test_a_study_that_is_not_there_is_said(tmp_path):
    with pytest.raises(MechdriftError, match=r"there is no study file .*none.toml \(No such file"):
        read_study(tmp_path / "none.toml")


# The plan


def test_a_plan_has_every_cell_behind_those_that_it_needs(models):
    cells = plan_cells(read_study(write(models)))
    assert len(cells) == 2 * (1 + 4 + 4 + 1 + 4 + 1 + 2 + 1 + 2 + 1)
    seen: set[str] = set()
    for cell in cells:
        assert set(cell.after) <= seen, cell.told
        seen.add(cell.id)
    assert len(seen) == len(cells)
    assert [Cell.read(cell.line) for cell in cells] == cells
    one = [cell for cell in cells if cell.run == "tiny--child"]
    assert [len(wave) for wave in waves_of(one)] == [1, 4, 4, 1, 4, 1, 2, 1, 2, 1]
    shards = [cell for cell in one if cell.step == "kl"]
    assert [(cell.shard, cell.dimensions) for cell in shards] == [("1/2", ("safety",)), ("2/2", ("bias",))]
    asking = {cell.step: cell for cell in one if cell.step.startswith("ask")}
    assert asking["ask-instruct"].model == str(models / "parent")  # the same for both checkpoints
    assert asking["ask-reasoning"].model == str(models / "child")
    assert all(cell.device == "cpu" and not cell.model for cell in cells if cell.step.startswith("join"))


def test_estimates_are_what_the_dry_run_of_the_audit_says(models):
    from mechdrift.audits.preview import preview

    study = read_study(write(models))
    cells = plan_cells(study)
    seen = preview(next(study.audits()).config())
    asking = [cell for cell in cells if cell.run == "tiny--child" and cell.step == "ask-instruct"]
    side = seen.sides["instruct"]
    assert sum(cell.tokens for cell in asking) == pytest.approx(side.prompt_tokens + side.written, abs=2)
    assert all(cell.memory > side.generation for cell in asking)
    table = as_table(cells)
    assert f"{'ask-instruct':18} {4:>6} accelerator" in table
    assert "2 runs; 4 models and pairs to open" in table


def test_a_study_that_grows_keeps_the_ids_of_its_cells(models):
    before = plan_cells(read_study(write(models)), estimate=False)
    grown = TWO.replace('"child", "parent"]', '"child", "parent"]\n[[pairs]]\npair = "smollm2-sft"')
    after = plan_cells(read_study(write(models, grown)), estimate=False)
    assert {cell.id for cell in before} < {cell.id for cell in after}


def test_an_audit_in_waves_is_one_cell_and_stress_and_repairs_follow(models):
    text = TWO.replace("think = 3", "think = 3\nuntil_decided = true").replace(
        "shards = 2", 'stress = ["off"]\nrepairs = ["add"]'
    )
    cells = plan_cells(read_study(write(models, text)), estimate=False)
    assert [cell.step for cell in cells] == ["audit", "stress:off", "repair:add"] * 2
    assert cells[1].after == cells[2].after == (cells[0].id,)


def test_stress_and_repair_cells_are_commands_that_the_command_line_knows(models, tmp_path):
    from mechdrift.cli import app
    from mechdrift.studies.doing import command_of

    config = next(read_study(write(models)).audits()).config(out=tmp_path / "run")
    _, repair, unknown = app.parse_args([*command_of("repair:resta", config), "--out", "x"])
    assert (repair.arguments["run"], repair.arguments["methods"], unknown) == (tmp_path / "run", ("resta",), {})
    _, stress, unknown = app.parse_args([*command_of("stress:puzzle", config), "--out", "x"])
    asked = stress.arguments["config"]
    assert (asked.modes, asked.think, asked.reasoning, unknown) == (("puzzle",), 3, str(models / "child"), {})


# Which cell comes next


def test_cells_of_one_model_follow_each_other_on_one_worker():
    cells = [replace(cell, model=f"m{place % 3}") for place, cell in enumerate(nothing(30))]
    schedule = Schedule(cells, (), dict.fromkeys("abc", 0))
    loads, last = 0, {}
    while not schedule.is_over:
        for worker in "abc":
            if worker not in schedule.running and (cell := schedule.next_for(worker)):
                loads += last.get(worker) != cell.model
                last[worker] = cell.model
        for worker in list(schedule.running):
            schedule.finish(worker)
    assert loads == 3


def test_a_cell_that_fails_is_tried_elsewhere_once_and_then_given_up_with_what_needs_it():
    first, second, third = nothing(3)
    cells = [first, replace(second, after=(first.id,)), third]
    schedule = Schedule(cells, (), {"a": 0, "b": 0})
    assert schedule.next_for("a") == first
    assert schedule.fail("a", "no")
    assert schedule.next_for("a") == third
    schedule.finish("a")
    assert schedule.next_for("a") is None  # it failed here
    assert schedule.next_for("b") == first
    assert not schedule.fail("b", "no again")
    assert schedule.is_over
    assert schedule.given_up == {first.id: "no again", second.id: "no again"}


def test_workers_that_are_lost_before_a_cell_begins_count_as_no_try_until_the_fifth():
    [cell] = nothing(1)
    schedule = Schedule([cell], (), {"a": 0, "b": 0})
    for _ in range(4):
        assert schedule.next_for("a") == cell
        assert schedule.fail("a", "lost", begun=False)
    assert schedule.next_for("a") == cell
    assert not schedule.fail("a", "lost", begun=False)
    assert schedule.given_up == {cell.id: "lost"}


def test_a_cell_that_fits_on_no_device_is_said_before_anything_runs():
    small, large = replace(nothing(1)[0], memory=10**9), replace(nothing(2)[1], memory=140 * 10**9)
    schedule = Schedule([small, large], (), {"a": 80 * 10**9})
    [(cell, why)] = schedule.give_up_what_fits_nowhere()
    assert cell == large
    assert why.startswith("nothing needs about 140.0 GB, and the largest device here has 80.0: use")
    assert schedule.next_for("a") == small


# Whole studies of cells that do nothing


class InThisProcess:
    """Workers that do a cell when they are waited for; `fails` are ids of cells that fail."""

    def __init__(self, worker: Worker, fails=()):
        self.worker, self.fails, self.begun, self.memory = worker, fails, {}, {"a": 0, "b": 0}

    def start(self, worker, cell):
        self.begun[worker] = cell

    def wait(self):
        worker, cell = self.begun.popitem()
        if cell.id in self.fails:
            why = f"/models/{cell.id} is not on this machine."
            self.worker.ledger.begin(cell, "cpu")
            self.worker.ledger.fail(cell, why)
            return [Ended(worker=worker, why=why)]
        self.worker.run(cell)
        return [Ended(worker=worker)]


@pytest.fixture
def begun(models, tmp_path):
    """A study that has begun, of eight cells that do nothing."""
    study = replace(read_study(write(models)), out=str(tmp_path / "out"))
    worker, cells = Worker(study), nothing(8)
    worker.ledger.open(study, cells)
    return study, worker, cells


def test_failures_are_grouped_by_cause_and_the_same_command_tries_them_again(begun):
    study, worker, cells = begun
    ended = drive(cells, worker.ledger, InThisProcess(worker, fails=("0002", "0005")))
    assert (ended.done, sorted(ended.failed)) == (6, ["0002", "0005"])
    found = status_of(study)
    assert found.lead.startswith("6 of 8 cells done, 0 running, 2 failed")
    [cause] = found.causes
    assert (cause.sentence, len(cause.cells)) == ("/models/0002 is not on this machine.", 2)
    assert "failed, 2 x: /models/0002 is not on this machine." in found.text
    assert drive(cells, worker.ledger, InThisProcess(worker)).done == 8
    assert status_of(study).causes == ()


def test_causes_differ_in_more_than_names_and_numbers():
    assert cause_of("the model 'a' needs 140.2 GB of /x/y") == cause_of("the model 'b' needs 3 GB of /z")
    assert cause_of("out of memory") != cause_of("no such file")


def test_a_page_says_the_same_and_shows_foreign_text_as_text(begun, tmp_path):
    study, worker, cells = begun
    worker.ledger.begin(cells[0], "cuda:0")
    worker.ledger.fail(cells[0], "<script>alert(1)</script>")
    page = status_of(study).report(tmp_path / "status.html").read_text()
    assert "0 of 8 cells done" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_a_clock_that_is_ahead_is_told_and_no_time_is_left(begun):
    study, worker, cells = begun
    worker.run(cells[0])
    worker.ledger.begin(cells[1], "cpu")
    file = f"cells/{cells[1].id}.running.json"
    facts = json.loads(worker.ledger.store.read(file))
    worker.ledger.store.write(file, json.dumps(facts | {"since": facts["since"] + 4000}).encode())
    found = status_of(study)
    assert found.notes[0].startswith("the clock of another machine is 4,000 s ahead") or "3,99" in found.notes[0]
    assert found.seconds_left is None


def test_a_folder_with_something_else_is_no_place_for_a_study(models, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    study = replace(read_study(write(models)), out=str(tmp_path / "out"))
    with pytest.raises(MechdriftError, match="is not empty and holds no study: give another out"):
        Ledger(store=Store(study.out)).open(study, [])
    with pytest.raises(MechdriftError, match="holds no study that has begun: start it with 'mechdrift run'"):
        status_of(study)


@pytest.mark.parametrize(
    "stored", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"x": 1}'], ids=lambda stored: str(stored[:4])
)
@pytest.mark.parametrize("name", ["study.json", "plan.jsonl"])
def test_a_damaged_file_of_a_study_is_named(models, tmp_path, name, stored):
    study = replace(read_study(write(models)), out=str(tmp_path / "out"))
    Ledger(store=Store(study.out)).open(study, [])
    (tmp_path / "out" / name).write_bytes(stored)
    with pytest.raises(MechdriftError, match=rf"{name} is damaged: delete it|holds another study"):
        Ledger(store=Store(study.out)).open(study, []) if name == "study.json" else status_of(study)


def test_a_cell_before_its_turn_says_what_it_waits_for(begun, models, monkeypatch):
    study, worker, cells = begun
    worker.ledger.open(study, [cells[0], replace(cells[1], after=(cells[0].id,))])
    monkeypatch.setattr(launch, "read_study", lambda file: study)
    with pytest.raises(MechdriftError, match="r, nothing waits for r, nothing, which is not done"):
        launch.work("study.toml", ["0001"])
    launch.work("study.toml", ["0000", "0001"])
    assert worker.ledger.states() == {"0000": "done", "0001": "done"}
    with pytest.raises(MechdriftError, match="the plan of study has no cell '7'"):
        launch.work("study.toml", ["7"])


# Under a scheduler

SBATCH = """#!/bin/bash
# Stands in for sbatch: runs each task of the array at once, and prints a job's number.
for last; do :; done
count=$(sed -n 's/^#SBATCH --array=0-//p' "$last")
echo "$*" >> submitted
for task in $(seq 0 "$count"); do SLURM_ARRAY_TASK_ID=$task bash "$last" >> ran; done
wc -l < submitted
"""


def test_printed_files_run_every_cell_once_wave_after_wave(models, tmp_path, monkeypatch):
    cells = plan_cells(read_study(write(models)), estimate=False)
    monkeypatch.setattr(slurm.sys, "executable", "/bin/echo")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    script = slurm.write_scripts(models / "study.toml", cells, [cells[0].id], tmp_path / "slurm")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", str(script), "-p", "gpu"], check=True, env=os.environ | {"PATH": path}, capture_output=True)
    ran = [line.split()[-1] for line in (tmp_path / "slurm" / "ran").read_text().splitlines()]
    assert sorted(ran) == sorted(cell.id for cell in cells[1:])
    submitted = (tmp_path / "slurm" / "submitted").read_text().splitlines()
    assert submitted[0] == "--parsable -p gpu wave-00.sbatch"
    assert submitted[3] == "--parsable --dependency=afterany:3 -p gpu wave-03.sbatch"
    assert "--gres=gpu:1" in (tmp_path / "slurm" / "wave-01.sbatch").read_text()
    assert "--gres" not in (tmp_path / "slurm" / "wave-03.sbatch").read_text()  # it only joins


def test_submitit_runs_every_wave(begun, tmp_path, monkeypatch):
    study, worker, cells = begun
    after = [*cells[:4], *(replace(cell, after=tuple(c.id for c in cells[:4])) for cell in cells[4:])]
    worker.ledger.open(study, after)
    monkeypatch.setattr(launch, "read_study", lambda file: study)
    jobs = slurm.submit(Path("study.toml"), after, [], tmp_path / "jobs", cluster="debug")
    assert len(jobs) == 8
    assert set(worker.ledger.states().values()) == {"done"}
