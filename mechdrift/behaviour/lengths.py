"""How long do the models think and answer, how many thoughts never end, and how many loop?

`length_table` has one row per completion. `compare_lengths` compares the two models on the items that both were asked,
as scores do: medians of tokens, shares of thoughts that never ended and of thoughts that repeat themselves, each with
its paired difference and an interval over resampled families. A cut thought counts with its budget as its length; the
median is still that of the natural lengths while fewer than half of the thoughts were cut.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mechdrift.behaviour.censoring import loop_start, missing_of
from mechdrift.behaviour.paired import compare_sides, pair_up
from mechdrift.behaviour.sampling import Budget
from mechdrift.records import Completions, Side
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.intervals import POSITIVE, SHARE

COLUMNS = ["phase", "table", "item", "sample", "dimension", "family", "side", "think_tokens", "answer_tokens"]
COLUMNS += ["closed", "finished", "missing", "think_budget", "answer_budget"]
NOT_KEPT = ["p", "p_holm", "mde", "safe_low", "safe_high"]
MEASURES = {
    "think_tokens": "median tokens of thinking",
    "answer_tokens": "median tokens of the answer",
    "never_ended": "share of thoughts that never ended",
    "loops": "share of thoughts that repeat themselves until they were cut",
}


def length_table(judged: pd.DataFrame, name: str, budgets: Mapping[Side, Budget], phase: str = "asked") -> pd.DataFrame:
    """One row per judged completion (`judge_all` or `judge_tasks`): numbers of tokens of thinking and answer, how they
    ended, and the budgets in tokens (`COLUMNS`)."""
    table = judged.assign(phase=phase, table=name, missing=missing_of(judged))
    if "kind" in table:
        table = table.assign(dimension="reasoning", family=table.kind, sample=0)
    for place, part in enumerate(("think", "answer")):
        table[f"{part}_budget"] = [budgets[side].tokens[place] for side in table.side]
    return table.reindex(columns=COLUMNS)


def pilot_lengths(answers: Completions, room: Budget) -> pd.DataFrame:
    """The same for a pilot, whose completions are not judged."""
    think, answer = room.tokens
    rows = [
        {
            "phase": "pilot",
            "table": "pilot",
            "item": row.item_id,
            "sample": row.sample,
            "dimension": "",
            "family": "",
            "side": row.side,
            "think_tokens": len(row.thinking_ids),
            "answer_tokens": len(row.answer_ids),
            "closed": row.closed,
            "finished": row.finished,
            "missing": _how_it_ended(row.closed, row.stopped, row.thinking_ids),
            "think_budget": think,
            "answer_budget": answer,
        }
        for row in answers
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _how_it_ended(closed: bool, stopped: bool, thinking_ids: tuple[int, ...]) -> str:
    if closed:
        return ""
    return "stopped" if stopped else "cut" if loop_start(thinking_ids) is None else "loop"


def median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted median: the least value at which half of the weight is reached."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    place = (reached >= reached[:, -1:] / 2).argmax(axis=1)
    return values[order][place]


def compare_lengths(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per measure of `MEASURES`: both models and their paired difference with intervals, and the numbers of
    items and families."""
    asked = table[(table.phase == "asked") & (table.table.isin(("completions", "tasks")))]
    asked = asked.assign(
        never_ended=asked.missing.isin(("cut", "loop")).astype(float), loops=(asked.missing == "loop").astype(float)
    )
    rows = []
    for measure, words in MEASURES.items():
        items, before, after = pair_up(asked, lambda part, name=measure: part[name].astype(float))
        if not len(items):
            continue
        statistic, bounds = (median, POSITIVE) if measure.endswith("tokens") else (statistics.mean, SHARE)
        families = (items.dimension + "/" + items.family).to_numpy()
        found = compare_sides(families, before, after, statistic, bounds, seed)
        rows.append({"measure": measure, "convention": words} | found)
    return pd.DataFrame(rows).drop(columns=NOT_KEPT, errors="ignore")
