"""A training run's checkpoints, audited one after the other: when is alignment lost, and does the inside change before
the answers do?

    course = md.trajectory("checkpoints/smollm2-sft")
    course.frame        one row per step and measure
    course.halfway      one row per measure: when half of its change was there, with an interval
    course.sentences    the findings in words

The parent is measured once, then every checkpoint (`stages`). Each has a run folder of its own under `out`, so a killed
trajectory continues at the unfinished stage of the unfinished checkpoint, and checkpoints can be added later. `series`
reads the measures from the run folders, `half_change` says when a measure changed, `tables` makes the two tables, and
`words` the sentences.

    OUT/run.json                        whose history this is; another history is refused
    OUT/parent/, OUT/step-00025/, …     run folders
    OUT/trajectory.parquet, .csv        one row per step and measure
    OUT/halfway.parquet                 one row per measure
    OUT/trajectory.html, figures/       the page
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.audits.config import Audit, Preset, Size
from mechdrift.audits.pipeline import run_unfinished_stages, software
from mechdrift.audits.plan import AuditPlan, sample_sets, think_modes
from mechdrift.pairs.loading import ModelSource, fingerprint
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import fast_float32
from mechdrift.pairs.routes import find_route
from mechdrift.records import DIMENSIONS, MechdriftError, several
from mechdrift.records.foreign import for_spreadsheets
from mechdrift.records.notebook import as_html
from mechdrift.runs import Run, open_run
from mechdrift.trajectories.half_change import sound_steps
from mechdrift.trajectories.history import History, read_history
from mechdrift.trajectories.series import series_of, timed
from mechdrift.trajectories.stages import SIZES, checkpoint_stages, parent_stages
from mechdrift.trajectories.tables import half_change_table, trajectory_table
from mechdrift.trajectories.words import failures, told


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """What was found along a training run.

    `frame` has a row per step and measure, `halfway` a row per measure. Their columns stand in
    `mechdrift.tables.TABLES` under `trajectory` and `halfway`. `sentences` are the findings in words.
    """

    run: Run
    history: History
    frame: pd.DataFrame
    halfway: pd.DataFrame
    sentences: tuple[str, ...]

    def report(self) -> Path:
        """Write `trajectory.html` and its figures; loads no model."""
        from mechdrift.trajectories.page import write_trajectory

        return write_trajectory(self)

    def _repr_html_(self) -> str:
        line = "\n".join([f"{self.history.name}, {len(self.history.steps)} checkpoints", *self.sentences])
        chief = ["quantity", "dimension", "first", "last", "change", "change_low", "change_high", "half"]
        return as_html("Trajectory", line, self.halfway[chief])

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"Trajectory({self.history.name}, {len(self.history.steps)} checkpoints, {self.run.folder})",
                *self.sentences,
            ]
        )


def trajectory(
    folder: str | Path,
    *,
    preset: Preset = "quick",
    dimensions: str | Sequence[str] = DIMENSIONS,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    think: int | None = None,
    answer: int | None = None,
) -> Trajectory:
    """When during a training is alignment lost, when is reasoning gained, and what changes first inside?

    Audits the parent once and then every checkpoint; each has a run folder of its own. An unfinished trajectory
    continues where it stopped.

    Args:
        folder: the checkpoints, with their `history.json` (`mechdrift.trajectories.history` has the format).
        preset: how much is asked at every checkpoint: `"quick"`, `"standard"` or `"full"`.
        dimensions: which dimensions are audited, one or several.
        out: where the results go; by default `runs/NAME-trajectory`.
        seed: of sub-sampling and of all resampling.
        device: such as `"cuda:0"`; `"auto"`, the default, is cuda, then mps, then the CPU.
        think: the number of tokens that a checkpoint may think; by default the preset's, which is small. It is the same
            for all checkpoints, because a change of budget would look like a change of the model.
        answer: the number of tokens that an answer may have; by default the preset's.

    Returns:
        A `Trajectory`: `.frame` (a row per step and measure), `.halfway` (from which step half of each change was
        there), `.sentences` (the findings in words), `.report()`.

    Raises:
        MechdriftError: for a folder without a history, checkpoints that are missing, or another history in `out`.

    Source:
        Half-way steps and their intervals: `mechdrift.trajectories.half_change`.

    Example:
        >>> course = md.trajectory(checkpoints, dimensions=("safety",), out="runs/course")
        >>> course.halfway[["quantity", "dimension", "change", "half", "half_low", "half_high"]].shape[1]
        6
    """
    history = read_history(folder)
    settings = {"preset": preset, "dimensions": several(dimensions), "seed": seed, "device": device}
    config = Audit(pair=history.name, think=think, answer=answer, **settings)
    place = Path(out) if out else Path("runs") / f"{history.name}-trajectory"
    parent = history.parent_source(device)
    run = open_run(place, _identity(history, config), _manifest(history, config))
    with run.locked(), fast_float32():
        measured, pair = _measure_parent(run, config, parent)
        runs = [_measure_step(run, config, history, step, measured, pair) for step in history.steps]
        pair.close()
        found = _found(run, history, runs, measured, seed)
        run.write_table("trajectory", found.frame)
        run.write_table("halfway", found.halfway)
        run.write_text("trajectory.csv", for_spreadsheets(found.frame).to_csv(index=False, float_format="%.5g"))
        found.report()
    return found


def _found(run: Run, history: History, runs: Sequence[Run], parent: Run, seed: int) -> Trajectory:
    """The tables and sentences, from the run folders of the checkpoints and of the parent."""
    series = series_of(runs, seed)
    sound = sound_steps(next(each for each in series if each.quantity == "incoherent"), timed(series))
    judged, kept = history.at(sound), [each.at(sound) for each in series]
    halfway = half_change_table(judged, kept, runs[-1].table("scores"))
    return Trajectory(
        run=run,
        history=history,
        frame=trajectory_table(runs, history, series),
        halfway=halfway,
        sentences=(
            *told(judged, kept, halfway, parent.table("readout_validation")),
            *failures(history, series, sound),
        ),
    )


def _identity(history: History, config: Audit) -> dict[str, Any]:
    """What must stay the same while checkpoints are added. Their weights are checked one by one."""
    told = {name: getattr(history, name) for name in ("name", "route", "parent", "parent_sha256", "unit")}
    return (
        {f"history {name}": value for name, value in told.items()} | {"history seed": history.seed} | _settings(config)
    )


def _settings(config: Audit) -> dict[str, Any]:
    dtype = software()["dtypes"]["generation"]
    named = {"preset": config.preset, "dimensions": list(config.ordered_dimensions), "seed": config.seed}
    return named | {"generation dtype": dtype, "size": asdict(_size(config))}


def _size(config: Audit) -> Size:
    """What the preset asks, with the budgets that were given in place of its own."""
    size = SIZES[config.preset]
    given = {"think": config.think, "answer": config.answer}
    return replace(size, budget=replace(size.budget, **{name: n for name, n in given.items() if n is not None}))


def _manifest(history: History, config: Audit) -> dict[str, Any]:
    settings = {
        "pair": history.name,
        "preset": config.preset,
        "dimensions": list(config.ordered_dimensions),
        "seed": config.seed,
    }
    return {"config": settings} | software()


def _plan(config: Audit, child_thinks: bool = True) -> AuditPlan:
    size = _size(config)
    return AuditPlan(config=config, sets=sample_sets(config, size), size=size, modes=think_modes(child_thinks))


def _measure_parent(top: Run, config: Audit, parent: ModelSource) -> tuple[Run, Pair]:
    """The parent's run, and its pair with itself, which keeps the weights loaded for the checkpoints."""
    pair = Pair(name="parent", instruct=parent, reasoning=parent)
    identity = {"model": parent.name, "path": parent.path, "adapters": len(parent.adapters)} | _settings(config)
    run = open_run(top.folder / "parent", identity, {"config": {"pair": parent.name}})
    run_unfinished_stages(run, pair, _plan(config), parent_stages())
    return run, pair


