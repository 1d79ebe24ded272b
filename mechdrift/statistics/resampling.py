"""How sure can one be? Intervals, tests and effect sizes for prompts that come in families.

Prompts of one family share a template or a topic, so they are not independent. Everywhere in mechdrift the *family* is
therefore the unit: it is drawn as a whole, and its sign is flipped as a whole. Two models answer the same prompts, so
they are always resampled together. With `F` families, and `m_f` the mean difference (reasoning - instruct) in family f:

    cluster bootstrap  draw weights of the F families, at random. A *statistic* maps `(values [item], weights [draw,
                       item])` to `[draw]`, where a weight says how much the item counts in the draw: `mean`,
                       `balanced_mean`, `auroc`, `d_prime`, `criterion`. `paired_bootstrap` gives both models the same
                       draws and takes the difference. How draws become an interval, with families that were not asked,
                       and how often it holds the truth, is in `intervals`.
    sign flip          if the models do not differ, m_f is as likely as -m_f: p is the share of sign patterns s with
                       |sum s_f m_f| at least as large as observed. Up to 16 families all patterns are counted; beyond,
                       p = (1 + count) / (1 + draws). The least p that F families can give is 2^(1-F). Rates of few
                       items tie often, and counting every tie makes that p too large: of 1,000 null audits of 16
                       families with 2 items each it calls 2 to 3 % significant at 5 %. The *mid-p* counts ties half
                       (Lancaster 1961, doi 10.1080/01621459.1961.10482105) and calls 4 to 5 % so; score tables use it.
                       Its least value is 2^-F.
    max-T              the same flips for a whole grid. A cell has t = mean / (sd / sqrt(F)) over families; its adjusted
                       p is the share of patterns whose largest |t| over *all* cells reaches its own, so that the
                       chance of even one false cell is at most alpha (Westfall & Young 1993, single step).
    band               mean +- q sd / sqrt(F) covers all cells at once in 95 % of experiments, where q is the 95 %
                       quantile of max |t| over sign flips of the *centred* family means (wild bootstrap). Uncentred
                       flips, right for the test, would make the band far too narrow where effects are strong.
    signal detection   H = (hits + .5) / (signals + 1), A = (false alarms + .5) / (noise + 1), the log-linear correction
                       that keeps rates of 0 and 1 finite (Hautus 1995, doi 10.3758/BF03203619); d' = z(H) - z(A) and
                       c = -(z(H) + z(A)) / 2 (Stanislaw & Todorov 1999, doi 10.3758/BF03207704). A hit is a refused
                       trigger, a false alarm a refused neutral item: d' says how well the model tells them apart, and
                       a *lower* c that it refuses more readily.
    smallest effect    a two-sided paired t-test over families finds (t_[1-alpha/2] + t_[power]) sd / sqrt(F) with the
                       given power, sd being that of family means. For a grid of k cells pass alpha / k.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float, Shaped

from mechdrift.errors import MechdriftError
from mechdrift.statistics.intervals import TAIL, Bounds, Interval, effective_families, family_weights, interval_of

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`(values [item], weights [draw, item]) -> [draw]`."""

Counts = int | float | np.number | np.ndarray

