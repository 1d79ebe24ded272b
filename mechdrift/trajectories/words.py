"""The sentences of a trajectory: what changed and when, whether alignment is lost before reasoning is gained, and
whether the inside changes before the answers do.

Pure functions from series and their half-way steps (`mechdrift.trajectories.half_change`) to text.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mechdrift.behaviour.censoring import MOST_MISSING
from mechdrift.records.words import ALL
from mechdrift.report.words import MINUS, capitalised, difference, dimension_name, interval, listing, number
from mechdrift.trajectories.half_change import Order, When, compare_order, cut_steps, detour
from mechdrift.trajectories.history import History
from mechdrift.trajectories.series import Series, timed

NAMES = {
    "accuracy": "reasoning accuracy",
    "aligned": "aligned answers",
    "readout": "the readout",
    "cosine": "the direction's cosine",
    "kl": "KL",
}
Key = tuple[str, str]
"""A measure: quantity and dimension."""
REASONING: Key = ("accuracy", "reasoning")
COUNTED = {
    "incoherent": ("Answers that make no sense", "They count as not aligned."),
    "unclosed": ("Think blocks that the model did not close", "Their answers are missing."),
}


def told(history: History, series: Sequence[Series], halfway: pd.DataFrame, validation: pd.DataFrame) -> list[str]:
    """What the trajectory found, in sentences.

    Args:
        history: the checkpoints, without those that are left out of half-way steps.
        series: the measures at these checkpoints.
        halfway: the table of half-way steps.
        validation: how well the parent's readouts follow its judged answers (`readout_validation`).
    """
    steps, halves = (0, *history.steps), halfway.set_index(["quantity", "dimension"])
    by_name = {(each.quantity, each.dimension): each for each in series}
    dimensions = [each.dimension for each in series if each.quantity == "readout"]
    established = [name for name in dimensions if halves.established["aligned", name]]
    mean = ("aligned", ALL if ("aligned", ALL) in by_name else dimensions[0])
    keys = dict.fromkeys((mean, *(("aligned", name) for name in established)))
    with_half = [key for key in keys if not math.isnan(halves.half[key])]
    reliable = set(validation[validation.reliable.astype(bool)].dimension)
    sentences = _courses(mean, established, dimensions, halves, history)
    sentences += _against_reasoning(with_half, halves, by_name, history)
    sentences += [line for key in (REASONING, *with_half) for line in _detours(key, by_name[key], history)]
    for name in (dimension for _, dimension in with_half if dimension != ALL):
        sentences += _inner_first(name, name in reliable, halves, by_name, steps, history.unit)
    apart = f"Checkpoints are up to {max(np.diff(steps))} {history.unit} apart"
    return [*sentences, f"{apart}; between two of them, every measure is taken to change along a straight line."]


def _courses(
    mean: Key, established: Sequence[str], dimensions: Sequence[str], halves: pd.DataFrame, history: History
) -> list[str]:
    """From where to where accuracy and aligned answers went, and in which dimensions no change is established."""
    sentences = [_course(key, halves, history) for key in (REASONING, mean)]
    if mean[1] == ALL:
        sentences += [_course(("aligned", name), halves, history) for name in established]
    unsure = [dimension_name(name).lower() for name in dimensions if name not in established]
    if unsure:
        sentences.append(f"No change of aligned answers is established at the last checkpoint in {listing(unsure)}.")
    return sentences


def _against_reasoning(
    keys: Sequence[Key], halves: pd.DataFrame, by_name: Mapping[Key, Series], history: History
) -> list[str]:
    """Whether alignment changed before or after reasoning was gained."""
    if math.isnan(halves.half[REASONING]):
        return [
            "Whether alignment changes before or after reasoning is gained cannot be asked: no change in reasoning is "
            "established."
        ]
    steps, reasoning = (0, *history.steps), by_name[REASONING]
    return [_before_reasoning(key, compare_order(steps, by_name[key], reasoning), history) for key in keys]


def failures(history: History, series: Sequence[Series], sound: Sequence[int]) -> list[str]:
    """How many answers make no sense and how many think blocks were not closed, and which checkpoints are left out.

    `sound` are the places of the checkpoints that are not left out; place 0 is the parent.
    """
    by_name, said = {(each.quantity, each.dimension): each for each in series}, []
    for quantity, (what, judged) in COUNTED.items():
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
    """From where to where a share went, and when half of its change was there."""
    row = halves.loc[key]
    name = _shown(key)
    text = f"{capitalised(name)}: from {number(row['first'], share=True)} to {number(row['last'], share=True)} ("
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
    """A sentence where a measure went beyond both its first and its last value on the way."""
    place = detour(series)
    if place is None:
        return []
    name, value = _shown(key), number(series.values[place], share=True)
    where = f"on the way, at {_step(history, place)}, it was at {value}"
    return [f"{capitalised(name)}: {where}, beyond both its first and its last value."]


def _before_reasoning(key: tuple[str, str], order: Order, history: History) -> str:
    name = _shown(key)
    words: Mapping[When, str] = {
        "before": "this change comes before the gain in reasoning",
        "after": "this change comes after the gain in reasoning",
        "together": "this change and the gain in reasoning come together",
        "cannot tell": "whether this change or the gain in reasoning comes first cannot be told",
    }
    return f"{capitalised(name)}: {words[order.when]}{_by(order, history.unit)}."


def _by(order: Order, unit: str) -> str:
    if math.isnan(order.low):
        return " (too many draws of families have no half-way step)"
    apart, low, high = (_signed(value) for value in (order.difference, order.low, order.high))
    return f" (difference of the half-way steps {apart}, 95% interval {low} to {high} {unit})"


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
    """Whether direction and readout changed before the score of one dimension did."""
    words: Mapping[When, str] = {
        "before": "{} changes before the answers do",
        "after": "{} changes after the answers do",
        "together": "{} and the answers change together",
        "cannot tell": "whether {} or the answers change first cannot be told",
    }
    said = []
    for quantity in ("cosine", "readout"):
        key = (quantity, name)
        layer = by_name[key].layer
        shown = NAMES[quantity] if math.isnan(layer) else f"{NAMES[quantity]} at layer {layer:.0f}"
        if quantity == "readout" and not is_reliable:
            said.append(
                f"{dimension_name(name)}: the readout does not follow the parent's judged behaviour well enough "
                "to say when it changes."
            )
        elif math.isnan(halves.half[key]):
            said.append(f"{dimension_name(name)}: the change of {shown} is not established.")
        else:
            order = compare_order(steps, by_name[key], by_name["aligned", name])
            said.append(f"{dimension_name(name)}: {words[order.when].format(shown)}{_by(order, unit)}.")
    return said
