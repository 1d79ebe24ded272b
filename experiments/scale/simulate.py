"""How long would a large study take, and what would slow it down first? Simulated from measured costs.

    python experiments/scale/simulate.py --out experiments/scale/simulation.md

    1. the plan        of the study, as `mechdrift plan` makes it, for a standard audit with 4,000 tokens of thinking 2.
    seconds a cell  bytes that it loads / the disk's speed + its tokens / the device's speed + what does not grow with
                       the model, such as resampling. The last is the time of that stage in an audit of the embedded
                       pair, whose models are so small that it is most of the time; each dimension has a sixth of it
    3. the schedule    the one that runs studies (`mechdrift.studies.schedule`), with a clock of its own
    4. bytes           what parts and runs hold, and what moves: weights that are loaded, parts that are joined

The speeds of devices are published ones, and the utilisation is what inference engines report. Nothing here was run at
that size. A 70B model on all GPUs of a node is one worker, because an engine with tensor parallelism uses them all.
"""

import argparse
import heapq
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mechdrift.studies.cells import Cell
from mechdrift.studies.estimates import Costs
from mechdrift.studies.planning import cells_of
from mechdrift.studies.schedule import Schedule
from mechdrift.studies.study import Study, StudyPair

# Seconds of the stages of `mechdrift audit smollm2-sft --preset quick` on two cores.
MEASURED = {"pair": 9.2, "kl": 32.4, "drift": 72.4, "readouts": 2.5, "patch": 40.7}
PEAK, BANDWIDTH = 990e12, 3.35e12  # of one H100: operations in bfloat16 and bytes a second
READING, WRITING = 0.4, 0.6  # of these, what reading and writing reach
DISK = 2e9  # bytes a second that a node reads from shared storage
JOINING = 20.0  # seconds, on a CPU
DIMENSIONS, PAIRS, TASKS, THINK, ANSWER, PROMPT = 6, 32, 96, 4000, 400, 120
VARIANTS = 16


@dataclass(frozen=True)
class Size:
    """A model and what one worker is: so many devices, of which so many read at a time."""

    name: str
    parameters: float
    layers: int
    width: int
    cache: float  # bytes of keys and values for a token
    devices: int

    @property
    def reading(self) -> float:
        """Tokens a second. Layers that lie on several devices are read one after the other."""
        return READING * PEAK / (2 * self.parameters)

    @property
    def writing(self) -> float:
        """Tokens a second of an engine with all devices: each step reads the weights, and every row's cache."""
        memory = self.devices * 80e9 * 0.9 - 2 * self.parameters
        length = PROMPT + THINK / 2
        rows = min(256.0, memory / (length * self.cache))
        return rows / ((2 * self.parameters + rows * length * self.cache) / (WRITING * BANDWIDTH * self.devices))


def seconds_of(cell: Cell, size: Size, loads: bool) -> float:
    """What a cell takes: loading, its tokens, and what does not grow with the model.

    A cell of one model loads it where the worker has another open; one of both loads both, in float32.
    """
    if not cell.model:
        return JOINING
    is_of_one = "-" in cell.step
    loading = 2 * size.parameters / DISK * loads if is_of_one else 2 * 4 * size.parameters / DISK
    speed = size.writing if cell.step.startswith("ask") else size.reading
    fixed = MEASURED.get(cell.step, 0.0) * len(cell.dimensions or range(DIMENSIONS)) / DIMENSIONS
    return loading + (cell.tokens or 0) / speed + fixed


def tokens_of() -> dict[str, int]:
    """What a standard audit with long thoughts reads and writes, by step: the formulas of `studies.estimates`."""
    items = 2 * PAIRS * DIMENSIONS
    questions = items + 2 * VARIANTS * DIMENSIONS + PAIRS + TASKS
    told = {"instruct": PROMPT + ANSWER, "reasoning": PROMPT + THINK + ANSWER}
    answered = 2 * (PROMPT + ANSWER)
    return {
        "pair": 8 * DIMENSIONS * 2 * PROMPT,
        "ask-instruct": questions * told["instruct"],
        "ask-reasoning": questions * told["reasoning"],
        "states-instruct": items * (told["instruct"] + told["reasoning"]),
        "states-reasoning": items * told["reasoning"],
        "kl": 2 * 4 * DIMENSIONS * answered,
        "drift": items * answered + 2 * 16 * DIMENSIONS * 2 * told["reasoning"] + 60 * 2 * 8 * 2 * PROMPT,
        "readouts": 0,
        "patch": int(2 * DIMENSIONS * 8 * (1 + 32 / 3 * 5 / 2) * 2 * PROMPT),
    }


