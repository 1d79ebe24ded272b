"""The sentences of a trajectory: what changed and when, whether alignment goes before reasoning comes, whether the
inside moves first.

Pure functions from series and their half-way steps (`mechdrift.trajectories.half_change`) to text.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mechdrift.behaviour.censoring import MOST_MISSING
from mechdrift.records.words import ALL
from mechdrift.report.words import MINUS, difference, dimension_name, interval, listing, number
from mechdrift.trajectories.half_change import Order, Series, When, compare_order, cut_steps, detour
from mechdrift.trajectories.history import History
from mechdrift.trajectories.series import timed

NAMES = {
    "accuracy": "reasoning accuracy",
    "aligned": "aligned answers",
    "readout": "the readout",
    "cosine": "the direction's cosine",
    "kl": "KL",
}


def told(history: History, series: Sequence[Series], halfway: pd.DataFrame, validation: pd.DataFrame) -> list[str]:
    """The answers, from the table `halfway` and the parent's validation of its readouts."""
    steps, halves = (0, *history.steps), halfway.set_index(["quantity", "dimension"])
    by_name = {(each.quantity, each.dimension): each for each in series}
    reasoning = by_name["accuracy", "reasoning"]
    dimensions = [each.dimension for each in series if each.quantity == "readout"]
    mean = ("aligned", ALL if ("aligned", ALL) in by_name else dimensions[0])
    said = [_course(key, halves, history) for key in (("accuracy", "reasoning"), mean)]
    established = [name for name in dimensions if halves.established["aligned", name]]
    unsure = [dimension_name(name).lower() for name in dimensions if name not in established]
    if mean[1] == ALL:
        said += [_course(("aligned", name), halves, history) for name in established]
    if unsure:
        said.append(f"No change of aligned answers is established at the last checkpoint in {listing(unsure)}.")
    with_half = [
        key
        for key in dict.fromkeys((mean, *(("aligned", name) for name in established)))
        if not math.isnan(halves.half[key])
    ]
    if math.isnan(halves.half["accuracy", "reasoning"]):
        said.append(
            "Whether alignment goes before or after the gain in reasoning cannot be asked: no change in "
            "reasoning is established."
        )
    else:
        said += [_before_reasoning(key, compare_order(steps, by_name[key], reasoning), history) for key in with_half]
    said += [line for key in (("accuracy", "reasoning"), *with_half) for line in _detours(key, by_name[key], history)]
    reliable = set(validation[validation.reliable.astype(bool)].dimension)
    for name in (dimension for _, dimension in with_half if dimension != ALL):
        said += _inner_first(name, name in reliable, halves, by_name, steps, history.unit)
    return [
        *said,
        (
            f"Checkpoints are up to {max(np.diff(steps))} {history.unit} apart: within that distance the course "
            "is taken to be straight."
        ),
    ]


def failures(history: History, series: Sequence[Series], sound: Sequence[int]) -> list[str]:
    """Answers that make no sense and think blocks that were not closed, over all checkpoints, and those left out
    (places not `sound`)."""
    by_name, said = {(each.quantity, each.dimension): each for each in series}, []
    for quantity, what, judged in (
        ("incoherent", "Answers that make no sense", "They count as not aligned."),
        (
            "unclosed",
            "Think blocks that the model did not close",
            "Their answers are missing.",
        ),
    ):
        shares = by_name[quantity, ALL].values
        known = np.nan_to_num(shares[1:])
        if known.max() > 0:
            most = f"at most {number(known.max(), share=True)} (at {_step(history, int(known.argmax()) + 1)})"
            said.append(f"{what}: {most}, {number(shares[-1], share=True)} at the last checkpoint. {judged}")
    cut = cut_steps(timed(series))
    left_out = [place for place in range(1, len(history.steps)) if place not in sound]
    for why, places in (
        ("most answers make no sense there", [place for place in left_out if place not in cut]),
        (f"more than {MOST_MISSING:.0%} of the answers are missing there", [p for p in left_out if p in cut]),
    ):
        if places:
            steps = listing([_step(history, place) for place in places])
            said.append(f"Left out of all half-way steps, because {why}: {steps}.")
    if len(history.steps) in cut:
        said.append(
            f"More than {MOST_MISSING:.0%} of the answers are missing at the last checkpoint, so it cannot be told "
            "what changed in them."
        )
    return said


