"""When do the data suffice? Tests and intervals that stay valid when data are looked at after every wave of families.

Prompts cost tokens, so families are asked in waves, and after each wave the data so far are tested. Testing several
times at the 5 % level finds a change that is not there in far more than 5 % of cases. A *group-sequential* design
spends the error probability over its looks instead:

    spending     By the look at which a fraction t of the families was asked, the share

                     f(t) = 2 (1 - Phi(z / sqrt(t))) / 0.025,   with z = 2.24, so that 1 - Phi(z) = 0.0125,

                 of the error probability may be spent, on either side (Lan & DeMets 1983, doi 10.1093/biomet/70.3.659).
                 This is the O'Brien-Fleming type: it spends hardly anything early, and nearly all at the last look,
                 which is then almost as powerful as a single test. With four equal waves |z| has to reach 4.33, 2.96,
                 2.36, 2.01.
    sign flips   Under the null hypothesis each family's mean difference is as likely m_f as -m_f. So the distribution
                 of the sums after wave 1, 2, ... is known exactly, and it is computed, not drawn: probability on the
                 lattice of possible sums moves by +m_f and -m_f, 1/2 each. At each look the largest |sums| are
                 removed, as many as the spending allows. Where ties leave some probability unspent, or spend too much,
                 the next look corrects for it. Ties count half (mid-p), so that with one look the p is that of
                 `resampling.sign_flip_test`.
    p            The sequential p is the smallest error probability at which a boundary has been reached by now (Liu &
                 Anderson 2008, doi 10.1198/016214508000000986). It is valid whenever one stops. So Holm's correction
                 over dimensions applies to it as to any p, although each dimension stops at its own wave (Maurer &
                 Bretz 2013, doi 10.1080/19466315.2013.807748).
    intervals    A *repeated* confidence interval excludes at each look what the boundary of that look rejects
                 (Jennison & Turnbull 1989, doi 10.1111/j.2517-6161.1989.tb01433.x): with the normal boundary z_k, it
                 leaves out 1 - Phi(z_k) on either side instead of 2.5 %. With 95 % probability, the intervals of all
                 looks hold the truth together, and so does the one at which an audit stops.
    decision     *changed* where the Holm-adjusted p is below 0.05 and the interval excludes 0. *no change*, meaning
                 none larger than the margin, where the whole interval lies between -margin and +margin. Otherwise the
                 next wave is asked. A false "no change" of one dimension has a probability of at most 2.5 %, one tail
                 of its interval.

`experiments/inference/waves.md` shows how often this errs, and how many prompts it saves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, cast

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import optimize, signal, stats

from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.resampling import holm

Decision = Literal["changed", "no change", "go on"]
UNITS = 2520  # divisible by 1 to 10: means of up to ten yes-or-no items are whole numbers of units
COARSE = 252  # units of all other means
EXACT = 1e-6  # of a unit: a value that is nearer to a whole number counts as that number
GRID = 1001  # points of the numerical integration, odd for Simpson's rule
DRAWS = 10_000  # of repeated intervals, whose tails are narrow at early looks
PRECISION = 1e-3  # of a sequential p, relative
LEAST = 2.0**-60  # a smaller sequential p is reported as this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence on one dimension after a look: the sequential p, and the ends of the repeated interval."""

    p: float
    low: float
    high: float


def spending(fractions: Sequence[float]) -> Float[np.ndarray, " look"]:
    """The share of the error probability that may be spent by each look; `fractions` of the families were asked then.

    O'Brien-Fleming type: at an error probability of 5 % these are the boundaries of Lan & DeMets (1983), and at any
    other the same shape.
    """
    side = ALPHA / 2
    return 2 * stats.norm.sf(stats.norm.isf(side / 2) / np.sqrt(np.asarray(fractions, dtype=float))) / side


# Normal boundaries, for intervals.


@lru_cache(maxsize=64)
def boundaries(fractions: tuple[float, ...], level: float = ALPHA) -> tuple[float, ...]:
    """The |z| that a two-sided test has to reach at each look, by recursive integration (Armitage, McPherson & Rowe
    1969, doi 10.2307/2343787).

    `fractions` rise to at most 1. Four equal looks at 5 % give 4.333, 2.963, 2.359, 2.014.
    """
    found: list[float] = []
    at, mass, last = np.zeros(1), np.ones(1), 0.0  # points of the score process, and the probability at each
    for fraction, step in zip(fractions, np.diff([0.0, *(level * spending(fractions))]), strict=True):
        spread = np.sqrt(fraction - last)
        end = cast("float", optimize.brentq(_beyond_less, 0.0, 40.0, args=(at, mass, spread, step)))
        found.append(end / np.sqrt(fraction))
        points = np.linspace(-end, end, GRID)
        weights = _simpson(points)
        mass, at, last = weights * (stats.norm.pdf(points[:, None], at, spread) @ mass), points, fraction
    return tuple(map(float, found))


