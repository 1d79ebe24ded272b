"""What a score table establishes: which rows are headlines, and when a change counts as established.

A change is established when its p value, Holm-adjusted over the dimensions where it was, is below `ALPHA` and its 95 %
interval leaves zero out. Reports, cards, comparisons and gates all ask here, so that no two of them can disagree.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechdrift.statistics.grids import ALPHA


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


def is_clear(row: Mapping[str, Any]) -> bool:
    """Whether a difference is established: p (Holm-adjusted if it was) below 0.05 and zero outside the interval."""
    p = row["p"] if math.isnan(row["p_holm"]) else row["p_holm"]
    return bool(p < ALPHA and excludes_zero(row))


def excludes_zero(row: Mapping[str, Any]) -> bool:
    return bool(row["low"] > 0 or row["high"] < 0)
