"""The sentences of a trajectory: what changed and when, whether alignment goes before reasoning comes, whether the inside moves first.

Pure functions from series and their half-way steps (`mechdrift.halfway`) to text. No order is told from a measure that made a detour.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mechdrift.halfway import ALL, Order, Series, When, compare_order, detour
from mechdrift.history import History
from mechdrift.report.words import MINUS, difference, dimension_name, interval, listing, number

NAMES = {"accuracy": "reasoning accuracy", "aligned": "aligned answers", "readout": "the readout", "cosine": "the direction's cosine",
         "kl": "KL"}  # fmt: skip


def told(history: History, series: Sequence[Series], halfway: pd.DataFrame, validation: pd.DataFrame) -> list[str]:
    """The answers, from the table `halfway` and the parent's validation of its readouts."""
    steps, halves = (0, *history.steps), halfway.set_index(["quantity", "dimension"])
    by_name = {(each.quantity, each.dimension): each for each in series}
    reasoning = by_name["accuracy", "reasoning"]
    dimensions = [each.dimension for each in series if each.quantity == "readout"]
    mean = ("aligned", ALL if ("aligned", ALL) in by_name else dimensions[0])
    detours = {key: place for key, each in by_name.items() if (place := detour(each)) is not None}
    said = [_course(key, halves, history) for key in (("accuracy", "reasoning"), mean)]
    established = [name for name in dimensions if halves.established["aligned", name]]
    unsure = [dimension_name(name).lower() for name in dimensions if name not in established]
    if mean[1] == ALL:
        said += [_course(("aligned", name), halves, history) for name in established]
    if unsure:
        said.append(f"No change of aligned answers is established at the last checkpoint in {listing(unsure)}.")
    with_half = [key for key in dict.fromkeys((mean, *(("aligned", name) for name in established))) if not math.isnan(halves.half[key])]
    if math.isnan(halves.half["accuracy", "reasoning"]):
        said.append("Whether alignment goes before or after the gain in reasoning cannot be asked: no change in reasoning is established.")
    else:
        said += [
            _before_reasoning(
                key, compare_order(steps, by_name[key], reasoning), history, bool({key, ("accuracy", "reasoning")} & set(detours))
            )
            for key in with_half
        ]
    said += [_detoured(key, by_name[key], detours[key], history) for key in (("accuracy", "reasoning"), *with_half) if key in detours]
    reliable = set(validation[validation.reliable.astype(bool)].dimension)
    for key in (key for key in with_half if key[1] != ALL):
        name = key[1]
        if key in detours:
            unsaid = "whether the inside moves before the score cannot be told from half-way steps, for the same reason"
            said.append(f"{dimension_name(name)}: {unsaid}.")
            continue
        said += _inner_first(name, name in reliable, halves, by_name, steps, history.unit)
    for quantity, what, judged in (
        ("incoherent", "Answers that make no sense", "They count as not aligned."),
        ("unclosed", "Think blocks that the budget closed, not the model", "Their answers are judged like all others."),
    ):
        failures = by_name.get((quantity, ALL))
        if failures is not None and failures.values[1:].max() > 0:
            said.append(f"{what}: {_most(failures, history)}, {number(failures.values[-1], share=True)} at the last checkpoint. {judged}")
    return [
        *said,
        f"Checkpoints are up to {max(np.diff(steps))} {history.unit} apart: within that distance the course is taken to be straight.",
    ]


def _most(series: Series, history: History) -> str:
    place = int(series.values[1:].argmax())
    return f"at most {number(series.values[place + 1], share=True)} (at {history.unit.removesuffix('s')} {history.steps[place]})"


def _shown(key: tuple[str, str]) -> str:
    quantity, dimension = key
    if quantity == "accuracy":
        return NAMES[quantity]
    return f"{NAMES[quantity]}, {'mean of the dimensions' if dimension == ALL else dimension_name(dimension).lower()}"


def _course(key: tuple[str, str], halves: pd.DataFrame, history: History) -> str:
    """From where to where a share went, and when half of the way was behind it."""
    row = halves.loc[key]
    name = _shown(key)
    text = f"{name[0].upper()}{name[1:]}: from {number(row['first'], share=True)} to {number(row['last'], share=True)} ("
    text += f"{difference(row.change, share=True)}, 95% interval {interval(row.change_low, row.change_high, share=True, signed=True)})"
    if not row.established:
        return f"{text}; the change is not established."
    if math.isnan(row.half):
        return f"{text}; the data do not say when it came."
    tokens = np.interp(row.half, (0, *history.steps), (0, *history.tokens))
    when = f"{row.half:.0f} {history.unit} ({row.half_low:.0f} to {row.half_high:.0f}), {tokens:,.0f} tokens"
    return f"{text}; half of it was there after about {when}."


def _detoured(key: tuple[str, str], series: Series, place: int, history: History) -> str:
    name, value = _shown(key), number(series.values[place], share=True)
    where = f"{history.unit.removesuffix('s')} {history.steps[place - 1]}"
    return (
        f"{name[0].upper()}{name[1:]}: on the way, at {where}, it stood at {value}, beyond where it began and where it ended. "
        "Its half-way step may time that, and not the change that lasted."
    )


def _before_reasoning(key: tuple[str, str], order: Order, history: History, is_detour: bool) -> str:
    name = _shown(key)
    what = f"{name[0].upper()}{name[1:]}, against the gain in reasoning"
    if is_detour:
        why = "because one of them went further on the way than it ended"
        return f"{what}: not to be told from half-way steps, {why}{_by(order, history.unit)}."
    words: Mapping[When, str] = {
        "before": f"{what}: it comes before", "after": f"{what}: it comes after", "together": f"{what}: they come together",
        "cannot tell": f"{what}: which comes first cannot be told",
    }  # fmt: skip
    return f"{words[order.when]}{_by(order, history.unit)}."


def _by(order: Order, unit: str) -> str:
    if math.isnan(order.low):
        return " (too many draws of families have no half-way step)"
    apart, low, high = (f"{value:+.0f}".replace("-", MINUS) for value in (order.difference, order.low, order.high))
    return f" (half-way steps {apart}, 95% interval {low} to {high} {unit})"


def _inner_first(
    name: str, is_reliable: bool, halves: pd.DataFrame, by_name: Mapping[tuple[str, str], Series], steps: Sequence[int], unit: str
) -> list[str]:
    """Direction and readout against the score of one dimension."""
    said = []
    for quantity in ("cosine", "readout"):
        key = (quantity, name)
        layer = by_name[key].layer
        shown = NAMES[quantity] if math.isnan(layer) else f"{NAMES[quantity]} at layer {layer:.0f}"
        if quantity == "readout" and not is_reliable:
            said.append(
                f"{dimension_name(name)}: the readout does not follow the parent's judged behaviour well enough to say when it moves."
            )
        elif math.isnan(halves.half[key]):
            said.append(f"{dimension_name(name)}: the change of {shown} is not established.")
        else:
            order = compare_order(steps, by_name[key], by_name["aligned", name])
            words: Mapping[When, str] = {
                "before": "the inner change comes before the outer", "after": "the inner change comes after the outer",
                "together": "they come together", "cannot tell": "which comes first cannot be told",
            }  # fmt: skip
            said.append(f"{dimension_name(name)}: {shown}, against the score: {words[order.when]}{_by(order, unit)}.")
    return said
