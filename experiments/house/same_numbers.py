"""Do the measuring functions give the numbers that they gave before the package was rewritten?

    git worktree add ../mechdrift-before fc0de97
    python experiments/house/same_numbers.py --old ../mechdrift-before > experiments/house/same_numbers.md
    git worktree remove ../mechdrift-before

`--pair smollm2-sft` measures an embedded pair as well, and `--costs 2` what commands cost. `--keep FOLDER` keeps what
the old build finds, for the next time with the same inputs. fc0de97 is the last commit
before the package was moved and rewritten. Whole audits cannot be the same since: probe sets, budgets, judges,
intervals and the order of generation were changed on purpose. So both builds are given the same inputs (`inputs.py`:
probes, thoughts, answers, tiny random models), each in a process of its own (`measure.py`), and all that the stages
return is compared, array by array:

    same bytes     dtype, shape and every byte
    to 1e-6        the largest difference is at most 1e-6 of the array's largest number
    on purpose     it differs, and `on_purpose.py` names the commit that changed it
    gone, new      a column that only one of the builds has; gone ones must stand in `on_purpose.py`
    FAULT          it differs, and nothing says why: the exit code is 1

The old code runs with the packages that are installed now, which is what makes the numbers comparable. `costs.py`
measures what commands cost that need no model.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import costs
import inputs
import numpy as np
from on_purpose import CHANGES, Change

HERE = Path(__file__).parent
NEW = HERE.parents[1]
TOLERANCE = 1e-6
CHANGED_RULES = "judges, changed rules|verdict|"
Arrays = Mapping[str, np.ndarray]


class Compared(NamedTuple):
    """One quantity in one setting."""

    quantity: str
    verdict: str
    change: Change | None
    numbers: int
    differing: int
    largest: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="A checkout of fc0de97.")
    parser.add_argument("--pair", help="An embedded pair to measure as well, such as smollm2-sft.")
    parser.add_argument("--costs", type=int, default=0, metavar="ROUNDS", help="Measure commands' costs as well.")
    parser.add_argument("--keep", type=Path, help="A folder for what the old build finds, read from there next time.")
    given = parser.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    with nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory() as name:
        inputs.save_models(Path(name))
        old, new = both_builds(given.old, Path(name))
        compared = list(compare(old, new))
        print(f"# The same numbers as before\n\n{summary(compared)}\n\n## Tiny models\n\n{table(compared)}\n")
        print(f"## Verdicts by rules that changed\n\n{verdicts(old, new)}\n")
        if given.pair:
            on_pair = list(compare(*both_builds(given.old, Path(name), given.pair)))
            compared += on_pair
            print(f"## {given.pair}\n\n{summary(on_pair)}\n\n{table(on_pair)}\n")
    if given.costs:
        print(f"## What commands cost\n\n{costs.table(given.old, NEW, given.costs)}")
    return int(any(row.verdict == "FAULT" for row in compared))


def both_builds(old: Path, folder: Path, pair: str = "") -> tuple[Arrays, Arrays]:
    """All numbers of the old and of the new build, on tiny models or on an embedded pair."""
    return measure(old, old, folder, pair), measure(NEW, old, folder, pair)


def measure(build: Path, old: Path, folder: Path, pair: str) -> Arrays:
    """What one build finds, in a process of its own. The probe files are the old build's."""
    out = folder / f"{'new' if build == NEW else 'old'}{pair}.npz"
    if build != NEW and out.exists():
        return load(out)
    for left in (out, out.with_suffix("")):  # by a run before
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "measure.py"), str(folder), str(out)]
    command += ["--probes", str(old.resolve() / "mechdrift/probes/data"), *(("--pair", pair) if pair else ())]
    subprocess.run(command, env=costs.environment(build), check=True)
    return load(out)


def load(file: Path) -> Arrays:
    with np.load(file) as kept:
        return {str(name): kept[f"a{i}"] for i, name in enumerate(kept["names"])}


