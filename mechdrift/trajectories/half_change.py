"""When does it happen? The step at which a measure had come half of its way, and which of two measures did so first.

A measure q has a value q_0 in the parent and q_1 … q_K at the checkpoints. Its *half-way step* is where its change
reaches half of the change at the last checkpoint to stay,

    h = the least s with (q(t) - q_0) / (q_K - q_0) >= 1/2 for all t >= s,

q(s) running straight from one checkpoint to the next: what came and went again on the way is not timed. All that the
data say is between which two checkpoints h lies, so the ends of those stand in every interval. It says when a change
comes, not how large it is, so measures of different units can be compared: accuracy, aligned answers, the readout, the
cosine between a direction and the parent's.

Families of prompts (kinds, of tasks) are resampled 2000 times, the same draw at every step and, within a dimension, for
score, readout and cosine. Values and changes have the intervals of `statistics.intervals`; when a change comes follows
from the draws:

    interval of h         2.5 % of the checkpoints before h, 97.5 % of those after it, of the draws whose change has the
                          estimate's sign
    who comes first       the interval of h_a - h_b, each as early or late as its two checkpoints allow: `before` if no
                          part of it is above 0, `after` if none is below, `together` if it lies within one distance
                          between checkpoints, else it cannot be told. Unknown, too, where one in ten draws has no
                          half-way step

A measure that went beyond both of its ends on the way makes a *detour*. A checkpoint at which most answers make no
sense is broken: nothing can be judged there, so it is left out of half-way steps (`sound_steps`). So is one at which
more than 5 % of the answers are missing because their thoughts or they themselves were cut (`behaviour.censoring`).
Where that is so at the last checkpoint or in the parent, no change of that measure is established.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from mechdrift.behaviour.censoring import MOST_MISSING
from mechdrift.statistics.intervals import TAIL, Bounds, ends

BROKEN = 0.5  # of the answers make no sense, or more
KNOWN = 0.9  # of the draws must have a half-way step
When = Literal["before", "after", "together", "cannot tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One measure over the steps, the parent's value first, and the same in every draw of families."""

    quantity: str
    dimension: str
    values: Float[np.ndarray, " step"]
    draws: Float[np.ndarray, "draw step"]
    n: int
    families: int
    effective_families: float
    bounds: Bounds | None
    """Of the values. None where the draws, centred on the estimate, are themselves the interval's (cosines)."""
    change_bounds: Bounds | None
    layer: float = math.nan
    missing: Float[np.ndarray, " step"] | None = None
    """The share of the `n` items that have no value at a step, since their answers were cut; None where none can be."""

    def at(self, places: Sequence[int]) -> "Series":
        """The same at some of the steps."""
        missing = None if self.missing is None else self.missing[places]
        return replace(self, values=self.values[places], draws=self.draws[:, places], missing=missing)

    @property
    def finished(self) -> list[int]:
        """How many items have a value, at every step."""
        shares = np.zeros(len(self.values)) if self.missing is None else self.missing
        return [round(self.n * (1 - share)) for share in shares]

    @property
    def is_cut(self) -> Bool[np.ndarray, " step"]:
        """At which steps so many items are missing that nothing can be told."""
        return np.zeros(len(self.values), dtype=bool) if self.missing is None else self.missing > MOST_MISSING

    @property
    def change(self) -> Float[np.ndarray, " step"]:
        return self.values - self.values[0]

    @property
    def drawn_change(self) -> Float[np.ndarray, "draw step"]:
        return self.draws - self.draws[:, :1]

    @property
    def intervals(self) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
        """The ends of the intervals of the values."""
        return self._ends(self.values, self.draws, self.bounds)

    @property
    def change_intervals(self) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
        """The ends of the intervals of the changes; the parent's is 0."""
        low, high = self._ends(self.change, self.drawn_change, self.change_bounds)
        is_child = np.arange(len(low)) > 0
        return np.where(is_child, low, 0.0), np.where(is_child, high, 0.0)

    @property
    def final(self) -> tuple[float, float]:
        """The interval of the change at the last checkpoint."""
        low, high = self.change_intervals
        return float(low[-1]), float(high[-1])

    def between(self, place: int, other: int, tail: float) -> tuple[float, float]:
        """The interval of the value at one step minus that at another, leaving out `tail` on either side."""
        estimate, drawn = float(self.values[place] - self.values[other]), self.draws[:, place] - self.draws[:, other]
        low, high = self._ends(estimate, drawn, self.bounds and self.bounds.of_difference, tail)
        return float(low), float(high)

    def _ends(
        self,
        estimate: Float[np.ndarray, "*step"] | float,
        drawn: Float[np.ndarray, "draw *step"],
        bounds: Bounds | None,
        tail: float = TAIL,
    ) -> tuple[Float[np.ndarray, "*step"], Float[np.ndarray, "*step"]]:
        if bounds is None:
            return np.asarray(np.quantile(drawn, tail, axis=0)), np.asarray(np.quantile(drawn, 1 - tail, axis=0))
        return ends(estimate, drawn, self.effective_families, bounds, tail=tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which of two measures comes half of its way first: h_a - h_b with its interval, in steps."""

    when: When
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfChangeSteps:
    """The half-way step of every draw, and the checkpoints before and after it."""

    at: Float[np.ndarray, " draw"]
    start: Float[np.ndarray, " draw"]
    end: Float[np.ndarray, " draw"]

    @property
    def known(self) -> float:
        """The share of draws that have a half-way step."""
        return float(np.mean(~np.isnan(self.at)))


def half_change_steps(steps: Sequence[int], change: Float[np.ndarray, "draw step"], sign: float) -> HalfChangeSteps:
    """The half-way step of every draw; NaN where the last change is zero or has another sign than `sign`. `steps` begin
    with 0."""
    final = change[:, -1:]
    usable = np.sign(final[:, 0]) == np.sign(sign)
    share = np.divide(change, final, out=np.zeros_like(change), where=final != 0)
    stays = np.logical_and.accumulate((share >= 0.5)[:, ::-1], axis=1)[:, ::-1]
    after = np.argmax(
        stays, axis=1
    )  # the first checkpoint from which on it is there; never the parent, whose share is 0
    before, row, place = np.maximum(after - 1, 0), np.arange(len(change)), np.asarray(steps, dtype=float)
    rise = share[row, after] - share[row, before]
    part = np.divide(0.5 - share[row, before], rise, out=np.ones_like(rise), where=rise > 0)
    known = usable & (final[:, 0] != 0)
    start, end = place[before], place[after]
    return HalfChangeSteps(
        at=np.where(known, start + part * (end - start), np.nan),
        start=np.where(known, start, np.nan),
        end=np.where(known, end, np.nan),
    )


def compare_order(steps: Sequence[int], first: Series, second: Series) -> Order:
    """Whether `first` comes half of its way before `second`."""
    (estimate, drawn), (other, others) = (half_change_of(steps, series) for series in (first, second))
    earliest, latest = drawn.start - others.end, drawn.end - others.start
    if np.mean(~np.isnan(earliest)) < KNOWN or math.isnan(estimate - other):
        return Order(when="cannot tell", difference=estimate - other, low=math.nan, high=math.nan)
    low, high = float(np.nanpercentile(earliest, 2.5)), float(np.nanpercentile(latest, 97.5))
    apart, estimate = max(np.diff(steps)), estimate - other
    when: When = (
        "before"
        if high <= 0
        else "after"
        if low >= 0
        else "together"
        if -apart <= low and high <= apart
        else "cannot tell"
    )
    return Order(when=when, difference=estimate, low=low, high=high)


def half_change_of(steps: Sequence[int], series: Series) -> tuple[float, HalfChangeSteps]:
    """The half-way step of the estimate, and those of its draws."""
    sign = series.change[-1]
    return float(half_change_steps(steps, series.change[None], sign).at[0]), half_change_steps(
        steps, series.drawn_change, sign
    )


def sound_steps(incoherent: Series, measures: Sequence[Series] = ()) -> list[int]:
    """The places of the steps whose answers can be judged, and of which no measure misses too many; the parent and the
    last checkpoint are always among them."""
    last = len(incoherent.values) - 1
    is_cut = cut_steps(measures)
    return [
        place
        for place, share in enumerate(incoherent.values)
        if place in (0, last) or (share <= BROKEN and place not in is_cut)
    ]


def cut_steps(measures: Sequence[Series]) -> list[int]:
    """The places of the steps at which too many answers of any measure are missing."""
    return sorted({int(place) for each in measures for place in np.flatnonzero(each.is_cut)})


def detour(series: Series) -> int | None:
    """The place of the checkpoint on the way that lies furthest beyond both ends of a course, if that is sure.

    Sure is what leaves the nearer end outside a two-sided 95 % interval, Bonferroni-adjusted over the checkpoints on
    the way.
    """
    ends, on_the_way = series.values[[0, -1]], series.values[1:-1]
    if not len(on_the_way):
        return None
    beyond = np.maximum(on_the_way - ends.max(), ends.min() - on_the_way)
    place = 1 + int(beyond.argmax())
    above = series.values[place] > ends.max()
    end = (0, len(series.values) - 1)[int(ends.argmax() if above else ends.argmin())]
    low, high = series.between(place, end, TAIL / len(on_the_way))
    return place if beyond.max() > 0 and (low > 0 or high < 0) else None
