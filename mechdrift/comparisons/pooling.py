"""The summary of every group of runs: the mean change over pairs or parents, and how much they differ.

`many` says which runs are one unit; `statistics.pooling` has the random-effects model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from mechdrift.comparisons.groups import GROUPS, NO_DIMENSIONS, UNITS, groups_of, measures_of
from mechdrift.comparisons.reading import Row
from mechdrift.statistics.pooling import pool
from mechdrift.statistics.resampling import holm

ENDS = ("low", "high", "predicted_low", "predicted_high")
COLUMNS = [
    *GROUPS,
    "unit",
    "dimension",
    "k",
    "runs",
    "left_out",
    "estimate",
    "low",
    "high",
    "p",
    "p_holm",
    "tau",
    "i2",
    "q",
    "p_equal",
    "predicted_low",
    "predicted_high",
    "fell",
    "rose",
]


def pool_groups(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The table `many_pooled`: a row per group of runs, unit and measure.

    Args:
        table: the runs, a row each (`many_runs`).
        frame: their changes (`many_changes`).
    """
    facts = frame.merge(table[["run", "pair", "parent_print"]], on="run")
    parts = {name: _Part.of(part, table.run) for name, part in facts.groupby("dimension")}
    rows = []
    for group, members in groups_of(table).items():
        named = dict(zip(GROUPS, group, strict=True))
        inside = table[members]
        for unit in UNITS if inside.parent_print.nunique() < inside.pair.nunique() else ("pair",):
            found = [parts[name].pooled(members, unit) | {"dimension": name} for name in measures_of(frame)]
            known = [named | {"unit": unit} | row for row in found if row.get("k")]
            rows += _adjusted(known)
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True, slots=True)
class _Part:
    """One measure of all runs, in their order, as arrays: there are many groups, and each selects from them.

    `units` numbers, for each kind of unit, the unit that a run belongs to. `verdicts` is -1 for an established fall, 1
    for an established rise, 0 else.
    """

    asked: np.ndarray
    usable: np.ndarray
    estimates: np.ndarray
    variances: np.ndarray
    units: Mapping[str, np.ndarray]
    verdicts: np.ndarray

    @classmethod
    def of(cls, part: pd.DataFrame, runs: pd.Series) -> "_Part":
        """The rows of one measure, in the order of `runs`."""
        part = part.set_index("run").reindex(runs)
        errors = part.se.to_numpy(dtype=float)
        usable = (part.reason == "").to_numpy() & (errors > 0)
        signs = np.sign(part.difference.to_numpy(dtype=float))
        return cls(
            asked=part.dimension.notna().to_numpy(),
            usable=usable,
            estimates=part.difference.to_numpy(dtype=float),
            variances=errors**2,
            units={unit: pd.factorize(part[column])[0] for unit, column in UNITS.items()},
            verdicts=np.where(usable & (part.established == True), signs, 0.0),  # noqa: E712 - missing is not true
        )

    def pooled(self, members: np.ndarray, unit: str) -> Row:
        """The measure of one group; k is 0 where no run of it says anything."""
        runs = members & self.usable
        asked = int((members & self.asked).sum())
        if not runs.any():
            return {"k": 0}
        means = _means(self.units["pair"][runs], np.stack([self.estimates[runs], self.variances[runs]]))
        if unit == "parent":
            first = np.unique(self.units["pair"][runs], return_index=True)[1]
            means = _means(self.units["parent"][runs][first], means)
        found = asdict(pool(*means))
        found |= {name: float(np.clip(found[name], -1, 1)) for name in ENDS}
        counts = {"runs": int(runs.sum()), "left_out": asked - int(runs.sum())}
        sure = self.verdicts[runs]
        return found | counts | {"fell": int((sure < 0).sum()), "rose": int((sure > 0).sum())}


def _means(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of each group's values, groups in sorted order; `values` has a row per quantity."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(place, weights=row) for row in values]) / counts


def _adjusted(rows: Sequence[Row]) -> list[Row]:
    """Holm's adjustment over the dimensions of a group and unit; accuracy and the mean are no dimensions."""
    tested = [row for row in rows if row["dimension"] not in NO_DIMENSIONS and not np.isnan(row["p"])]
    adjusted = holm(np.array([row["p"] for row in tested]))
    p_of = {row["dimension"]: float(p) for row, p in zip(tested, adjusted, strict=True)}
    return [row | {"p_holm": p_of.get(row["dimension"], np.nan)} for row in rows]