def _beyond_less(end: float, at: np.ndarray, mass: np.ndarray, spread: float, step: float) -> float:
    """The probability that the process, still going at `at`, next lies beyond +-end, less `step`."""
    return float((stats.norm.sf((end - at) / spread) + stats.norm.cdf((-end - at) / spread)) @ mass) - step


def _simpson(points: np.ndarray) -> np.ndarray:
    weights = np.full(len(points), 2.0)
    weights[1::2], weights[[0, -1]] = 4.0, 1.0
    return weights * (points[1] - points[0]) / 3


def repeated_tail(fractions: Sequence[float], look: int) -> float:
    """The probability that a 95 % repeated interval leaves out on either side at a look (counted from 0):
    1 - Phi(z_look)."""
    return float(stats.norm.sf(boundaries(tuple(fractions))[look]))


# The exact sign-flip test.


def sequential_p(waves: Sequence[Shaped[np.ndarray, " _"]], fractions: Sequence[float]) -> float:
    """Two-sided p that families' mean differences are centred on zero, looked at after each wave.

    Args:
        waves: the mean differences of the families of each wave so far.
        fractions: the fraction of all planned families that was asked by each of these looks.

    Returns:
        The smallest error probability at which a boundary was reached by now, from 0 to 1; 1 where no family differs.

    Source:
        Spending: Lan & DeMets 1983; sequential p: Liu & Anderson 2008; mid-p: Lancaster 1961.
    """
    steps, shares = _in_units(waves), spending(fractions)
    sums, totals = [_all_sums(wave) for wave in steps], np.cumsum([wave.sum() for wave in steps])
    reaches = partial(_reaches, sums, totals, shares)
    if not any(wave.any() for wave in steps) or not reaches(1.0):
        return 1.0
    low, high = ALPHA, 1.0
    while low > LEAST and reaches(low):
        low, high = low / 16, low
    while high > low * (1 + PRECISION):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def is_found(waves: Sequence[Shaped[np.ndarray, " _"]], fractions: Sequence[float], level: float) -> bool:
    """Whether `sequential_p` is at most `level`."""
    steps = _in_units(waves)
    sums, totals = [_all_sums(wave) for wave in steps], np.cumsum([wave.sum() for wave in steps])
    return any(wave.any() for wave in steps) and _reaches(sums, totals, spending(fractions), level)


def _in_units(waves: Sequence[np.ndarray]) -> list[Int[np.ndarray, " _"]]:
    """Mean differences as whole numbers: exactly, where they are shares of up to ten items, else rounded to a 252nd of
    the largest. Rounding is the same for m and -m, so the test of rounded means is exact, too."""
    means = np.concatenate([np.zeros(1), *waves])
    scaled = means * UNITS
    if np.abs(scaled - np.rint(scaled)).max() > EXACT:
        scaled = means * COARSE / np.abs(means).max()
    whole = np.rint(scaled).astype(np.int64)
    whole //= max(int(np.gcd.reduce(whole)), 1)
    return np.split(whole[1:], np.cumsum([len(wave) for wave in waves])[:-1])


def _all_sums(steps: Int[np.ndarray, " family"]) -> Float[np.ndarray, " sum"]:
    """The probability of every sum of the families of one wave with random signs, from the least to the greatest."""
    mass = np.ones(1)
    for step in np.abs(steps[steps != 0]):
        moved = np.zeros(len(mass) + 2 * step)
        moved[: len(mass)] += mass / 2
        moved[2 * step :] += mass / 2
        mass = moved
    return mass


def _reaches(sums: Sequence[np.ndarray], totals: np.ndarray, shares: np.ndarray, level: float) -> bool:
    """Whether the total of the families so far reaches the boundary of an error probability at one of the looks.

    `mass` holds the probability of each total, from the least to the greatest, that has not reached a boundary yet.
    """
    mass, spent = np.ones(1), 0.0
    for added, total, share in zip(sums, totals, shares, strict=True):
        mass = np.maximum(signal.convolve(mass, added), 0.0)  # rounding may go below
        centre = len(mass) // 2
        two_sided = mass[centre:] + mass[centre::-1]
        two_sided[0] /= 2  # a total of 0 has one sign
        beyond = two_sided[::-1].cumsum()[::-1]
        rare = np.flatnonzero((beyond - two_sided / 2)[1:] <= level * share - spent) + 1
        if len(rare):
            end = int(rare[0])
            if abs(total) >= end:
                return True
            spent += float(beyond[end])
            mass[: centre - end + 1] = mass[centre + end :] = 0.0
    return False


def decide(found: Sequence[Evidence], margin: float) -> list[Decision]:
    """The decision on each dimension: changed, no change larger than the margin, or go on.

    `found` has all dimensions, because Holm's correction counts them all; those that were decided at an earlier wave
    have the evidence of then.
    """
    adjusted = holm(np.array([each.p for each in found]))
    return [_decision(each, p, margin) for each, p in zip(found, adjusted, strict=True)]


def _decision(evidence: Evidence, p: float, margin: float) -> Decision:
    if p < ALPHA and (evidence.low > 0 or evidence.high < 0):
        return "changed"
    return "no change" if -margin < evidence.low and evidence.high < margin else "go on"
