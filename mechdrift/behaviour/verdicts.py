"""What a score table establishes: which rows are headlines, and when a change counts as established.

A change is established when its p value (for headlines, Holm-adjusted over the dimensions) is below `ALPHA` and its
95 % interval does not contain zero; and never where too many answers are missing (`cannot_tell`). Where an audit asks
in waves until every dimension is decided, its decision is the verdict (`behaviour.looks`). Reports, cards, comparisons
and gates all use this rule, so that no two of them can disagree.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechdrift.behaviour.censoring import MOST_MISSING
from mechdrift.records import SIDES
from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.intervals import TAIL
from mechdrift.statistics.resampling import ROUNDING, minimum_detectable_effect

SAME_WEIGHTS = "both sides are the same weights, so no training is compared, only how the model is asked"


def headline_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per dimension, most changed first: clear changes by size, then the others by size."""
    rows = scores[scores.headline.astype(bool) & (scores.dimension != "reasoning")].drop_duplicates("dimension")
    clear = [is_clear(row) for row in rows.to_dict("records")]
    keyed = rows.assign(_clear=clear, _size=rows.difference.abs())
    return keyed.sort_values(["_clear", "_size"], ascending=False, kind="stable").drop(columns=["_clear", "_size"])


def reasoning_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """The accuracy on reasoning tasks, one row at most: the headline of that dimension, else its first row."""
    rows = scores[scores.dimension == "reasoning"]
    return rows.sort_values("headline", ascending=False, kind="stable").head(1)


def cannot_tell(row: Mapping[str, Any]) -> str:
    """Why a row of the score table allows no verdict, or "" (see `behaviour.censoring`).

    Runs of earlier versions counted incomplete answers as not aligned; for them, the counts of such answers decide.
    """
    if isinstance(row.get("reason"), str):
        return row["reason"]
    worst = max((row.get(f"incomplete_{side}") or 0 for side in SIDES), default=0)
    if math.isnan(worst) or not row["n"] or worst / row["n"] <= MOST_MISSING:
        return ""
    return (
        f"{worst / row['n']:.0%} of the answers are incomplete, and the version that made this run counted them as not "
        "aligned; audit again"
    )


def is_same_model(manifest: Mapping[str, Any]) -> bool:
    """Whether both sides of an audit have the same weights, all of which were compared."""
    return bool(manifest.get("pair", {}).get("same_weights", False))


def withheld(scores: pd.DataFrame, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """The score table of a run. Where both sides are the same model, every row with a difference gets a `reason`,
    because no row can show what training changed."""
    if not is_same_model(manifest):
        return scores
    differ = ~((scores.low == 0) & (scores.high == 0))
    known = pd.Series([cannot_tell(row) for row in scores.to_dict("records")], index=scores.index)
    return scores.assign(reason=known.where(~differ | (known != ""), SAME_WEIGHTS))


def is_clear(row: Mapping[str, Any]) -> bool:
    """Whether a difference is established: p (Holm-adjusted if it was) below 0.05 and zero outside the interval."""
    if cannot_tell(row):
        return False
    if decision := decision_of(row):
        return decision == "changed"
    p = row["p"] if math.isnan(row["p_holm"]) else row["p_holm"]
    return bool(p < ALPHA and excludes_zero(row))


def decision_of(row: Mapping[str, Any]) -> str:
    """What an audit in waves decided: "changed", "no change", "undecided" or "go on"; "" where everything was asked at
    once, and where too many answers are missing."""
    return "" if cannot_tell(row) else str(row.get("decision") or "")


def families_needed(distance: float, mde: float, families: int) -> float:
    """About how many families would be needed to distinguish a change from a value at a distance h, if the estimate and
    the spread s of families stayed the same: F = -ln(0.025) / h + (1.96 s / h)^2. NaN with fewer than two families,
    inf where the distance is zero."""
    if families < 2:
        return math.nan
    if distance <= ROUNDING:
        return math.inf
    spread = 0.0 if math.isnan(mde) else mde / float(minimum_detectable_effect(1.0, families))
    return float(math.ceil(-math.log(TAIL) / distance + (1.96 * spread / distance) ** 2))


def excludes_zero(row: Mapping[str, Any]) -> bool:
    return bool(row["low"] > 0 or row["high"] < 0)
