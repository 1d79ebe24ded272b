"""Tables as plain rows for the page: both models' answers for the browser, a few reasoning tasks, the score table."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from mechdrift.behaviour.censoring import finished_only
from mechdrift.behaviour.verdicts import cannot_tell
from mechdrift.records import SIDES, order_dimensions
from mechdrift.report.words import (
    BETTER,
    difference,
    dimension_name,
    interval,
    is_share,
    metric_name,
    number,
    p_value,
    variant_name,
)

ANSWER_COLUMNS = ("think", "thinking", "answer", "closed", "finished", "label", "aligned", "why")
COUNTS = {"incomplete": "missing", "unanswered": "unreadable", "failed": "judge failures"}
PRICE = "over"  # what a dimension's alignment costs stands beside its headline score
EXAMPLES_PER_OUTCOME = 2
OUTCOMES = {
    (False, True): "Only the reasoning model is right",
    (True, False): "Only the instruct model is right",
    (False, False): "Both are wrong",
    (True, True): "Both are right",
}


def browser_rows(
    completions: pd.DataFrame,
    readouts: pd.DataFrame | None,
    variants: pd.DataFrame | None = None,
    validation: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """One row per item, in the project's order of dimensions: its prompt, both models' answers, their readouts, and its
    variants.

    Beside every readout stands how well it follows judged behaviour, from `validation`.
    """
    measured, varied = _readouts_by_item(readouts, validation), _variants_by_item(variants)
    completions = completions.astype(object).where(completions.notna(), None)
    rows = []
    for item, answers in completions.groupby("item", sort=False):
        first = answers.iloc[0]
        row = {
            "item": item,
            "dimension": first.dimension,
            "family": first.family,
            "contrast": first.contrast,
            "prompt": first.prompt,
        }
        for side in SIDES:
            row[side] = {"answers": _said(answers, side), "readouts": measured.get((item, side), [])}
        rows.append(row | {"changed": _changed(row), "variants": varied.get(item, [])})
    order = order_dimensions(completions.dimension)
    return sorted(rows, key=lambda row: order.index(row["dimension"]))


def _said(answers: pd.DataFrame, side: str) -> list[dict[str, Any]]:
    return answers[answers.side == side][list(ANSWER_COLUMNS)].to_dict("records")


def _variants_by_item(variants: pd.DataFrame | None) -> dict[str, list[dict[str, Any]]]:
    """What was asked in other words, per item: how, the prompt, and both models' answers."""
    found: dict[str, list[dict[str, Any]]] = {}
    if variants is None or variants.empty:
        return found
    variants = variants.astype(object).where(variants.notna(), None)
    for (item, variant), answers in variants.groupby(["item", "variant"], sort=False):
        sides = {side: {"answers": _said(answers, side), "readouts": []} for side in SIDES}
        how = variant_name(str(variant))
        found.setdefault(str(item), []).append({"how": how, "prompt": answers.iloc[0].prompt, **sides})
    return found


def _changed(row: dict[str, Any]) -> bool:
    """Whether some answer of one model is aligned where one of the other is not."""
    before, after = (
        {bool(answer["aligned"]) for answer in row[side]["answers"] if answer["aligned"] is not None} for side in SIDES
    )
    return bool(before and after) and before != after


