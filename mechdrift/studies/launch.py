"""Run a study from its plan to its end: plan it, begin or go on, and hand cells to workers.

    local     one process per device of this machine
    ray       one actor per device of a cluster (extra `mechdrift[ray]`)
    slurm     a job array per wave of cells, printed or handed to submitit

The process that schedules opens no model and imports no torch: the plan is made in a process of its own.
"""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mechdrift.records import MechdriftError
from mechdrift.records.progress import tell
from mechdrift.studies.cells import Cell
from mechdrift.studies.ledger import Ledger
from mechdrift.studies.schedule import Schedule
from mechdrift.studies.storage import Store
from mechdrift.studies.study import Study, read_study
from mechdrift.studies.workers import Ended, Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a launch ended: the number of cells that are done, and the reason of each cell that is not, by id."""

    done: int
    failed: Mapping[str, str]


def run_study(
    file: str | Path,
    *,
    launcher: Literal["local", "ray"] = "local",
    workers: int | None = None,
    address: str | None = None,
) -> Outcome:
    """Do everything of a study that is not done yet.

    Args:
        file: the study file.
        launcher: `local`, or `ray` for a cluster.
        workers: how many processes; by default one per accelerator, or one where there is none.
        address: address of the Ray cluster; by default the one that this machine belongs to, or a new one.

    Returns:
        An `Outcome`: `.done`, the number of finished cells, and `.failed`, the reason of each other one by its id. The
        same call again goes on with what failed.

    Raises:
        MechdriftError: where the folder holds another study, where it cannot be written to, and where another launch
            is at work.

    Source:
        One shared store, idempotent tasks and a scheduler that may die, as in MapReduce (Dean and Ghemawat 2004).

    Example:
        >>> run_study("study.toml").failed  # doctest: +SKIP
        {}
    """
    if workers is not None and workers < 1:
        raise MechdriftError(f"workers should be 1 or more; it is {workers}.")
    study = read_study(file)
    cells = planned(study)
    ledger = Ledger(store=Store(study.out))
    ledger.open(study, cells)
    if launcher == "ray":
        from mechdrift.studies.on_ray import ray_workers as open_workers
    else:
        from mechdrift.studies.local import local_workers as open_workers
    with open_workers(study, workers, address) as found:
        return drive(cells, ledger, found)


def planned(study: Study) -> list[Cell]:
    """The plan of a study. It is made in a process of its own, so that the memory it takes is freed."""
    return [Cell.read(line) for line in _elsewhere(_plan_lines, study)]


def _plan_lines(study: Study) -> list[str]:
    from mechdrift.studies.planning import plan_cells

    return [cell.line for cell in plan_cells(study)]


def _elsewhere(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def drive(cells: Sequence[Cell], ledger: Ledger, workers: Workers) -> Outcome:
    """Keep all workers at work until nothing is left that can be done."""
    done = {id for id, state in ledger.states().items() if state == "done"}
    schedule = Schedule(cells, done, dict(workers.memory))
    for cell, why in schedule.give_up_what_fits_nowhere():
        ledger.fail(cell, why)
    idle = set(workers.memory)
    tell(f"{schedule.left} of {len(cells)} cells to do, on {len(idle)} workers")
    while not schedule.is_over:
        _hand_out(schedule, workers, idle)
        if not schedule.running:
            break  # the cells that are left need one that was given up, or a worker that is gone
        for ended in workers.wait():
            idle.add(ended.worker)
            _settle(schedule, ledger, ended)
    return Outcome(done=len(cells) - len(schedule.given_up) - schedule.left, failed=schedule.given_up)


def _hand_out(schedule: Schedule, workers: Workers, idle: set[str]) -> None:
    for worker in sorted(idle):
        if (cell := schedule.next_for(worker)) is not None:
            idle.remove(worker)
            workers.start(worker, cell)


def _settle(schedule: Schedule, ledger: Ledger, ended: Ended) -> None:
    """Note what a worker reports. A lost worker may have finished its cell before it could report it, or not have begun
    it."""
    cell = schedule.running[ended.worker]
    if ended.why and not (ended.is_lost and ledger.facts(cell.id, "done")):
        begun = not ended.is_lost or bool(ledger.facts(cell.id, "running"))
        if ended.is_lost:
            ledger.fail(cell, ended.why)
        again = schedule.fail(ended.worker, ended.why, begun=begun)
        tell(f"{cell.told} failed{'; it is tried once more' if again else ''}: {ended.why}")
    else:
        schedule.finish(ended.worker)
        total = len(schedule.given_up) + schedule.left
        tell(f"{cell.told} is done; {total} left")


def work(file: str | Path, ids: Sequence[str]) -> None:
    """Do some cells of a study in this process, by their ids; jobs of a scheduler call this. Cells that are done are
    skipped. Raises for a cell that waits for another one, and names that."""
    from mechdrift.studies.work import Worker

    study = read_study(file)
    worker = Worker(study)
    cells, done = {cell.id: cell for cell in worker.ledger.plan()}, worker.ledger.states()
    for id in ids:
        if id not in cells:
            raise MechdriftError(f"the plan of {study.name} has no cell {id!r:.40}: plan it again.")
        if done.get(id) == "done":
            continue
        if missing := [before for before in cells[id].after if done.get(before) != "done"]:
            raise MechdriftError(f"{cells[id].told} waits for {cells[missing[0]].told}, which is not done.")
        worker.run(cells[id])
        done[id] = "done"
