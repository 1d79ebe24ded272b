"""What does a study cost besides the work of its cells? Planning, scheduling, bookkeeping and joining, measured on this
machine.

    python experiments/scale/measure.py --out experiments/scale/measured.md

    plan        a study of 12 pairs and 15 seeds in 10 shards: some 10,000 cells
    schedule    as many empty cells, by two worker processes: seconds, and the driver's memory
    a cell      what is done around its work: it is noted as begun and as done, sent to a worker and back
    two         cells that compute for two seconds, on one worker and on two
    join        100 shards of one model's answers: reading them, and all that joining does with them

Seconds are wall-clock seconds; `join` compares two things that are done in turns.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mechdrift.records import Completion
from mechdrift.studies import local
from mechdrift.studies.cells import NOTHING, Cell
from mechdrift.studies.launch import drive
from mechdrift.studies.ledger import Ledger
from mechdrift.studies.local import LocalWorkers
from mechdrift.studies.storage import Store
from mechdrift.studies.study import Study, StudyPair
from mechdrift.studies.work import Worker

CELL = Cell(id="", run="r", pair="p", checkpoint="", preset="quick", seed=0, step=NOTHING)


def a_study(folder: Path, pairs: int = 1, seeds: int = 1, shards: int = 1) -> Study:
    named = tuple(StudyPair(name=f"p{n}", models={"instruct": "org/a", "reasoning": f"org/b{n}"}) for n in range(pairs))
    seeded = tuple(range(seeds))
    return Study(name="m", out=str(folder), pairs=named, seeds=seeded, shards=shards, audit={"think": 9, "answer": 9})


def timed(work: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def run_nothing(folder: Path, count: int, workers: int) -> float:
    """Seconds for so many cells of nothing."""
    study = a_study(folder)
    cells = [replace(CELL, id=f"{number:06}") for number in range(count)]
    ledger = Ledger(store=Store(study.out))
    ledger.open(study, cells)
    found = LocalWorkers(study, [("cpu", 0)] * workers)
    try:
        return timed(lambda: drive(cells, ledger, found))[0]
    finally:
        found.close()


class Busy(Worker):
    """A worker whose cells compute for two seconds of this process's own time."""

    def _do(self, cell: Cell) -> dict:
        end = time.process_time() + 2.0
        while time.process_time() < end:
            sum(range(10_000))
        return {}


def run_busy(folder: Path, workers: int) -> float:
    """Seconds for 16 cells that compute."""
    import mechdrift.studies.work as work

    own, work.Worker = work.Worker, Busy
    study = a_study(folder)
    cells = [replace(CELL, id=f"{number:06}", step="busy") for number in range(16)]
    ledger = Ledger(store=Store(study.out))
    ledger.open(study, cells)
    found = LocalWorkers(study, [("cpu", 0)] * workers)
    try:
        return timed(lambda: drive(cells, ledger, found))[0]
    finally:
        found.close()
        work.Worker = own


def join_shards(folder: Path, count: int = 100, rows: int = 40, rounds: int = 5) -> tuple[float, float]:
    """Seconds to read so many parts, and to do all that joining them takes: the median of rounds, in turns."""
    from mechdrift.audits.parts import Key, Part, Shard, finished_parts, load_part, place_of, read_seal, save_part
    from mechdrift.audits.provenance import check_key

    run = folder / "run"
    keys = {"step": "ask-reasoning", "run": "r", "versions": {}, "read_from": {}}
    for number in range(1, count + 1):
        shard = Shard(number=number, count=count)
        answers = [
            Completion(
                item_id=f"i{number}-{row}", side="reasoning", think="own", thinking="thought " * 400,
                answer="words " * 60, thinking_ids=tuple(range(1600)), answer_ids=tuple(range(240)), closed=True,
                finished=True,
            )
            for row in range(rows)
        ]  # fmt: skip
        save_part(
            Part(answers=answers, facts={"think": "own"}),
            place_of(run, "ask-reasoning", shard),
            Key(shard=str(shard), **keys),
        )
    key = Key(shard="1/1", **keys)

    def read() -> list[Part]:
        return [load_part(place) for place in finished_parts(run, "ask-reasoning")]

    def join() -> int:
        places = finished_parts(run, "ask-reasoning")
        for place in places:
            check_key(place, key)
            read_seal(place)["facts"].get("weights", {})
        found = {(row.item_id, row.sample): row for place in places for row in load_part(place).answers}
        return len([found[name] for name in sorted(found)])

    times = [(timed(read)[0], timed(join)[0]) for _ in range(rounds)]
    middle = rounds // 2
    return sorted(t[0] for t in times)[middle], sorted(t[1] for t in times)[middle]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("experiments/scale/measured.md"))
    parser.add_argument("--cells", type=int, default=10_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mechdrift-scale-"))
    # Processes are forked here, so that the driver's memory is told before anything heavy is imported.
    local.SPAWN = local.multiprocessing.get_context("fork")
    seconds = run_nothing(folder / "nothing", options.cells, 2)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    one, two = run_busy(folder / "one", 1), run_busy(folder / "two", 2)

    from mechdrift.studies.estimates import Costs
    from mechdrift.studies.planning import cells_of

    def plan() -> list[Cell]:
        study = a_study(folder, pairs=12, seeds=15, shards=10)
        return [cell for audit in study.audits() for cell in cells_of(audit, Costs())]

    planning, cells = timed(plan)
    reading, joining = join_shards(folder / "join")
    each = seconds / options.cells
    rows = [
        (f"planning {len(cells):,} cells", f"{planning:.2f} s"),
        (f"{options.cells:,} cells of nothing on two workers", f"{seconds:.1f} s, {1e3 * each:.1f} ms each"),
        ("of a cell of 20 s, that is", f"{each / 20:.2%}"),
        ("largest memory of the process that schedules", f"{memory:.0f} MB"),
        ("16 cells of computing, one worker and two", f"{one:.1f} s and {two:.1f} s: {one / two:.2f} times as fast"),
        ("reading 100 shards, and joining them", f"{reading:.2f} s and {joining:.2f} s: {joining / reading:.2f} times"),
    ]
    text = "\n".join(["| what | measured |", "|---|---|", *(f"| {what} | {found} |" for what, found in rows)])
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