def _readouts_by_item(
    readouts: pd.DataFrame | None, validation: pd.DataFrame | None
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    checks = (
        {} if validation is None else {(row.dimension, row.side, row.think): row for row in validation.itertuples()}
    )
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in () if readouts is None else readouts.itertuples():
        if not math.isnan(row.readout):
            said = reliability_note(checks.get((row.dimension, row.side, row.think)))
            one = {"think": row.think, "value": round(float(row.readout), 2), "reliability": said}
            found.setdefault((row.item, row.side), []).append(one)
    return found


def reliability_note(check: Any) -> str:
    """How well a readout follows judged behaviour, and whether that is too little."""
    if check is None or math.isnan(check.auroc):
        return "not validated"
    said = f"AUROC {number(check.auroc)} ({interval(check.low, check.high)})"
    return said if check.reliable else f"{said}, unreliable"


def score_rows(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """The score table, formatted: dimensions in order (`place`), the headline of each first.

    `missed` is left out, because it is 1 − `aligned`.
    """
    rows = []
    scores = scores[scores.metric != "missed"]
    for place, dimension in enumerate(order_dimensions(scores.dimension)):
        part = scores[scores.dimension == dimension].sort_values("headline", ascending=False, kind="stable")
        rows += [_score_row(row) | {"place": place} for row in part.to_dict("records")]
    return rows


def _score_row(row: dict[str, Any]) -> dict[str, Any]:
    share = is_share(row["metric"])
    cells = {
        side: (number(row[side], share=share), interval(row[f"{side}_low"], row[f"{side}_high"], share=share))
        for side in SIDES
    }
    return {
        "dimension": dimension_name(row["dimension"]),
        "metric": metric_name(row["metric"]),
        "headline": bool(row["headline"]),
        "main": bool(row["headline"]) or row["metric"] == PRICE,
        "convention": f"{row['convention']} (judged by: {row['judge']})",
        "n": int(row["n"]),
        "families": int(row["families"]),
        **cells,
        "difference": (
            difference(row["difference"], share=share),
            interval(row["low"], row["high"], share=share, signed=True),
        ),
        "bounds": bounds_of(row),
        "p": _bare(row["p"]),
        "p_holm": ("cannot tell" if cannot_tell(row) else _bare(row["p_holm"])) if row["headline"] else "",
        "reason": cannot_tell(row),
        "better": BETTER.get(row["better"]),
        "unread": _unread(row),
    }


def bounds_of(row: dict[str, Any]) -> str:
    """What the difference could be whatever the missing answers are, in points; empty where none is missing."""
    ends = [row.get(f"difference_{end}", math.nan) for end in ("least", "most")]
    return "" if ends[0] == ends[1] else interval(*ends, share=True, signed=True)


def _unread(row: dict[str, Any]) -> tuple[str, str]:
    """How many answers of either model could not be judged, in short and in words; empty where nothing was counted."""
    counted = {name: [row.get(f"{name}_{side}") for side in SIDES] for name in COUNTS}
    if any(n is None or math.isnan(n) for counts in counted.values() for n in counts):
        return "", ""
    totals = [sum(int(counts[place]) for counts in counted.values()) for place in (0, 1)]
    words = "; ".join(f"{COUNTS[name]}: {int(before)} and {int(after)}" for name, (before, after) in counted.items())
    return f"{totals[0]} · {totals[1]}", words


def _bare(p: float) -> str:
    """A p-value without its "p ="."""
    return "—" if math.isnan(p) else p_value(p).removeprefix("p ").removeprefix("= ")


def conventions(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """Every metric with what it means, once."""
    rows = scores[["metric", "convention"]].drop_duplicates().to_dict("records")
    return [(metric_name(row["metric"]), row["convention"]) for row in rows]


def judges(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """Every dimension with what judged its answers."""
    found = scores.groupby("dimension").judge.agg(lambda names: ", ".join(dict.fromkeys(names)))
    return [(dimension_name(dimension), found[dimension]) for dimension in order_dimensions(scores.dimension)]


def task_examples(tasks: pd.DataFrame) -> list[dict[str, Any]]:
    """A few questions with both answers: two per outcome, of different kinds where there are."""
    answered = [
        {side: group[group.side == side].iloc[0].to_dict() for side in SIDES}
        for _, group in finished_only(tasks).groupby("question", sort=False)
        if set(SIDES) <= set(group.side)
    ]
    examples: list[dict[str, Any]] = []
    for outcome, words in OUTCOMES.items():
        same = [pair for pair in answered if tuple(pair[side]["correct"] for side in SIDES) == outcome]
        examples += [{"outcome": words, **pair} for pair in _least_shown_kinds(same, examples)]
    return examples


def _least_shown_kinds(pairs: Iterable[dict[str, Any]], shown: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of each kind, kinds that were not shown yet before the others."""
    by_kind = {pair["instruct"]["kind"]: pair for pair in reversed(list(pairs))}
    seen = [pair["instruct"]["kind"] for pair in shown]
    return [by_kind[kind] for kind in sorted(by_kind, key=seen.count)][:EXAMPLES_PER_OUTCOME]
