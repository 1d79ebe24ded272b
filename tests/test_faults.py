"""Nothing is lost by a kill at any write, and a second start touches nothing: real processes, tiny models."""

import json
import os
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import save_model
from faults import ENDED, FAILED, SAID, child_of, kill_at_every_write, second_starts
from test_trajectory import save_adapter, write_history

from mechdrift.activations.to_disk import collect_to
from mechdrift.audits.config import PRESETS, Audit, Size
from mechdrift.audits.pipeline import audit
from mechdrift.behaviour.sampling import Budget
from mechdrift.probes.rendering import Renderer
from mechdrift.runs import Run, open_run, placed
from mechdrift.trajectories.run import Trajectory, trajectory
from mechdrift.trajectories.stages import SIZES

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
STAGES = {"kl": ("kl.parquet",), "pair": ("weights.parquet", "states.safetensors")}
WEIGHTS = pd.DataFrame({"layer": [0], "module": ["q_proj"], "norm": [1.0], "change": [0.5]})
KL = pd.DataFrame(
    {"dimension": ["bias"], "position": [0], "kl": [0.1], "low": [0.0], "high": [0.2], "kl_reverse": [0.1], "n": [3]}
)


def contents(folder: Path) -> dict[str, bytes | dict]:
    """All files below a folder; of run.json without the seconds, which differ from run to run."""
    found: dict[str, bytes | dict] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != ".lock" and file.suffix != ".html" and "figures" not in file.parts:
            found[str(file.relative_to(folder))] = _content(file)
    return found


def _content(file: Path) -> bytes | dict:
    if file.name != "run.json":
        return file.read_bytes()
    manifest = json.loads(file.read_text())
    return manifest | {"config": {}, "stages": {name: stage["files"] for name, stage in manifest["stages"].items()}}


def small_run(folder: Path) -> None:
    """Two stages with three files, as an audit runs them."""
    run = open_run(folder, {"pair": "a"}, {"config": {"pair": "a"}})
    with run.locked():
        run.forget(run.damaged_stages())
        for stage, files in STAGES.items():
            if stage not in run.finished:
                _write_stage(run, stage)
                run.finish(stage, 0.1, files, **({"pair": FACTS, "probes": {}} if stage == "pair" else {}))


FACTS = {"name": "a", "route": "SFT", "instruct": {"name": "p"}, "reasoning": {"name": "c"}, "warnings": []} | {
    "fingerprints": {}
}


def _write_stage(run: Run, stage: str) -> None:
    if stage == "kl":
        run.write_table("kl", KL)
    else:
        run.write_table("weights", WEIGHTS)
        run.write_tensors("states", {"x": torch.arange(4.0)})


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_run_killed_at_each_of_its_writes_ends_with_the_same_bytes(tmp_path, before):
    small_run(tmp_path / "whole")
    killed = kill_at_every_write(lambda: small_run(tmp_path / "killed"), before)
    assert {name.partition("/")[2] for name in killed} >= {
        "run.json 0",
        "kl.parquet",
        "run.json 1",
        "weights.parquet",
        "states.safetensors",
        "run.json 2",
    }
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("count", [20])
def test_second_starts_at_random_moments_touch_nothing(tmp_path, count):
    """The first one writes 60 files, slowly, so that most starts find one half written."""
    run = open_run(tmp_path / "run", {}, {"config": {}})

    def write_slowly() -> None:
        with run.locked():
            for number in range(60):
                with placed(run.folder / f"{number}.txt") as temporary:
                    temporary.write_text("half")
                    time.sleep(0.02)
                    temporary.write_text("whole")

    first = child_of(write_slowly)
    while not (run.folder / "0.txt").exists():
        time.sleep(0.005)
    codes = second_starts(run.folder, count, 1.0)
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == ENDED
    assert set(codes) <= {SAID, ENDED}
    assert FAILED not in codes
    assert codes.count(SAID) >= count // 2
    assert [(run.folder / f"{number}.txt").read_text() for number in range(60)] == ["whole"] * 60
    assert not list(run.folder.glob(".*.part"))


# The same of what opens models


@pytest.fixture
def small_models(monkeypatch):
    """Sizes that take a second; pages, which are made anew each time, are not drawn. Threads do not outlive a fork."""
    monkeypatch.setitem(
        PRESETS,
        "quick",
        Size(pairs=4, variants=2, tasks=3, patched=2, kl=2, thinking=4, steered=0, layer_step=3, budget=TOKENS),
    )
    monkeypatch.setitem(
        SIZES,
        "quick",
        Size(pairs=4, variants=0, tasks=3, patched=0, kl=2, thinking=0, steered=0, budget=TOKENS),
    )
    monkeypatch.setattr(Run, "report", lambda run: run.folder)
    monkeypatch.setattr(Trajectory, "report", lambda found: found.run.folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


TOKENS = Budget(think=3, answer=3)


def test_an_audit_killed_at_its_writes_ends_with_the_same_bytes(tmp_path, tiny_pair, small_models):
    """One write of each stage, in its middle or at its end; all 30 take half a minute."""

    def run_audit(out: Path) -> Run:
        models = {"instruct": tiny_pair.instruct.path, "reasoning": tiny_pair.reasoning.path}
        return audit(
            Audit(**models, preset="quick", dimensions=("safety",), think=3, answer=3, until_decided=False, out=out)
        )

    run_audit(tmp_path / "whole")
    chosen = ("weights.parquet", "everyday.parquet", "scores.parquet", "directions.safetensors", "readouts.parquet")
    only = (*chosen, "patch_items.parquet", "kl.parquet")
    killed = kill_at_every_write(lambda: run_audit(tmp_path / "killed"), only=only)
    assert sorted(name.partition("/")[2] for name in killed) == sorted(only)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_collection_killed_at_each_write_ends_with_the_same_bytes(tmp_path, tiny_pair, small_models, before):
    loaded = tiny_pair.open("instruct")
    rendered = [Renderer(loaded.tokenizer).render(str(n), "Why?" * (n + 1), "off") for n in range(6)]

    def collect(folder: Path) -> None:
        collect_to(folder, loaded, rendered, sites=("resid_pre",), roles=("user",), prompts_per_block=2)

    collect(tmp_path / "whole")
    killed = kill_at_every_write(lambda: collect(tmp_path / "killed"), before)
    assert len(killed) == 4  # three blocks and what says that they are all
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_trajectory_killed_at_its_writes_ends_with_the_same_bytes(tmp_path, small_models):
    save_model(tmp_path / "parent")
    for step, size in ((5, 0.2), (10, 0.5)):
        save_adapter(tmp_path / "history" / f"step-{step:05d}", tmp_path / "parent", size)
    write_history(tmp_path / "history", parent=str(tmp_path / "parent"), steps=[5, 10], tokens=[50, 100])

    def follow(out: Path) -> None:
        trajectory(tmp_path / "history", dimensions=("safety",), out=out)

    follow(tmp_path / "whole")
    only = ("tasks.parquet", "products.safetensors", "trajectory.parquet")
    killed = kill_at_every_write(lambda: follow(tmp_path / "killed"), only=only)
    assert len(killed) == 3 + 2 + 1
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