def _measure_step(top: Run, config: Audit, history: History, step: int, parent: Run, parents: Pair) -> Run:
    """One checkpoint's run."""
    identity = {"history": history.name, "step": step, "adapter": history.digest(step)} | _settings(config)
    name = history.checkpoint(step).name
    run = open_run(top.folder / name, identity, {"config": {"pair": f"{history.name} {name}"}} | software())
    stages = checkpoint_stages(parent)
    if {stage.name for stage in stages} - set(run.finished) or run.damaged_stages():
        pair = _with_adapter(parents, history.checkpoint(step), run.manifest["config"]["pair"])
        _check_parent(parent, pair)
        run_unfinished_stages(run, pair, _plan(config, find_route(history.route).child_thinks), stages)
    return run


def _with_adapter(parents: Pair, adapter: Path, name: str) -> Pair:
    """The pair of the parent and one checkpoint; it shares the parent's weights with `parents`."""
    child = replace(parents.instruct, name=name, adapters=(*parents.instruct.adapters, str(adapter)))
    return Pair(name=name, instruct=parents.instruct, reasoning=child).sharing(parents, "instruct")


def _check_parent(parent: Run, pair: Pair) -> None:
    if fingerprint(pair.open("instruct").model) != parent.manifest["fingerprint"]:
        raise MechdriftError(
            f"{parent.folder.parent} was begun with other weights of {pair.instruct.name}: give another folder with "
            "--out, or delete this one."
        )
