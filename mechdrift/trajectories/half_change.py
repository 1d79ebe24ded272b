"""When does it happen? The step at which half of a measure's change was there, and which of two measures came first.

A measure q has a value q_0 in the parent and q_1 … q_K at the checkpoints. Its *half-way step* is the step from which
half of its change at the last checkpoint was there, to stay:

    h = the least s with (q(t) - q_0) / (q_K - q_0) >= 1/2 for all t >= s

Between two checkpoints, q(s) is taken to be a straight line. A change that came and went again on the way is not timed.
The data only say between which two checkpoints h lies, so every interval reaches to those two. A half-way step says
when a change comes and not how large it is, so measures of different units can be compared: accuracy, aligned answers,
the readout, the cosine between a direction and the parent's.

The draws of families (`series`) say how sure a half-way step is:

    interval of h         from the 2.5th percentile of the checkpoint before h to the 97.5th of the checkpoint after it,
                          over the draws whose change has the sign of the estimate
    who comes first       the interval of h_a - h_b, each as early or as late as its two checkpoints allow. The answer
                          is `before` if no part of it is above 0, `after` if none is below, and `together` if it lies
                          within one distance between checkpoints. Otherwise it cannot be told; nor can it where more
                          than one draw in ten has no half-way step

A measure that went beyond both its first and its last value on the way makes a *detour*. Two kinds of checkpoints are
left out of half-way steps (`sound_steps`): those at which most answers make no sense, because a broken model cannot be
judged, and those at which more than 5 % of the answers are missing because they or their thinking were cut
(`behaviour.censoring`). Where that is so in the parent or at the last checkpoint, no change of that measure is
established.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from mechdrift.statistics.intervals import TAIL
from mechdrift.trajectories.series import Series

BROKEN = 0.5  # a model is broken where more than this share of its answers makes no sense
KNOWN = 0.9  # the share of draws that must have a half-way step
When = Literal["before", "after", "together", "cannot tell"]


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
    """The half-way step of every draw.

    Args:
        steps: the steps of the columns of `change`; the first is 0, the parent.
        change: the change against the parent, of every draw at every step.
        sign: a number with the sign that the last change should have. Draws whose last change is zero, or has the other
            sign, have NaN.
    """
    final = change[:, -1:]
    usable = np.sign(final[:, 0]) == np.sign(sign)
    share = np.divide(change, final, out=np.zeros_like(change), where=final != 0)
    stays = np.logical_and.accumulate((share >= 0.5)[:, ::-1], axis=1)[:, ::-1]
    after = np.argmax(stays, axis=1)  # the first step from which half is there; never the parent, whose share is 0
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
    return Order(when=_when(low, high, float(max(np.diff(steps)))), difference=estimate - other, low=low, high=high)


def _when(low: float, high: float, apart: float) -> When:
    """The answer from the interval of h_a - h_b; checkpoints are at most `apart` steps from each other."""
    if high <= 0:
        return "before"
    if low >= 0:
        return "after"
    return "together" if -apart <= low and high <= apart else "cannot tell"


def half_change_of(steps: Sequence[int], series: Series) -> tuple[float, HalfChangeSteps]:
    """The half-way step of the estimate, and those of its draws."""
    sign = series.change[-1]
    estimate = float(half_change_steps(steps, series.change[None], sign).at[0])
    return estimate, half_change_steps(steps, series.drawn_change, sign)


def sound_steps(incoherent: Series, measures: Sequence[Series] = ()) -> list[int]:
    """The places of the steps at which most answers make sense and no measure misses too many. The parent and the last
    checkpoint are always among them."""
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
    """The place of the checkpoint that lies furthest beyond both the first and the last value, if that is sure.

    It is sure where the 95 % interval of the difference between this checkpoint and the nearer of the two leaves out
    zero; the interval is Bonferroni-adjusted over the checkpoints on the way.
    """
    both, on_the_way = series.values[[0, -1]], series.values[1:-1]
    if not len(on_the_way):
        return None
    beyond = np.maximum(on_the_way - both.max(), both.min() - on_the_way)
    place = 1 + int(beyond.argmax())
    above = series.values[place] > both.max()
    end = (0, len(series.values) - 1)[int(both.argmax() if above else both.argmin())]
    low, high = series.between(place, end, TAIL / len(on_the_way))
    return place if beyond.max() > 0 and (low > 0 or high < 0) else None