def compare(old: Arrays, new: Arrays) -> Iterator[Compared]:
    for name in dict.fromkeys((*old, *new)):
        stage, quantity, _ = name.split("|")
        quantity = f"{stage} | {quantity}"
        change = next((change for change in CHANGES if fnmatchcase(quantity, change.quantity)), None)
        if name in old and name in new:
            differing, largest = difference(old[name], new[name])
            verdict = _verdict(old[name], new[name], differing, largest)
            numbers = old[name].size
        else:
            verdict, numbers, differing, largest = "new" if name in new else "gone", 0, 0, 0.0
        if verdict in ("FAULT", "gone") and change is not None:
            verdict = "on purpose" if verdict == "FAULT" else "gone on purpose"
        kept = change if verdict not in ("same bytes", "to 1e-6") else None
        yield Compared(quantity, "FAULT" if verdict == "gone" else verdict, kept, numbers, differing, largest)


def difference(before: np.ndarray, after: np.ndarray) -> tuple[int, float]:
    """How many entries differ, and by how much at most; infinite where that cannot be said in numbers."""
    if before.shape != after.shape:
        return max(before.size, after.size), np.inf
    if "U" in before.dtype.kind + after.dtype.kind:
        differing = int((before.astype(str) != after.astype(str)).sum())
        return differing, np.inf if differing else 0.0
    gap = np.abs(before.astype(float) - after.astype(float))
    gap = np.where((before == after) | (np.isnan(before) & np.isnan(after)), 0.0, gap)
    return int((gap != 0).sum()), float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))


def _verdict(before: np.ndarray, after: np.ndarray, differing: int, largest: float) -> str:
    if before.dtype == after.dtype and before.shape == after.shape and before.tobytes() == after.tobytes():
        return "same bytes"
    size = 1.0 if before.dtype.kind == "U" else float(np.nan_to_num(np.abs(before.astype(float))).max(initial=1.0))
    return "to 1e-6" if not differing or largest <= TOLERANCE * size else "FAULT"


def summary(compared: Sequence[Compared]) -> str:
    """One sentence with the counts."""
    counts: dict[str, int] = defaultdict(int)
    for row in compared:
        counts[row.verdict] += row.numbers
    alike, total = counts["same bytes"], sum(counts.values())
    return (
        f"Of {total:,} numbers and texts {alike:,} are the same bytes, {counts['to 1e-6']:,} are equal to 1e-6, "
        f"{counts['on purpose']:,} stand in columns that a later commit changed on purpose, and {counts['FAULT']:,} "
        "differ without a reason."
    )


def table(compared: Sequence[Compared]) -> str:
    """A row per quantity, all settings together; the columns of a table that fare alike are one row."""
    rows: dict[tuple[str, str, Change | None], list[Compared]] = defaultdict(list)
    for row in compared:
        rows[row.quantity.partition(": ")[0], row.verdict, row.change].append(row)
    lines = [
        "| stage | quantity | numbers | that differ | largest difference | verdict | changed on purpose by |",
        "|---|---|---|---|---|---|---|",
    ]
    for (quantity, verdict, change), parts in rows.items():
        stage, name = quantity.split(" | ")
        columns = list(dict.fromkeys(part.quantity.partition(": ")[2] for part in parts))
        largest = max(part.largest for part in parts)
        cells = (
            stage,
            name + _columns(columns, verdict),
            f"{sum(part.numbers for part in parts):,}",
            f"{sum(part.differing for part in parts):,}",
            "–" if np.isinf(largest) else f"{largest:.1e}" if largest else "0",
            verdict,
            f"{change.commit}: {change.why}" if change else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _columns(columns: Sequence[str], verdict: str) -> str:
    if not any(columns):
        return ""
    return f" ({len(columns)} parts)" if verdict == "same bytes" and len(columns) > 4 else f": {', '.join(columns)}"


def verdicts(old: Arrays, new: Arrays) -> str:
    """The judges' verdicts on answers that a later commit reads by another rule."""
    lines = ["| dimension | answer | before | now | commit |", "|---|---|---|---|---|"]
    for row in inputs.CHANGED_RULES:
        before, after = (str(build[CHANGED_RULES + row.name]) for build in (old, new))
        lines.append(f"| {row.dimension} | {row.name} | {before} | {after} | {row.commit} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
