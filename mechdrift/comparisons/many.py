"""Many runs at once, of one parent or of many: what holds over pairs of models, and how much do pairs differ?

    pooled = md.pool_runs(["runs/a", "runs/b", "runs/c"])       # hundreds are fine
    pooled.frame            one row per run and dimension: the change against its own parent, with its interval
    pooled.pooled           one row per group of runs and dimension: the mean change over pairs, and how pairs differ
    pooled.report()         compare.html

Each run compares its child with its own parent, on the prompts that it asked, so runs of other parents, presets and
seeds can stand side by side. What is pooled is the change of the share of aligned answers to triggers (`difference`),
by a random-effects summary (`statistics.pooling`):

    variance      of a run's change, from its 95 % interval: ((high - low) / 3.92)^2. The interval counts families that
                  were not asked, so a run in which nothing changed has a variance too. Where an audit asked in waves,
                  its interval reaches z_k instead of 1.96 standard errors, z_k being the boundary of the look at which
                  it stopped; so twice that takes the place of 3.92.
    runs          of one pair (seeds, presets; the same weights on both sides) are one unit: the mean of their changes,
                  with the mean of their variances, as if their errors were the same. No such mean can have a larger
                  variance, so this is the careful choice.
    pairs         are the units. Pairs of one parent are not independent, because all of them are compared with the same
                  answers. Where there are such pairs, each group has a second row, over *parents*, whose children are
                  averaged first in the same way. Its interval is wider, and does not assume that pairs are independent.
    mean          over dimensions, of runs that can tell all of theirs. Dimensions ask different prompts, so their
                  intervals are combined as independent ones.
    groups        all runs; those of a route, a model family, a size, a parent; and those of several of these together
    Holm          over the dimensions of a group and unit

A run is left out of a dimension where it cannot tell, because too much was cut off. Runs that were judged or sampled in
another way than most are left out altogether, as are folders that cannot be read: `left_out` says which and why.

`reading` reads the runs, `groups` puts them into groups, and `pooling` summarises each group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mechdrift.comparisons.groups import GROUPS
from mechdrift.comparisons.pooling import pool_groups
from mechdrift.comparisons.reading import SAME, Read, read_runs
from mechdrift.records import MechdriftError, several
from mechdrift.records.notebook import as_html, counted
from mechdrift.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledRuns:
    """Many runs side by side.

    `runs` has a row per run, `frame` a row per run and dimension, `pooled` a row per group of runs and dimension. Their
    columns stand in `mechdrift.tables.TABLES` under `many_runs`, `many_changes` and `many_pooled`. `left_out` names the
    folders that are left out, each with its reason. `notes` are what a reader must know.
    """

    runs: pd.DataFrame
    frame: pd.DataFrame
    pooled: pd.DataFrame
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def report(self, out: str | Path = "compare.html") -> Path:
        """Write one self-contained page with a table, forest plots and links to the runs' reports; loads no model."""
        from mechdrift.comparisons.many_page import write_many

        return write_many(self, Path(out))

    @property
    def summary(self) -> pd.DataFrame:
        """The rows of `pooled` over all runs."""
        return self.pooled[(self.pooled[list(GROUPS)] == "").all(axis=1)].reset_index(drop=True)

    def _repr_html_(self) -> str:
        return as_html("PooledRuns", f"{len(self.runs)} runs; below, the mean change over all", self.summary)

    def __repr__(self) -> str:
        return f"PooledRuns({len(self.runs)} runs)\n{self.summary.to_string(index=False)}"


def pool_runs(runs: Run | str | Path | Sequence[Run | str | Path]) -> PooledRuns:
    """What holds over many pairs? Audits side by side, and their random-effects summary, by dimension.

    Args:
        runs: two or more audits, or their folders; their parents may differ.

    Returns:
        A `PooledRuns`: `.runs` (a row per run), `.frame` (run and dimension), `.pooled` (group of runs and dimension:
        `estimate, low, high`, `tau`, `i2` and the prediction interval, as shares), `.left_out`, and `.report(path)`
        for the page.

    Raises:
        MechdriftError: when fewer than two runs can be read, or a folder is given twice.

    Source:
        Viechtbauer 2005 and Knapp & Hartung 2003: see `mechdrift.statistics.pooling`.

    Example:
        >>> pooled = md.pool_runs([folder, other_folder])
        >>> len(pooled.runs)
        2
    """
    read, left_out = read_runs([run.folder if isinstance(run, Run) else Path(run) for run in several(runs)])
    odd = _odd_ones(read)
    left_out += [(str(folder), reason) for folder, reason in odd.items()]
    read = [(facts, changes) for facts, changes in read if facts["folder"] not in odd]
    if len(read) < 2:
        raise MechdriftError(
            "a comparison takes two runs or more"
            + (f", and {left_out[0][1].rstrip('.')}" if left_out else "")
            + ": give the folders of finished audits."
        )
    table = _named(pd.DataFrame([facts for facts, _ in read]))
    frame = pd.DataFrame([{"run": run} | row for run, (_, rows) in zip(table.run, read, strict=True) for row in rows])
    return PooledRuns(
        runs=table, frame=frame, pooled=pool_groups(table, frame), left_out=tuple(left_out), notes=tuple(_notes(table))
    )


def _odd_ones(read: Sequence[Read]) -> dict[str, str]:
    """The folders of runs that were judged or sampled in another way than most, and what is different."""
    odd: dict[str, str] = {}
    for key in SAME:
        values = [facts[key] for facts, _ in read]
        usual = max(dict.fromkeys(values), key=values.count, default="")
        for facts, _ in read:
            if facts[key] != usual:
                reason = f"its {key} is {facts[key]!r}, and that of most runs {usual!r}: compare it with runs like it."
                odd.setdefault(facts["folder"], f"{facts['folder']}: {reason}")
    return odd


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `run`: the name of the pair, and of the folder too where two pairs have the same name."""
    folders = table.folder.map(lambda folder: Path(folder).name)
    folders = folders if folders.is_unique else table.folder
    twice = table.name.duplicated(keep=False)
    table = table.assign(run=table.name.where(~twice, table.name + " (" + folders + ")"))
    return table[["run", *table.columns.drop(["run", "name"])]]


def _notes(table: pd.DataFrame) -> Iterator[str]:
    """Which runs are not independent of each other."""
    pairs, parents = table.pair.nunique(), table.parent_print.nunique()
    if pairs < len(table):
        yield (
            f"{len(table)} runs are of {pairs} pairs. Runs of one pair are averaged first, as if they made the same "
            "error."
        )
    if parents < pairs:
        yield (
            f"{pairs} pairs have {counted(parents, 'parent')}. Children of one parent share its answers, so the "
            "interval of the summary over pairs is narrower than it should be. The summary over parents averages them "
            "first."
        )
