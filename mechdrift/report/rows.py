"""Tables of a run as plain rows for the page: answers, scores, reasoning tasks, lengths."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mechdrift.behaviour.censoring import finished_only
from mechdrift.behaviour.verdicts import cannot_tell
from mechdrift.records import SIDES, order_dimensions
from mechdrift.records.notebook import counted
from mechdrift.report.readout_rows import readouts_by_item
from mechdrift.report.words import (
    BETTER,
    THINK_NAMES,
    bare_p,
    difference,
    dimension_name,
    interval,
    is_share,
    metric_name,
    number,
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


def browser_of(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """What the browser of answers works on; None where a run has no answers."""
    if "completions" not in tables:
        return None
    rows = browser_rows(
        tables["completions"], tables.get("readouts"), tables.get("variants"), tables.get("readout_validation")
    )
    names = {d: dimension_name(d) for d in order_dimensions(tables["completions"].dimension)}
    labels = sorted({label for label in tables["completions"].label if label})
    return {
        "rows": rows,
        "dimensions": names,
        "labels": labels,
        "thinks": THINK_NAMES,
        "count": counted(len(rows), "prompt"),
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
    measured, varied = readouts_by_item(readouts, validation), _variants_by_item(variants)
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
        "p": bare_p(row["p"]),
        "p_holm": ("cannot tell" if cannot_tell(row) else bare_p(row["p_holm"])) if row["headline"] else "",
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


def length_rows(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The measures of length as rows for the page: both models, and the paired difference."""
    rows = []
    for row in () if table is None else table.to_dict("records"):
        share = not row["measure"].endswith("tokens")
        shown = {name: _shown(row, name, share) for name in SIDES}
        change = (
            (difference(row["difference"], share=True), interval(row["low"], row["high"], share=True, signed=True))
            if share
            else (_tokens(row["difference"], signed=True), _ends(row["low"], row["high"], signed=True))
        )
        rows.append(
            {"measure": row["convention"], "n": row["n"], "families": row["families"], "change": change} | shown
        )
    return rows


def _shown(row: dict[str, Any], side: str, share: bool) -> tuple[str, str]:
    if share:
        return number(row[side], share=True), interval(row[f"{side}_low"], row[f"{side}_high"], share=True)
    return _tokens(row[side]), _ends(row[f"{side}_low"], row[f"{side}_high"])


def _tokens(value: float, signed: bool = False) -> str:
    """A number of tokens without decimals."""
    text = number(round(value) if math.isfinite(value) else value, signed=signed)
    return text.removesuffix(".00")


def _ends(low: float, high: float, signed: bool = False) -> str:
    return f"{_tokens(low, signed)} to {_tokens(high, signed)}" if math.isfinite(low) and math.isfinite(high) else ""


def mean_kl(tokens: pd.DataFrame) -> dict[str, float]:
    """Mean KL divergence per answer token and dimension, over all tokens, in nats."""
    return tokens.groupby("dimension").kl.mean().to_dict()