def simulate(cells: list[Cell], size: Size, workers: int) -> dict[str, float]:
    """Run the schedule with a clock that jumps from end to end."""
    names = [f"w{number}" for number in range(workers)]
    schedule, clock = Schedule(cells, (), dict.fromkeys(names, 0)), 0.0
    busy: list[tuple[float, str]] = []
    open_model: dict[str, str] = {}
    spent: Counter[str] = Counter()
    moved = 0.0
    idle = set(names)
    while not schedule.is_over:
        for name in sorted(idle):
            if (cell := schedule.next_for(name)) is not None:
                loads, is_of_one = open_model.get(name) != cell.model, "-" in cell.step
                seconds = seconds_of(cell, size, loads)
                if cell.model:
                    open_model[name] = cell.model
                    moved += 2 * size.parameters * loads if is_of_one else 2 * 4 * size.parameters
                spent[cell.step.partition("-")[0] if cell.model else "join"] += seconds
                heapq.heappush(busy, (clock + seconds, name))
                idle.remove(name)
        clock, name = heapq.heappop(busy)
        schedule.finish(name)
        idle.add(name)
    total = sum(spent.values())
    shares = {step: seconds / total for step, seconds in spent.most_common(3)}
    return {"hours": clock / 3600, "busy": total / (clock * workers), "moved": moved, **shares}


def stored(size: Size, runs: int) -> float:
    """Bytes of runs and parts: ids and text of answers, states before the answer, and what drift keeps."""
    items = 2 * PAIRS * DIMENSIONS
    written = (items + 2 * VARIANTS * DIMENSIONS + PAIRS + TASKS) * (THINK + 2 * ANSWER) * (8 + 4 + 8)
    states = 5 * items * size.width * 4
    recorded = 2 * items * size.layers * size.width * 4
    directions = 8 * DIMENSIONS * size.layers * 6 * size.width * 4
    return runs * (2 * (written + states) + recorded + directions)


def study(pairs: int, shards: int) -> Study:
    named = tuple(
        StudyPair(name=f"pair-{n}", models={"instruct": f"org/parent-{n}", "reasoning": f"org/child-{n}"})
        for n in range(pairs)
    )
    options = {"think": THINK, "answer": ANSWER}
    return Study(name="paper", out="nowhere", pairs=named, shards=shards, audit=options)


def planned(pairs: int, shards: int) -> list[Cell]:
    costs = Costs(tokens=dict(tokens_of()))
    return [cell for audit in study(pairs, shards).audits() for cell in cells_of(audit, costs)]


CASES = (
    ("one 70B pair, 8 GPUs as one worker", Size("70B", 70e9, 80, 8192, 327e3, 8), 1, 1, 1),
    ("one 70B pair, 8 GPUs as two workers", Size("70B", 70e9, 80, 8192, 327e3, 4), 1, 6, 2),
    ("100 pairs of 8B, 16 GPUs", Size("8B", 8e9, 32, 4096, 131e3, 1), 100, 1, 16),
    ("100 pairs of 8B, 16 GPUs, 4 shards", Size("8B", 8e9, 32, 4096, 131e3, 1), 100, 4, 16),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("experiments/scale/simulation.md"))
    out = parser.parse_args().out
    lines = [
        "| study | cells | hours | workers busy | GB of weights loaded | GB stored | where the time goes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, size, pairs, shards, workers in CASES:
        cells = planned(pairs, shards)
        found = simulate(cells, size, workers)
        places = {key: value for key, value in found.items() if key not in ("hours", "busy", "moved")}
        told = ", ".join(f"{step} {share:.0%}" for step, share in places.items())
        lines.append(
            f"| {name} | {len(cells):,} | {found['hours']:.1f} | {found['busy']:.0%} | {found['moved'] / 1e9:,.0f} | "
            f"{stored(size, pairs) / 1e9:.0f} | {told} |"
        )
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
