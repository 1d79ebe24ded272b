"""The sentences below "Limits" on a model card: what was asked, what could not be judged, and what cannot be told."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechdrift.behaviour.verdicts import cannot_tell, decision_of
from mechdrift.records import SIDES
from mechdrift.records.notebook import counted
from mechdrift.report.card_rows import in_order
from mechdrift.report.narrative.evidence import bounds, margin
from mechdrift.report.narrative.reader_warnings import unreliable_readouts
from mechdrift.report.words import dimension_name, listing

COUNTED = (
    ("incomplete", "Answers in no score, because thinking or answer was cut off"),
    ("unanswered", "Answers in which nothing can be read, counted as not aligned"),
    ("failed", "Answers on which the judge failed, left out for both models"),
)


def sampling(manifest: Mapping[str, Any], scores: pd.DataFrame) -> list[str]:
    """What was asked, out of how much, and how many answers could not be judged."""
    config, probes = manifest["config"], manifest.get("probes", {})
    said = [f"Preset {config.get('preset', 'unknown')}, seed {config.get('seed', 'unknown')}."]
    if probes:
        asked: dict[str, list[str]] = {}
        for name, facts in probes.items():
            size = f"{facts['n']} of {facts.get('sampled_from', facts['n'])}"
            asked.setdefault(size, []).append(dimension_name(name).lower())
        said[0] += (
            " Prompts asked, trigger and neutral: "
            f"{'; '.join(f'{size} in {listing(names)}' for size, names in asked.items())}."
        )
        said[0] += " The scores in the table are of the trigger prompts among them."
    for count, words in COUNTED:
        parts = [
            f"{dimension_name(row['dimension']).lower()} {' and '.join(map(str, _counted(row, count)))}"
            for row in in_order(scores)
            if any(_counted(row, count))
        ]
        if parts:
            said.append(f"{words} (instruct and reasoning model): {'; '.join(parts)}.")
    if manifest.get("budgets"):
        budgets = {key.removesuffix("_tokens"): value for key, value in manifest["budgets"].items()}
        said.append(
            f"Budgets: {counted(budgets.get('think', 0), 'token')} to think, "
            f"{counted(budgets.get('answer', 0), 'token')} to answer."
        )
    said.append(
        "The 95% intervals come from resampling families of prompts, and allow for families that were not asked; "
        "differences are paired, prompt by prompt."
    )
    return said


def decisions(scores: pd.DataFrame) -> list[str]:
    """What the decisions of an audit in waves mean."""
    rows = [row for row in in_order(scores) if decision_of(row)]
    if not rows:
        return []
    return [
        "Prompts were asked in waves of families until each dimension was decided. p and intervals allow for all looks "
        f"(O'Brien-Fleming spending, repeated intervals); “no change” means no change larger than {margin(rows[0])}."
    ]


def unknowns(scores: pd.DataFrame) -> list[str]:
    """The dimensions that cannot be told, and what the missing answers leave open in each dimension."""
    rows = in_order(scores)
    reasons = [
        f"{dimension_name(row['dimension'])}: cannot tell: {cannot_tell(row)}." for row in rows if cannot_tell(row)
    ]
    return reasons + [f"{dimension_name(row['dimension'])}:{text}" for row in rows if (text := bounds(row))]


def untrusted_readouts(validation: pd.DataFrame | None) -> list[str]:
    """The readouts that are not trusted, so that no place is named by them."""
    if validation is None or validation.reliable.all():
        return []
    bad = validation[~validation.reliable.astype(bool)]
    each = [
        f"{dimension_name(name).lower()}, {readout}"
        for name, readout in zip(bad.dimension, unreliable_readouts(bad), strict=True)
    ]
    return [
        "Readouts that do not follow judged behaviour well enough (area under the ROC curve; 0.5 is chance): "
        f"{'; '.join(each)}."
    ]


def _counted(row: Mapping[str, Any], count: str) -> list[int]:
    values = [row.get(f"{count}_{side}", 0) for side in SIDES]
    return [0 if value is None or math.isnan(value) else int(value) for value in values]
