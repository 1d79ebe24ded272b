"""The table: every metric for each side and for the paired difference, with 95 % intervals."""

import numpy as np
import pandas as pd

from mechdrift.behaviour.benchmark_scores.answers import pool_samples
from mechdrift.behaviour.benchmark_scores.metrics import FormulaMetric
from mechdrift.behaviour.benchmark_scores.scorings import scoring_of
from mechdrift.behaviour.censoring import why_cannot_tell
from mechdrift.behaviour.paired import compare_sides, pair_up
from mechdrift.probes.benchmarks.registry import benchmark_of
from mechdrift.records import SIDES

LEAST_FAMILIES = 8
COLUMNS = [
    "benchmark",
    "dimension",
    "metric",
    "convention",
    "judge",
    "better",
    "n",
    "cut_instruct",
    "cut_reasoning",
    "unanswered_instruct",
    "unanswered_reasoning",
    "failed_instruct",
    "failed_reasoning",
    "unit",
    "families",
    "instruct",
    "instruct_low",
    "instruct_high",
    "reasoning",
    "reasoning_low",
    "reasoning_high",
    "difference",
    "low",
    "high",
    "reason",
]
ESTIMATES = COLUMNS[COLUMNS.index("instruct") : -1]


def benchmark_table(
    name: str, answers: pd.DataFrame, *, judge_name: str = "", temperature: float | None = None, seed: int = 0
) -> pd.DataFrame:
    """The scores of a benchmark from the answers of both sides (`read_answers`, concatenated): one row per metric, see
    `COLUMNS`.

    `judge_name` and `temperature` say how the answers were read and drawn (default: by the benchmark's own judge,
    greedily).
    """
    scoring = scoring_of(name)
    drawn = _drawn(answers, temperature, always=scoring.worst)
    reason = why_cannot_tell(answers) if "missing" in answers else ""
    answers = pool_samples(answers, scoring)
    if "style" in answers:
        answers["clean"] = (answers["style"] == "base").astype(float)
    answers = scoring.pool(answers) if scoring.pool else answers
    fixed = {"benchmark": name, "dimension": benchmark_of(name).dimension, "judge": judge_name or scoring.judge}
    fixed["reason"] = reason
    rows = [
        row | fixed | {"convention": metric.convention + drawn}
        for metric in scoring.metrics(answers)
        if (row := _row(answers[metric.where(answers)], metric, seed))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _drawn(answers: pd.DataFrame, temperature: float | None, always: bool) -> str:
    """The end of a convention that says how many answers an item has; "" where one is understood."""
    samples = int(answers["sample"].max()) + 1 if "sample" in answers and len(answers) else 1
    if samples == 1:
        return "; k = 1 greedy answer" if always else ""
    return f"; k = {samples} samples" + ("" if temperature is None else f" at temperature {temperature:g}")


def _row(part: pd.DataFrame, metric: FormulaMetric, seed: int) -> dict | None:
    """A row: a metric of both sides and its difference. The bootstrap gets row numbers as values, so that a formula can
    use every column."""
    failures = {f"failed_{side}": int(part.failed[part.side == side].sum()) for side in SIDES}
    unjudged = part.item[(part.failed > 0) & (part.answered + part.unread == 0)]
    part = part[~part.item.isin(unjudged)]
    failures |= {f"cut_{side}": int((part.cut[part.side == side] > 0).sum()) for side in SIDES}
    part = part[part.cut == 0].reset_index(drop=True)
    part["row"] = np.arange(len(part))
    items, before, after = pair_up(part, lambda table: table["row"])
    named = {"metric": metric.name, "better": metric.better} | failures
    if not len(items):
        nothing = {"n": 0, "families": 0, "unanswered_instruct": 0, "unanswered_reasoning": 0} | dict.fromkeys(
            ESTIMATES, np.nan
        )
        return named | nothing if any(failures.values()) else None
    columns = {column: part[column].to_numpy(dtype=float) for column in part.select_dtypes("number").columns}

    def statistic(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        chosen = rows.astype(int)
        return metric.formula({column: values[chosen] for column, values in columns.items()}, weights)

    unit = "family" if items.family.nunique() >= LEAST_FAMILIES else "item"
    compared = compare_sides(
        (items.family if unit == "family" else items.group).to_numpy(), before, after, statistic, metric.bounds, seed
    )
    sides = {"instruct": before, "reasoning": after}
    unanswered = {f"unanswered_{side}": int(columns["unread"][rows.astype(int)].sum()) for side, rows in sides.items()}
    return {
        column: value for column, value in (compared | unanswered | named | {"unit": unit}).items() if column in COLUMNS
    }
