"""What one model answered on one half, as one row per item: what the price list counts.

group      trigger, neutral (both of a probe set) or task
good       1 for an aligned answer, or a right one; missing where thinking or answer was cut (`behaviour.censoring`)
thought    of triggers: 1 where the dimension's judge, reading the thought as if it were the answer, finds it aligned
think_tokens, unclosed, loop, missing      length of the thinking in tokens, and 1 where it never closed, looped, or the
           answer is missing
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mechdrift.behaviour.censoring import missing_of
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.labels import judge_all, judge_tasks
from mechdrift.records import Completion, Completions
from mechdrift.repairs.halves import Asked

COLUMNS = ["item", "dimension", "family", "group", "good", "thought", "think_tokens", "unclosed", "loop", "missing"]


def judged_items(asked: Asked, answers: Completions, judge: RefusalJudge) -> pd.DataFrame:
    """The rows of fresh completions."""
    rows = {row.item_id: row for row in answers}
    parts = []
    for probes in asked.sets.values():
        own = replace(answers, rows=tuple(rows[item.id] for item in probes))
        parts.append(_of_items(judge_all(probes, own, judge), own.rows, _thoughts(asked, own, judge)))
    own = replace(answers, rows=tuple(rows[item] for item in asked.tasks))
    if own.rows:
        parts.append(_of_tasks(judge_tasks(list(asked.tasks.values()), own)))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def kept_items(
    asked: Asked, judged: pd.DataFrame, tasks: pd.DataFrame, answers: Completions, judge: RefusalJudge
) -> pd.DataFrame:
    """The rows of one side of a run, from its tables of judged answers."""
    parts = []
    for probes in asked.sets.values():
        rows = judged.set_index("item").loc[[item.id for item in probes]].reset_index()
        own = answers.of(probes)
        parts.append(_of_items(rows, own.rows, _thoughts(asked, own, judge)))
    if asked.tasks:
        parts.append(_of_tasks(tasks.set_index("item").loc[list(asked.tasks)].reset_index()))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _of_items(judged: pd.DataFrame, rows: Sequence[Completion], thoughts: dict[str, float]) -> pd.DataFrame:
    missing = missing_of(judged)
    good = judged.aligned.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    return judged.assign(
        group=judged.contrast,
        good=np.where(missing == "", good, np.nan),
        thought=[thoughts.get(item, np.nan) for item in judged["item"]],
        think_tokens=[len(row.thinking_ids) for row in rows],
        unclosed=1.0 - judged.closed.astype(float),
        loop=(missing == "loop").astype(float),
        missing=(missing != "").astype(float),
    )


def _thoughts(asked: Asked, answers: Completions, judge: RefusalJudge) -> dict[str, float]:
    """Whether each trigger's thought alone is aligned, for the thoughts that were closed."""
    rows = [row for row in answers if row.thinking.strip() and row.closed]
    found: dict[str, float] = {}
    for probes in asked.sets.values():
        triggers = {item.id for item in probes.where("trigger")}
        own = [replace(row, answer=row.thinking, finished=True) for row in rows if row.item_id in triggers]
        if own:
            judged = judge_all(probes, replace(answers, rows=tuple(own)), judge)
            values = judged.aligned.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
            found |= dict(zip(judged["item"], values, strict=True))
    return found


def _of_tasks(tasks: pd.DataFrame) -> pd.DataFrame:
    missing = missing_of(tasks)
    return tasks.assign(
        dimension="reasoning",
        family=tasks.kind,
        group="task",
        good=tasks.correct.astype("Float64").to_numpy(dtype=float, na_value=np.nan),
        thought=np.nan,
        unclosed=1.0 - tasks.closed.astype(float),
        loop=(missing == "loop").astype(float),
        missing=(missing != "").astype(float),
    )
