"""Which comparison fits these runs: a few children of one parent with each other, or many runs as a whole.

Up to `FEW` runs of one parent are compared child against child (`children`). More runs, or runs of several parents, are
pooled (`many`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mechdrift.runs import load_run

if TYPE_CHECKING:  # an error about a folder that is no run comes before the second that importing pandas takes
    from mechdrift.comparisons.children import Comparison
    from mechdrift.comparisons.many import PooledRuns

FEW = 8  # there are as many colours and marks


def compare(paths: Sequence[Path]) -> "Comparison | PooledRuns":
    """The comparison that fits: `compare_runs` for a few runs of one parent, else `pool_runs`. A folder that is no run
    stands for all runs below it."""
    folders = run_folders(paths)
    if len(folders) <= FEW:
        runs = [load_run(folder) for folder in folders]
        pairs = [run.manifest.get("pair", {}) for run in runs]
        if len({str(pair.get("fingerprints", {}).get("instruct")) for pair in pairs}) <= 1:
            from mechdrift.comparisons.children import compare_runs

            return compare_runs(runs)
    from mechdrift.comparisons.many import pool_runs

    return pool_runs(folders)


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """The run folders that are meant: a folder that is no run stands for the run folders below it, if there are any."""
    return [found for path in paths for found in ([*_below(path)] if _may_hold_runs(path) else []) or [path]]


def _may_hold_runs(path: Path) -> bool:
    return path.is_dir() and not (path / "run.json").exists()


def _below(folder: Path) -> Iterator[Path]:
    """Run folders at any depth, but none inside another run folder."""
    for entry in sorted(folder.iterdir()):
        if (entry / "run.json").is_file():
            yield entry
        elif entry.is_dir() and not entry.is_symlink():
            yield from _below(entry)
