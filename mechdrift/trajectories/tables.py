"""The two tables of a trajectory.

    trajectory_table      a row per step and measure
    half_change_table     a row per measure: its change at the last checkpoint, whether that is established, and when
                          half of it was there

A half-way step (`half_change`) is given only where the change at the last checkpoint is established: its interval
leaves out zero, and for a dimension's score Holm's adjusted p is below 0.05.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechdrift.behaviour.verdicts import is_clear
from mechdrift.records.words import ALL
from mechdrift.runs import Run
from mechdrift.trajectories.half_change import KNOWN, half_change_of
from mechdrift.trajectories.history import History
from mechdrift.trajectories.series import Series, timed

SCORED = ("aligned", "over", "d_prime", "criterion", "incomplete", "incoherent")
COLUMNS = [
    "step",
    "tokens",
    "quantity",
    "dimension",
    "layer",
    "value",
    "low",
    "high",
    "change",
    "change_low",
    "change_high",
    "n",
    "families",
]


def trajectory_table(runs: Sequence[Run], history: History, series: Sequence[Series]) -> pd.DataFrame:
    """One row per step and measure; step 0 is the parent.

    Cosines have a row for every layer. Scores are those of the checkpoints' own score tables.
    """
    steps, tokens = (0, *history.steps), (0, *history.tokens)
    rows = []
    for each in series:
        if each.quantity == "aligned" and each.dimension != ALL:
            continue  # the scores have these rows
        (low, high), (change_low, change_high) = each.intervals, each.change_intervals
        rows += [
            {
                "step": step,
                "quantity": each.quantity,
                "dimension": each.dimension,
                "layer": each.layer,
                "value": each.values[k],
                "low": low[k],
                "high": high[k],
                "change": each.change[k],
                "change_low": change_low[k],
                "change_high": change_high[k],
                "n": each.finished[k],
                "families": each.families,
            }
            for k, step in enumerate(steps)
        ]
    for step, run in zip(history.steps, runs, strict=True):
        rows += _score_rows(run.table("scores"), step, with_parent=step == history.steps[0]) + _layer_rows(
            run.table("drift"), step
        )
    table = pd.DataFrame(rows).drop_duplicates(["step", "quantity", "dimension", "layer"])
    table = table.assign(tokens=table.step.map(dict(zip(steps, tokens, strict=True))))
    return table.sort_values(["step", "quantity", "dimension", "layer"], ignore_index=True)[COLUMNS]


def _score_rows(scores: pd.DataFrame, step: int, with_parent: bool) -> list[dict]:
    """The rows of one checkpoint's score table, and, once per trajectory, those of the parent in it."""
    rows = []
    for row in scores[scores.metric.isin(SCORED)].to_dict("records"):
        sizes = {"n": row["n"], "families": row["families"]}
        common = {"quantity": row["metric"], "dimension": row["dimension"], "layer": math.nan} | sizes
        change = {"change": row["difference"], "change_low": row["low"], "change_high": row["high"]}
        rows.append(common | _value_of(row, "reasoning") | {"step": step} | change)
        if with_parent:
            rows.append(common | _value_of(row, "instruct") | {"step": 0} | dict.fromkeys(change, 0.0))
    return rows


def _value_of(row: Mapping[str, Any], side: str) -> dict[str, float]:
    return {"value": row[side], "low": row[f"{side}_low"], "high": row[f"{side}_high"]}


def _layer_rows(drift: pd.DataFrame, step: int) -> list[dict]:
    return [
        {
            "step": step,
            "quantity": "cosine",
            "dimension": row.dimension,
            "layer": float(row.layer),
            "value": row.cosine,
            "low": row.cosine_low,
            "high": row.cosine_high,
            "change": row.cosine - 1,
            "change_low": row.cosine_low - 1,
            "change_high": row.cosine_high - 1,
        }
        for row in drift[drift.cosine.notna()].itertuples()
    ]


def half_change_table(history: History, series: Sequence[Series], scores: pd.DataFrame) -> pd.DataFrame:
    """Per measure, its change at the last checkpoint, whether that is established, and when half of it was there.

    KL has a row per dimension only where there is no mean over dimensions. `scores` is the last checkpoint's score
    table, which says whether a dimension's change of aligned answers is established.
    """
    steps, rows = (0, *history.steps), []
    has_mean = any(each.dimension == ALL for each in series if each.quantity == "kl")
    for each in timed(series):
        if each.quantity == "kl" and has_mean and each.dimension != ALL:
            continue
        low, high = each.final
        rows.append(
            {
                "quantity": each.quantity,
                "dimension": each.dimension,
                "layer": each.layer,
                "first": each.values[0],
                "last": each.values[-1],
                "change": each.change[-1],
                "change_low": low,
                "change_high": high,
                "established": is_established(each, scores),
                **_half_columns(steps, each, is_established(each, scores)),
                "n": each.finished[-1],
                "families": each.families,
            }
        )
    return pd.DataFrame(rows)


def _half_columns(steps: Sequence[int], series: Series, is_established: bool) -> dict[str, float]:
    """The half-way step with its interval; NaN where the change is not established, or too few draws have one."""
    half, drawn = half_change_of(steps, series)
    if not is_established or drawn.known < KNOWN:
        return dict.fromkeys(("half", "half_low", "half_high"), math.nan)
    low, high = np.nanpercentile(drawn.start, 2.5), np.nanpercentile(drawn.end, 97.5)
    return {"half": half, "half_low": float(low), "half_high": float(high)}


def is_established(series: Series, scores: pd.DataFrame) -> bool:
    """Whether the change at the last checkpoint is established.

    For a dimension's score, the score table decides, which adjusts for the number of dimensions. No change is
    established where too many answers are missing in the parent or at the last checkpoint.
    """
    if series.is_cut[[0, -1]].any():
        return False
    row = scores[scores.headline.astype(bool) & (scores.dimension == series.dimension)].to_dict("records")
    if series.quantity == "aligned" and row:
        return is_clear(row[0])
    low, high = series.final
    return low > 0 or high < 0
