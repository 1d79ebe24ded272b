"""From all answers of a stress test to its table: one row per dimension, side, mode and dose (`lifts`, `apart`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.records import SIDES
from mechdrift.stress_tests.apart import apart
from mechdrift.stress_tests.asking import ATTACK, PLACEBO
from mechdrift.stress_tests.lifts import (
    DIFFERENCE,
    Arm,
    Compared,
    Values,
    compared,
    difference_row,
    finding_of,
    known_items,
    lift_row,
    misaligned,
    missing_arms,
    too_many_missing,
    trend_of,
    with_holm,
)
from mechdrift.stress_tests.mode import Mode
from mechdrift.stress_tests.registry import PLAIN
from mechdrift.tables.stress import STRESS

Skipped = Mapping[tuple[str, str, str, float], str]
"""Why a mode did not apply, by side, dimension, mode and dose."""


def stress_table(answers: pd.DataFrame, modes: Sequence[Mode], skipped: Skipped, seed: int = 0) -> pd.DataFrame:
    """One row per dimension, side (and child less parent), mode and dose; see `mechdrift.tables.TABLES["stress"]`."""
    values, known, missing = misaligned(answers, modes), known_items(answers), missing_arms(answers)
    rows: list[dict[str, Any]] = []
    for dimension in dict.fromkeys(answers.dimension):
        for mode in modes:
            found = {side: _compared_doses(values, known, side, dimension, mode) for side in SIDES}
            for side in SIDES:
                ones = [
                    _row(answers, mode, one, (side, dimension, mode.name, dose), missing, skipped, seed)
                    for dose, one in found[side].items()
                ]
                asked = [(side, dimension, mode.name, float(dose), ATTACK) in missing for dose in found[side]]
                rows += _with_strongest(ones, asked, list(found[side].values()), seed)
            rows += _differences(mode, dimension, found, missing, seed)
    table = with_holm(pd.DataFrame(rows).reindex(columns=[*STRESS.names]))
    return table.assign(finding=[finding_of(row) for row in table.to_dict("records")])


def _compared_doses(
    values: Values, known: pd.DataFrame, side: str, dimension: str, mode: Mode
) -> dict[float, Compared | None]:
    return {dose: compared(values, known, side, dimension, mode.name, float(dose)) for dose in mode.doses}


def _row(
    answers: pd.DataFrame,
    mode: Mode,
    found: Compared | None,
    key: tuple[str, str, str, float],
    missing: Mapping[Arm, tuple[float, str]],
    skipped: Skipped,
    seed: int,
) -> dict[str, Any]:
    side, dimension, name, dose = key
    row = _named(mode, dose, dimension, side) | {"left_out": skipped.get(key, "")}
    own = answers[(answers.side == side) & (answers.dimension == dimension)]
    attack = own[(own["mode"] == name) & (own.dose == dose) & (own.arm == ATTACK)]
    if attack.empty:
        return row | {"n": 0, "families": 0, "reason": skipped.get(key, "") or "it was asked of no item"}
    if found is None:
        reason = too_many_missing(missing, key) or "no item was finished plainly, under this mode and its placebo alike"
        return row | {"n": 0, "families": 0, "missing": 1.0, "reason": reason}
    placebo = own[(own["mode"] == name) & (own.dose == dose) & (own.arm == PLACEBO)]
    reference = placebo if len(placebo) else own[own["mode"] == PLAIN]
    return (
        row
        | lift_row(found, seed)
        | apart(attack, reference, dimension_of(dimension).is_refusal, seed)
        | {"missing": 1 - len(found.ids) / attack["item"].nunique(), "reason": too_many_missing(missing, key)}
    )


def _named(mode: Mode, dose: float, dimension: str, side: str) -> dict[str, Any]:
    return {
        "dimension": dimension,
        "side": side,
        "mode": mode.name,
        "dose": float(dose),
        "unit": mode.unit,
        "placebo": mode.placebo_name,
        "place": mode.place,
        "strongest": False,
        "left_out": "",
        "reason": "",
    }


def _with_strongest(
    rows: list[dict[str, Any]], asked: Sequence[bool], found: Sequence[Compared | None], seed: int
) -> list[dict[str, Any]]:
    """The rows of a mode's doses. The strongest dose that was asked is marked, and has the trend over all doses. It is
    marked also where none of its answers ended: what a weaker dose does is no answer for it."""
    last = max((place for place, is_asked in enumerate(asked) if is_asked), default=len(rows) - 1)
    slope, p = trend_of([one for one in found if one is not None], seed)
    return [
        row | {"strongest": place == last} | ({"trend": slope, "trend_p": p} if place == last else {})
        for place, row in enumerate(rows)
    ]


def _differences(
    mode: Mode,
    dimension: str,
    found: Mapping[str, Mapping[float, Compared | None]],
    missing: Mapping[Arm, tuple[float, str]],
    seed: int,
) -> list[dict[str, Any]]:
    """Child less parent, where both were asked. Where one side has a reason for no finding, so has the difference."""
    rows: list[dict[str, Any]] = []
    for dose in mode.doses:
        keys = {side: (side, dimension, mode.name, float(dose)) for side in SIDES}
        if all((*key, ATTACK) in missing for key in keys.values()):
            parent, child = (found[side][dose] for side in SIDES)
            is_known = parent is not None and child is not None
            numbers = difference_row(child, parent, seed) if is_known else {"n": 0, "families": 0}
            reasons = {side: too_many_missing(missing, key) for side, key in keys.items()}
            reason = "; ".join(f"{side} model: {why}" for side, why in reasons.items() if why)
            reason = reason or ("" if numbers["n"] else "no item was finished by both models")
            rows.append(_named(mode, dose, dimension, DIFFERENCE) | numbers | {"reason": reason})
    if rows:
        rows[-1]["strongest"] = True
    return rows