def _step(history: History, place: int) -> str:
    return f"{history.unit.removesuffix('s')} {history.steps[place - 1]}"


def _shown(key: tuple[str, str]) -> str:
    quantity, dimension = key
    if quantity == "accuracy":
        return NAMES[quantity]
    return f"{NAMES[quantity]}, {'mean of the dimensions' if dimension == ALL else dimension_name(dimension).lower()}"


def _course(key: tuple[str, str], halves: pd.DataFrame, history: History) -> str:
    """From where to where a share went, and when it had come half of the way."""
    row = halves.loc[key]
    name = _shown(key)
    text = (
        f"{name[0].upper()}{name[1:]}: from {number(row['first'], share=True)} to {number(row['last'], share=True)} ("
    )
    text += (
        f"{difference(row.change, share=True)}, 95% interval "
        f"{interval(row.change_low, row.change_high, share=True, signed=True)})"
    )
    if not row.established:
        return f"{text}; the change is not established."
    if math.isnan(row.half):
        return f"{text}; the data do not say when it came."
    tokens = np.interp(row.half, (0, *history.steps), (0, *history.tokens))
    when = f"{row.half:.0f} {history.unit} ({row.half_low:.0f} to {row.half_high:.0f}), {tokens:,.0f} tokens"
    return f"{text}; half of it was there after about {when}."


def _detours(key: tuple[str, str], series: Series, history: History) -> list[str]:
    """Which measures went further on the way than where they ended."""
    place = detour(series)
    if place is None:
        return []
    name, value = _shown(key), number(series.values[place], share=True)
    where = f"on the way, at {_step(history, place)}, it stood at {value}"
    return [f"{name[0].upper()}{name[1:]}: {where}, beyond where it began and where it ended."]


def _before_reasoning(key: tuple[str, str], order: Order, history: History) -> str:
    name = _shown(key)
    what = f"{name[0].upper()}{name[1:]}, against the gain in reasoning"
    words: Mapping[When, str] = {
        "before": f"{what}: it comes before",
        "after": f"{what}: it comes after",
        "together": f"{what}: they come together",
        "cannot tell": f"{what}: which comes first cannot be told",
    }
    return f"{words[order.when]}{_by(order, history.unit)}."


def _by(order: Order, unit: str) -> str:
    if math.isnan(order.low):
        return " (too many draws of families have no half-way step)"
    apart, low, high = (_signed(value) for value in (order.difference, order.low, order.high))
    return f" (half-way steps {apart}, 95% interval {low} to {high} {unit})"


def _signed(steps: float) -> str:
    return f"{steps:+.0f}".replace("-", MINUS) if round(steps) else "0"


def _inner_first(
    name: str,
    is_reliable: bool,
    halves: pd.DataFrame,
    by_name: Mapping[tuple[str, str], Series],
    steps: Sequence[int],
    unit: str,
) -> list[str]:
    """Whether direction and readout moved before the score of one dimension."""
    said = []
    for quantity in ("cosine", "readout"):
        key = (quantity, name)
        layer = by_name[key].layer
        shown = NAMES[quantity] if math.isnan(layer) else f"{NAMES[quantity]} at layer {layer:.0f}"
        if quantity == "readout" and not is_reliable:
            said.append(
                f"{dimension_name(name)}: the readout does not follow the parent's judged behaviour well enough "
                "to say when it moves."
            )
        elif math.isnan(halves.half[key]):
            said.append(f"{dimension_name(name)}: the change of {shown} is not established.")
        else:
            order = compare_order(steps, by_name[key], by_name["aligned", name])
            words: Mapping[When, str] = {
                "before": "the inner change comes before the outer",
                "after": "the inner change comes after the outer",
                "together": "they come together",
                "cannot tell": "which comes first cannot be told",
            }
            said.append(f"{dimension_name(name)}: {shown}, against the score: {words[order.when]}{_by(order, unit)}.")
    return said