DRAWS = 2000
EXACT_FAMILIES = 16
CHUNK = 2**22  # numbers in one block of draws: 32 MB
ROUNDING = 1e-9  # what differs by less is equal: a flip that ties with the data must count as a tie


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDetection:
    """Discrimination and threshold, as numbers or as one number per bootstrap draw."""

    d_prime: float | Float[np.ndarray, " draw"]
    criterion: float | Float[np.ndarray, " draw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxT:
    """A grid's mean effects over families, with inference that holds for all cells at once."""

    effect: Float[np.ndarray, "*cell"]
    t: Float[np.ndarray, "*cell"]
    p: Float[np.ndarray, "*cell"]
    half_width: Float[np.ndarray, "*cell"]
    families: int


def family_means(
    values: Shaped[np.ndarray, "item *cell"], families: Shaped[np.ndarray, " item"]
) -> Float[np.ndarray, "family *cell"]:
    """The mean of each family's items, families in sorted order."""
    values = _numbers(values)
    names, family = np.unique(families, return_inverse=True)
    member = np.eye(len(names))[:, family]
    return np.tensordot(member / member.sum(axis=1, keepdims=True), values, axes=1)


def family_draws(families: int, draws: int, seed: int) -> Shaped[np.ndarray, "draw family"]:
    """How often each family is drawn when `families` of them are drawn with replacement."""
    return np.random.default_rng(seed).multinomial(families, np.full(families, 1 / families), size=draws)


# Statistics: what a bootstrap can be taken of.


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over items."""
    return weights @ values / weights.sum(axis=1)


def balanced_mean(classes: Shaped[np.ndarray, " item"]) -> Statistic:
    """The mean over classes of the class mean, so that a class counts the same however many items it has."""
    members = [classes == label for label in np.unique(classes)]

    def statistic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.mean([mean(values[member], weights[:, member]) for member in members], axis=0)

    return statistic


def auroc(is_trigger: Bool[np.ndarray, " item"]) -> Statistic:
    """The probability that a trigger item scores above a neutral one; ties count one half."""

    def statistic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        order = np.argsort(values)
        levels = np.unique(values[order], return_index=True)[1]  # where each distinct score begins
        trigger = np.add.reduceat((weights * is_trigger)[:, order], levels, axis=1)
        neutral = np.add.reduceat((weights * ~is_trigger)[:, order], levels, axis=1)
        below = np.cumsum(neutral, axis=1) - neutral / 2
        return (trigger * below).sum(axis=1) / (trigger.sum(axis=1) * neutral.sum(axis=1))

    return statistic


def d_prime(is_trigger: Bool[np.ndarray, " item"]) -> Statistic:
    """Discrimination of trigger from neutral items; the values say whether each was refused."""
    return lambda values, weights: np.atleast_1d(_detect(values, weights, is_trigger).d_prime)


def criterion(is_trigger: Bool[np.ndarray, " item"]) -> Statistic:
    """The threshold of refusal, lower being readier; the values say whether each item was refused."""
    return lambda values, weights: np.atleast_1d(_detect(values, weights, is_trigger).criterion)


def _detect(values: np.ndarray, weights: np.ndarray, is_trigger: np.ndarray) -> SignalDetection:
    trigger, neutral = weights[:, is_trigger], weights[:, ~is_trigger]
    return signal_detection(
        trigger @ values[is_trigger], trigger.sum(axis=1), neutral @ values[~is_trigger], neutral.sum(axis=1)
    )


def signal_detection(hits: Counts, signal_n: Counts, false_alarms: Counts, noise_n: Counts) -> SignalDetection:
    """d' and c from counts; NaN where a class has no items."""
    z_hit, z_alarm = (
        scipy.stats.norm.ppf(np.where(np.greater(total, 0), (count + 0.5) / (total + 1.0), np.nan))
        for count, total in ((hits, signal_n), (false_alarms, noise_n))
    )
    return SignalDetection(d_prime=z_hit - z_alarm, criterion=-(z_hit + z_alarm) / 2)


# Intervals.


def cluster_bootstrap(
    values: Shaped[np.ndarray, " item"],
    families: Shaped[np.ndarray, " item"],
    statistic: Statistic = mean,
    *,
    bounds: Bounds,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """A statistic of the items with its interval from resampled families; `bounds` are those of the statistic."""
    values = _numbers(values)
    return _bootstrap(lambda weights: statistic(values, weights), families, bounds, draws, seed)


def paired_bootstrap(
    instruct: Shaped[np.ndarray, " item"],
    reasoning: Shaped[np.ndarray, " item"],
    families: Shaped[np.ndarray, " item"],
    statistic: Statistic = mean,
    *,
    bounds: Bounds,
    draws: int = DRAWS,
    seed: int = 0,
    tail: float = TAIL,
) -> Interval:
    """Reasoning minus instruct, both models on the same draws; `bounds` are those of the statistic of one model. `tail`
    is what the interval leaves out on either side."""
    before, after = _numbers(instruct), _numbers(reasoning)
    return _bootstrap(
        lambda weights: statistic(after, weights) - statistic(before, weights),
        families,
        bounds.of_difference,
        draws,
        seed,
        tail,
    )


def _bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    families: np.ndarray,
    bounds: Bounds,
    draws: int,
    seed: int,
    tail: float = TAIL,
) -> Interval:
    names, family = np.unique(families, return_inverse=True)
    blocks = np.array_split(family_weights(len(names), draws, seed), -(-draws * len(family) // CHUNK))
    with np.errstate(invalid="ignore", divide="ignore"):  # a statistic can be unknown, as of one class only
        estimate = float(statistic(np.ones((1, len(family))))[0])
        drawn = np.concatenate([statistic(block[:, family]) for block in blocks])
    return interval_of(estimate, drawn[~np.isnan(drawn)], effective_families(family), bounds, seed, tail)


def extremes(statistic: Statistic, worst: Shaped[np.ndarray, " item"], best: Shaped[np.ndarray, " item"]) -> Bounds:
    """The bounds of a statistic that takes its least and greatest values on these items."""
    low, high = (float(statistic(_numbers(values), np.ones((1, len(values))))[0]) for values in (worst, best))
    return Bounds(low, high)


# Tests.


def sign_flip_test(
    differences: Shaped[np.ndarray, " item"],
    families: Shaped[np.ndarray, " item"],
    draws: int = 10_000,
    seed: int = 0,
    *,
    mid_p: bool = False,
) -> float:
    """Two-sided p that paired differences are centred on zero, each family's mean counting the same.

    `mid_p` counts patterns that tie with the data half; where no family differs at all, p is 1 in either form.
    """
    scaled = _scale(family_means(differences, families)[:, None])
    signs, exact = _signs(len(scaled), draws, seed)
    observed, null = np.abs(scaled.sum(axis=0)), _maxima(scaled, signs)
    p = float(_share_reaching(observed, null, exact)[0])
    if not mid_p or not scaled.any():
        return p
    ties, patterns = float((np.abs(null - observed) <= ROUNDING).sum()), len(null)
    if not exact:  # the data themselves count as one of the patterns
        ties, patterns = ties + 1, patterns + 1
    return p - ties / patterns / 2


def max_t(
    effects: Shaped[np.ndarray, "prompt *cell"],
    families: Shaped[np.ndarray, " prompt"],
    draws: int = 10_000,
    seed: int = 0,
) -> MaxT:
    """Which cells of a grid have an effect? Family-wise p and a simultaneous 95 % band.

    |t| grows with |r|, r = sum m_f / sqrt(F sum m_f^2), and flips leave the sum of squares as it is: so every draw is
    studentised by scaling the cells once, and all draws are one matrix product of signs and cells.
    """
    means = family_means(effects, families)
    count, shape = len(means), means.shape[1:]
    if count < 2:
        raise MechdriftError("max_t compares families, and there is only one: use prompts of two or more families.")
    means = means.reshape(count, -1)
    signs, exact = _signs(count, draws, seed)
    residuals = means - means.mean(axis=0)
    residuals[np.abs(residuals) <= ROUNDING * np.abs(means)] = 0  # equal effects do not spread, rounding does
    error = np.sqrt((residuals**2).sum(axis=0) / (count - 1) / count)
    scaled = _scale(means)
    p = _share_reaching(np.abs(scaled.sum(axis=0)), _maxima(scaled, signs), exact)
    # "higher": of the draws' maxima themselves, never in between, so that the band is not too narrow with few draws
    reach = _t(np.quantile(_maxima(_scale(residuals), signs), [0.95], method="higher"), count)
    return MaxT(
        effect=means.mean(axis=0).reshape(shape),
        t=_t(scaled.sum(axis=0), count).reshape(shape),
        p=p.reshape(shape),
        half_width=np.multiply(reach, error, out=np.zeros_like(error), where=error > 0).reshape(shape),
        families=count,
    )


def _scale(means: np.ndarray) -> np.ndarray:
    """Divide each column so that its sum is r; a column of zeros stays zero."""
    length = np.sqrt(len(means) * (means**2).sum(axis=0))
    return np.divide(means, length, out=np.zeros_like(means), where=length > 0)


def _t(r: np.ndarray, count: int) -> np.ndarray:
    with np.errstate(divide="ignore"):  # the same effect in every family: t is infinite
        return r * np.sqrt((count - 1) / np.maximum(1 - r**2, 0))


def _signs(count: int, draws: int, seed: int) -> tuple[np.ndarray, bool]:
    """Sign patterns `[draw, family]`, and whether these are all patterns. Of s and -s only one is listed, because both
    give the same |t|."""
    if count > EXACT_FAMILIES:
        return np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, count)), False
    bits = np.arange(2 ** (count - 1))[:, None] >> np.arange(count) & 1
    return 1.0 - 2.0 * bits, True


def _maxima(scaled: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The largest |r| over the cells in each draw."""
    blocks = np.array_split(signs, -(-len(signs) * scaled.shape[1] // CHUNK))
    return np.concatenate([np.abs(block @ scaled).max(axis=1) for block in blocks])


def _share_reaching(observed: np.ndarray, null: np.ndarray, exact: bool) -> np.ndarray:
    reaching = len(null) - np.searchsorted(np.sort(null), observed - ROUNDING)
    return reaching / len(null) if exact else (1 + reaching) / (1 + len(null))


def holm(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Adjust p values so that the probability of even one false finding among them stays below alpha (Holm 1979).

    NaN is no test: it stays NaN, and does not make the others larger.
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # NaN is sorted to the end
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def minimum_detectable_effect(
    sd: float | np.ndarray, n_families: int, power: float = 0.8, alpha: float = 0.05
) -> float | np.ndarray:
    """The mean effect that a paired t-test finds with `power`, given the standard deviation of family means."""
    if n_families < 2:
        return sd * np.nan
    freedom = n_families - 1
    return sd * (scipy.stats.t.isf(alpha / 2, freedom) + scipy.stats.t.ppf(power, freedom)) / np.sqrt(n_families)


def _numbers(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise MechdriftError("There are no values to summarise: the probe set or its selection is empty.")
    if not np.isfinite(values).all():
        raise MechdriftError("Some values are NaN or infinite: leave those items out, in both models.")
    return values
