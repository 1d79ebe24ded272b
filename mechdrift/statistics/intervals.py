"""Intervals over families of items that keep their coverage near 0 and 100 %.

An interval from resampled families (the bootstrap's percentiles) has no width where no family differs from another, and
is far too short where few do. An example is a parent with 97 % aligned answers and a child with 95 %: a nominal 95 %
interval held the true change in 45 to 70 % of simulated audits, and always erred on the side that hides a loss. It
ignores the families that were not asked. So one more family is added, with the worst value for the end in question:

    draw        F families get weights from the uniform Dirichlet distribution (the Bayesian bootstrap, Rubin 1981, doi
                10.1214/aos/1176345338), and T is the statistic with these weights. No family ever has weight 0, so that
                every draw has both classes of items.
    unseen      families that were not asked get the share u ~ Beta(c, F). Whatever their answers, the statistic lies
                between the least value a and the greatest value b that it can have. So the interval runs

                    from the 2.5 % quantile of (1 - u) T + u a    to the 97.5 % quantile of (1 - u) T + u b

    safe ends   c = 1 is the bound of Gaffke (2005) for the mean of a bounded variable, with no other assumption
                (Learned-Miller & Thomas 2019, arXiv 1905.06208): each end is wrong in at most 2.5 % of experiments,
                even with few families, and whatever the correlation of the items inside a family. This is proven in
                special cases, and no exception is known. For one yes-or-no item per family these are the ends of
                Clopper & Pearson (1934), and those of a paired difference exclude 0 exactly where the exact sign test
                is below 2.5 % on that side. Where nothing changed in any family, a share of 1 - 0.025^(1/F) may have
                changed unseen (`unseen_share`). Gates use the safe ends.
    shown ends  Two safe ends together hold the truth in more than 95 % of experiments, because neither is ever too
                short. In tables and figures, c = 1/k, where an item has k outcomes: 2 for a level, 3 for a difference
                (lost, same, gained), 5 for a difference of differences. One unseen family is then spread evenly over
                the outcomes (Perks 1947); for a level that is Jeffreys' interval (Brown, Cai & DasGupta 2001, doi
                10.1214/ss/1009213286).

`experiments/inference/intervals.md` shows how often they hold the truth, compared with other methods, for parents from
50 to 99 %, 8 to 48 families of 1 to 3 items, and correlations of 0 to 0.8.

A statistic without bounds (log-odds, divergences) has no worst value. Its ends are estimate +- t se, with the standard
error of the draws and Student's quantile for F - 1 degrees of freedom. Where families differ in size, F is their
effective number (sum n)^2 / sum n^2 (Kish 1965).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

TAIL = 0.025
SAFE_UNSEEN = 1.0  # the weight of unseen families with which neither end is wrong in more than 2.5 %


class Bounds(NamedTuple):
    """The least and the greatest value that a statistic can have, infinite where it has none; and how many outcomes an
    item has."""

    low: float
    high: float
    outcomes: int = 2

    @property
    def of_difference(self) -> "Bounds":
        """The bounds of a difference of two such values."""
        return Bounds(self.low - self.high, self.high - self.low, 2 * self.outcomes - 1)


SHARE = Bounds(0.0, 1.0)
SIGNED_SHARE = SHARE.of_difference
POSITIVE = Bounds(0.0, np.inf)
UNBOUNDED = Bounds(-np.inf, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its 95 % interval and its safe ends, each of which is wrong in at most 2.5 % of experiments.

    All ends are NaN where there is only one family, because nothing can be resampled.
    """

    estimate: float
    low: float
    high: float
    safe_low: float
    safe_high: float


def family_weights(families: int, draws: int, seed: int) -> Float[np.ndarray, "draw family"]:
    """Weights of families from the uniform Dirichlet distribution, 1 on average."""
    weights = np.random.default_rng(seed).standard_exponential((draws, families))
    return weights * (families / weights.sum(axis=1, keepdims=True))


def effective_families(families: Shaped[np.ndarray, " item"]) -> float:
    """The number of families of equal size with the same information: (sum n)^2 / sum n^2."""
    sizes = np.unique(families, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def interval_of(
    estimate: float,
    drawn: Float[np.ndarray, " draw"],
    families: float,
    bounds: Bounds,
    seed: int = 0,
    tail: float = TAIL,
) -> Interval:
    """The estimate with both kinds of ends; `tail` is the probability that is left out on each side."""
    (low, high), (safe_low, safe_high) = (
        ends(estimate, drawn, families, bounds, unseen=unseen, tail=tail, seed=seed) for unseen in (None, SAFE_UNSEEN)
    )
    return Interval(
        estimate=estimate, low=float(low), high=float(high), safe_low=float(safe_low), safe_high=float(safe_high)
    )


def ends(
    estimate: Float[np.ndarray, "*place"] | float,
    drawn: Float[np.ndarray, "draw *place"],
    families: float,
    bounds: Bounds,
    *,
    unseen: float | None = None,
    tail: float = TAIL,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "*place"], Float[np.ndarray, "*place"]]:
    """Both ends of the interval of statistics from their draws under `family_weights`; NaN with one family.

    `unseen` is c, by default 1/k; `tail` the probability that is left out on either side. The unseen shares are the
    same for both ends and for all data, so that an interval moves with its data and changes sign with them.
    """
    if families <= 1 or not len(drawn):
        nothing = np.full(np.shape(estimate), np.nan)
        return nothing, nothing
    shares = _unseen_shares(families, len(drawn), unseen or 1 / bounds.outcomes, seed)
    shares = shares.reshape(-1, *[1] * (drawn.ndim - 1))
    last = max(int(tail * len(drawn) + 1e-9) - 1, 0)  # a draw's own value, so that the share beyond is tail at most
    low, high = (
        np.partition(drawn + shares * (bound - drawn), place, axis=0)[place]
        if np.isfinite(bound)
        else estimate + sign * stats.t.isf(tail, families - 1) * _standard_error(drawn, families)
        for bound, place, sign in ((bounds.low, last, -1), (bounds.high, len(drawn) - 1 - last, 1))
    )
    low, high = np.minimum(low, estimate), np.maximum(high, estimate)
    return np.asarray(np.maximum(low, bounds.low)), np.asarray(np.minimum(high, bounds.high))  # rounding goes beyond


def _standard_error(drawn: Float[np.ndarray, "draw *place"], families: float) -> Float[np.ndarray, "*place"]:
    """The standard error from the spread of the draws. Of a mean over F families with standard deviation sd it is
    sd / sqrt(F), while draws under `family_weights` spread by sqrt((F - 1) / (F + 1)) of that."""
    return np.asarray(drawn.std(axis=0) * np.sqrt((families + 1) / (families - 1)))


@lru_cache(maxsize=128)
def _unseen_shares(families: float, draws: int, unseen: float, seed: int) -> Float[np.ndarray, " draw"]:
    """Beta(unseen, families) in as many draws: evenly spaced quantiles in random order, so that the ends are exact
    where no family differs."""
    order = np.random.default_rng((seed, 1)).permutation(draws)
    return stats.beta.ppf((order + 1) / (draws + 1), unseen, families)


def unseen_share(n_families: float) -> float:
    """Where none of n families changed: the largest share s of all families that may have changed unseen, by
    (1 - s)^n = 2.5 %."""
    return 1 - TAIL ** (1 / n_families)
