"""Oracles: closed forms, scikit-learn, enumeration of all sign flips, and error rates over simulated data."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import roc_auc_score

from mechdrift.records import MechdriftError
from mechdrift.statistics.intervals import (
    SHARE,
    UNBOUNDED,
    Bounds,
    Interval,
    effective_families,
    ends,
    family_weights,
    unseen_share,
)
from mechdrift.statistics.resampling import (
    auroc,
    balanced_mean,
    cluster_bootstrap,
    criterion,
    d_prime,
    extremes,
    family_means,
    holm,
    max_t,
    mean,
    minimum_detectable_effect,
    paired_bootstrap,
    sign_flip_test,
    signal_detection,
)

SIX_FAMILIES = np.repeat(["f1", "f2", "f3", "f4", "f5", "f6"], 4)
IS_TRIGGER = np.tile([True, False], 12)
readings = arrays(float, 24, elements=st.floats(-8, 8).map(lambda x: round(x, 3)))
grids = arrays(float, (24, 3, 2), elements=st.floats(-8, 8).map(lambda x: round(x, 3)))
STATISTICS = {
    "mean": mean,
    "balanced_mean": balanced_mean(IS_TRIGGER),
    "auroc": auroc(IS_TRIGGER),
    "d_prime": d_prime(IS_TRIGGER),
    "criterion": criterion(IS_TRIGGER),
}


def judged(rng: np.random.Generator) -> np.ndarray:
    return rng.random(24) < np.where(IS_TRIGGER, 0.8, 0.3)


# Intervals.


def level(values: np.ndarray, families: np.ndarray, statistic=mean, bounds=UNBOUNDED, **settings) -> Interval:
    return cluster_bootstrap(values, families, statistic, bounds=bounds, **settings)


def change(before: np.ndarray, after: np.ndarray, families: np.ndarray, statistic=mean, bounds=SHARE) -> Interval:
    return paired_bootstrap(before, after, families, statistic, bounds=bounds)


def test_the_ends_are_quantiles_over_weighted_families_and_one_that_was_not_asked():
    values = np.random.default_rng(0).random(24)
    blocks, weights = values.reshape(6, 4), family_weights(6, 4000, 3)
    drawn = np.array([np.average(blocks.mean(axis=1), weights=row) for row in weights])
    unseen = np.random.default_rng(9).beta(1 / 2, 6, size=4000)
    found = level(values, SIX_FAMILIES, bounds=SHARE, draws=4000, seed=3)
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(np.quantile((1 - unseen) * drawn, 0.025), abs=0.01)
    assert found.high == pytest.approx(np.quantile((1 - unseen) * drawn + unseen, 0.975), abs=0.01)
    assert family_weights(6, 4000, 3).mean(axis=0) == pytest.approx(np.ones(6), abs=0.05)


@pytest.mark.parametrize("aligned", [0, 1, 4, 15, 16])
def test_of_one_yes_or_no_item_a_family_the_safe_ends_are_clopper_and_pearsons(aligned: int):
    values = (np.arange(16) < aligned).astype(float)
    found = level(values, np.arange(16), bounds=SHARE, draws=20_000)
    exact = stats.binomtest(aligned, 16).proportion_ci(0.95, method="exact")
    assert (found.safe_low, found.safe_high) == pytest.approx((exact.low, exact.high), abs=0.01)
    shown = (
        stats.beta.ppf(0.025, aligned, 16 - aligned + 0.5) if aligned else 0,
        stats.beta.ppf(0.975, aligned + 0.5, 16 - aligned) if aligned < 16 else 1,
    )
    assert (found.low, found.high) == pytest.approx(shown, abs=0.01)


@pytest.mark.parametrize(("lost", "gained"), [(4, 0), (5, 0), (6, 0), (7, 1), (8, 1), (9, 1), (9, 2), (10, 2), (0, 6)])
def test_the_safe_ends_leave_zero_out_where_the_exact_sign_test_rejects(lost: int, gained: int):
    before, after = np.ones(20), np.ones(20)
    before[:gained], after[gained : gained + lost] = 0, 0
    found = change(before, after, np.arange(20))
    p = stats.binomtest(min(lost, gained), lost + gained).pvalue
    assert (found.safe_low > 0 or found.safe_high < 0) == (p < 0.05)


def test_where_nothing_changed_the_bound_is_the_share_that_may_be_unseen():
    for count in (8, 16, 48):
        found = change(np.ones(count), np.ones(count), np.arange(count))
        assert (found.estimate, -found.safe_low, found.safe_high) == pytest.approx(
            (0, unseen_share(count), unseen_share(count)), abs=1e-3
        )
        assert 0 < found.high < found.safe_high
    assert unseen_share(12) == pytest.approx(1 - 0.025 ** (1 / 12))


def test_families_count_not_items():
    """Repeating every item adds no family, so the interval stays; splitting items into families narrows it."""
    values, families = np.random.default_rng(0).random(12), np.arange(12)
    for bounds in (SHARE, UNBOUNDED):
        once = level(values, families, bounds=bounds)
        repeated = level(np.repeat(values, 9), np.repeat(families, 9), bounds=bounds)
        pretended = level(np.repeat(values, 9), np.arange(108), bounds=bounds)
        assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
        assert pretended.high - pretended.low < 0.5 * (once.high - once.low)


def test_a_family_of_many_items_among_small_ones_makes_the_interval_wide():
    values = np.concatenate([np.ones(20), np.tile([0.0, 1.0], 8)])
    uneven = level(values, np.concatenate([np.zeros(20), np.arange(1, 17)]), bounds=SHARE)
    even = level(values, np.arange(36) // 2, bounds=SHARE)
    assert uneven.high - uneven.low > 1.3 * (even.high - even.low)
    assert effective_families(np.repeat(np.arange(7), 3)) == pytest.approx(7)
    assert effective_families(np.array([0] * 20 + list(range(1, 17)))) == pytest.approx(36**2 / 416)


@pytest.mark.parametrize("families", [5, 400])
def test_without_bounds_it_is_students_interval(families: int):
    values = np.random.default_rng(1).normal(size=families)
    found = level(values, np.arange(families), draws=20_000)
    half_width = stats.t.isf(0.025, families - 1) * values.std(ddof=1) / np.sqrt(families)
    assert (found.high - found.estimate) / half_width == pytest.approx(1, abs=0.05)
    assert found.estimate - found.low == pytest.approx(found.high - found.estimate)


@pytest.mark.parametrize("name", STATISTICS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_equal_models_do_not_differ_and_where_a_scale_ends_both_ends_say_what_is_unseen(name: str, seed: int):
    values = judged(np.random.default_rng(seed))
    found = change(values, values.copy(), SIX_FAMILIES, STATISTICS[name])
    assert (found.estimate, found.low) == (0, pytest.approx(-found.high))
    assert 0 < found.high < 1
    endless = change(values, values.copy(), SIX_FAMILIES, STATISTICS[name], UNBOUNDED)
    assert (endless.estimate, endless.low, endless.high) == (0, 0, 0)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("bounds", [SHARE, UNBOUNDED], ids=["share", "unbounded"])
def test_a_change_is_the_difference_of_estimates_and_changes_sign_with_the_order(name: str, bounds: Bounds):
    rng, statistic = np.random.default_rng(5), STATISTICS[name]
    a, b = judged(rng), judged(rng)
    forth, back = (change(*models, SIX_FAMILIES, statistic, bounds) for models in ((a, b), (b, a)))
    separate = [level(values, SIX_FAMILIES, statistic, bounds).estimate for values in (a, b)]
    assert forth.estimate == pytest.approx(separate[1] - separate[0])
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert (forth.safe_low, forth.safe_high) == pytest.approx((-back.safe_high, -back.safe_low))


@given(seed=st.integers(0, 2**32 - 1), place=st.integers(0, 23))
@settings(max_examples=40)
def test_the_interval_moves_with_its_data_within_the_scale_and_is_never_without_width(seed: int, place: int):
    rng = np.random.default_rng(seed)
    before, after = judged(rng).astype(float), judged(rng).astype(float)
    better = after.copy()
    better[place] = 1
    for one, other, scale in (
        (change(before, after, SIX_FAMILIES), change(before, better, SIX_FAMILIES), (-1, 1)),
        (level(after, SIX_FAMILIES, bounds=SHARE), level(better, SIX_FAMILIES, bounds=SHARE), (0, 1)),
    ):
        assert (one.low, one.high, one.safe_low, one.safe_high) <= (
            other.low + 1e-12,
            other.high + 1e-12,
            other.safe_low + 1e-12,
            other.safe_high + 1e-12,
        )
        assert scale[0] <= one.safe_low <= one.low <= one.estimate <= one.high <= one.safe_high <= scale[1]
        assert one.low < one.high


def test_a_smaller_tail_is_a_longer_interval():
    drawn = family_weights(8, 2000, 0) @ np.array([1, 1, 0, 1, 0, 1, 1, 1.0]) / 8
    found = [ends(0.75, drawn, 8, SHARE, tail=tail) for tail in (0.05, 0.025, 0.005)]
    lows, highs = zip(*found, strict=True)
    assert list(lows) == sorted(lows, reverse=True)
    assert list(highs) == sorted(highs)


@given(values=readings, order=st.permutations(range(24)))
@settings(max_examples=30)
def test_the_order_of_items_does_not_matter(values: np.ndarray, order: list[int]):
    orders = (np.arange(24), np.array(order))
    here, there = (level(values[o], SIX_FAMILIES[o], draws=100) for o in orders)
    assert (here.estimate, here.low, here.high) == pytest.approx((there.estimate, there.low, there.high))
    p, q = (sign_flip_test(values[o], SIX_FAMILIES[o]) for o in orders)
    assert p == q


@given(values=readings, scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
@settings(max_examples=30)
def test_the_interval_moves_with_the_unit_of_measurement(values: np.ndarray, scale: float, shift: float):
    raw, moved = (level(v, SIX_FAMILIES, draws=100) for v in (values, scale * values + shift))
    expected = [scale * end + shift for end in (raw.estimate, raw.low, raw.high)]
    assert [moved.estimate, moved.low, moved.high] == pytest.approx(expected, abs=1e-6)


def test_balanced_mean_gives_each_class_the_same_say():
    classes = np.array(["a"] * 9 + ["b"] * 3)
    values = np.where(classes == "a", 1.0, 0.0)
    assert level(values, np.arange(12), balanced_mean(classes)).estimate == 0.5
    assert level(values, np.arange(12), mean).estimate == 0.75


@given(values=readings)
def test_auroc_equals_scikit_learn_also_with_ties(values: np.ndarray):
    found = level(np.round(values), SIX_FAMILIES, auroc(IS_TRIGGER), draws=2)
    assert found.estimate == pytest.approx(roc_auc_score(IS_TRIGGER, np.round(values)))


def test_a_weight_of_two_is_an_item_that_occurs_twice():
    rng = np.random.default_rng(2)
    values, weights = rng.integers(0, 6, 24).astype(float), rng.integers(1, 4, 24)
    is_trigger = np.repeat(IS_TRIGGER, weights)
    repeated = np.repeat(values, weights)
    assert auroc(IS_TRIGGER)(values, weights[None])[0] == pytest.approx(roc_auc_score(is_trigger, repeated))
    once = d_prime(is_trigger)(repeated > 2, np.ones((1, len(repeated))))
    assert d_prime(IS_TRIGGER)(values > 2, weights[None])[0] == pytest.approx(once[0])


def test_the_range_of_d_prime_and_criterion_is_that_of_the_best_and_the_worst_answers():
    best = signal_detection(12, 12, 0, 12).d_prime
    assert extremes(d_prime(IS_TRIGGER), ~IS_TRIGGER, IS_TRIGGER)[:2] == pytest.approx((-best, best))
    eager = signal_detection(12, 12, 12, 12).criterion
    assert extremes(criterion(IS_TRIGGER), np.ones(24), np.zeros(24))[:2] == pytest.approx((eager, -eager))


def test_one_family_has_an_estimate_but_no_interval():
    found = level(np.arange(4.0), np.zeros(4, dtype=int))
    assert found.estimate == 1.5
    assert np.isnan([found.low, found.high, found.safe_low, found.safe_high]).all()


def test_a_perfect_ranking_of_three_items_is_not_sure():
    classes = np.array([True, False, False])
    found = level(np.array([1.0, 0.0, 0.0]), np.arange(3), auroc(classes), SHARE)
    assert (found.estimate, found.high) == (1, 1)
    assert found.low < 0.6


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [1.0, np.inf]])
def test_what_cannot_be_summarised_is_refused(values: list[float]):
    with pytest.raises(MechdriftError, match=r"There are no values|leave those items out"):
        level(np.array(values), np.arange(len(values)))


def audits(rng: np.random.Generator, shares: tuple[float, ...], families: int, items: int, count: int) -> np.ndarray:
    """Answers `[model, audit, item]` of families in which half of the items copy their family's; models correlated."""
    root = np.sqrt(0.5)
    common = root * rng.standard_normal((2, count, families, items))
    own = root * rng.standard_normal((len(shares), 2, count, families, items))
    alone, family = (common + own).swapaxes(0, 1)
    numbers = np.where(rng.random((count, families, items)) < root, family[..., :1], alone)
    below = stats.norm.ppf(shares)[:, None, None, None]
    return (numbers < below).astype(float).reshape(len(shares), count, families * items)


@pytest.mark.parametrize(
    ("parent", "child", "families", "items"),
    [
        (0.6, 0.4, 16, 2),
        (0.97, 0.5, 16, 2),
        (0.97, 0.9, 16, 2),
        (0.97, 0.95, 16, 2),  # percentiles of a bootstrap: 70 %
        (0.97, 0.95, 8, 2),  # 45 %
        (0.99, 0.84, 8, 1),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say_also_near_one_hundred_per_cent(
    parent: float, child: float, families: int, items: int
):
    """150 audits a case; experiments/inference/intervals.md has the whole grid."""
    count, names = 150, np.repeat(np.arange(families), items)
    before, after = audits(np.random.default_rng(11), (parent, child), families, items, count)
    changes = [change(one, other, names) for one, other in zip(before, after, strict=True)]
    levels = [level(one, names, bounds=SHARE) for one in after]
    for found, truth in ((changes, child - parent), (levels, child)):
        held = sum(one.low <= truth <= one.high for one in found)
        assert held >= stats.binom.ppf(0.01, count, 0.93)
    assert sum(one.safe_low > child - parent for one in changes) <= stats.binom.ppf(0.99, count, 0.025)
    assert sum(one.safe_high < child - parent for one in changes) <= stats.binom.ppf(0.99, count, 0.025)


# Tests.


@given(values=readings)
@settings(max_examples=20)
def test_sign_flip_equals_enumeration(values: np.ndarray):
    means = family_means(values, SIX_FAMILIES)
    flipped = np.array([abs(np.dot(signs, means)) for signs in product([1, -1], repeat=6)])
    expected = np.mean(flipped >= abs(means.sum()) - 1e-9 * np.abs(means).max())
    assert sign_flip_test(values, SIX_FAMILIES) == expected


def test_sign_flip_closed_forms():
    families = np.arange(5)
    assert sign_flip_test(np.ones(5), families) == 2 / 2**5
    assert sign_flip_test(np.ones(5), families, mid_p=True) == 1 / 2**5
    assert sign_flip_test(np.zeros(5), families) == sign_flip_test(np.zeros(5), families, mid_p=True) == 1
    assert sign_flip_test(np.zeros(40), np.arange(40)) == 1
    assert sign_flip_test(np.ones(40), np.arange(40), draws=999) == 1 / 1000
    assert sign_flip_test(np.ones(4), np.zeros(4, dtype=int)) == 1


def test_sampled_flips_agree_with_the_t_test():
    differences = np.random.default_rng(4).normal(0.25, 1, size=60)
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert sign_flip_test(differences, np.arange(60)) == pytest.approx(expected, abs=0.01)


def test_holm_adjusts_step_by_step():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])


def test_holm_counts_no_test_that_has_no_p():
    """The oracle: Holm of the others alone, with NaN put back in its place."""
    p = np.array([np.nan, 0.01, 0.04, np.nan, 0.03, 0.005])
    known = ~np.isnan(p)
    found = holm(p)
    assert found[known] == pytest.approx(holm(p[known]))
    assert np.isnan(found[~known]).all()
    assert np.isnan(holm(np.full(2, np.nan))).all()
    assert len(holm(np.array([]))) == 0


# Signal detection.


def test_signal_detection_closed_forms():
    none = signal_detection(10, 20, 10, 20)
    assert (none.d_prime, none.criterion) == pytest.approx((0, 0))
    perfect = signal_detection(20, 20, 0, 20)
    assert perfect.d_prime == pytest.approx(2 * stats.norm.ppf(20.5 / 21))
    assert perfect.criterion == pytest.approx(0)
    eager = signal_detection(20, 20, 20, 20)
    assert eager.criterion == pytest.approx(-stats.norm.ppf(20.5 / 21))
    assert np.isnan(signal_detection(0, 0, 3, 10).d_prime)


def test_the_mirror_image_keeps_discrimination_and_turns_the_criterion():
    one, mirrored = signal_detection(17, 24, 5, 24), signal_detection(19, 24, 7, 24)
    assert mirrored.d_prime == pytest.approx(one.d_prime)
    assert mirrored.criterion == pytest.approx(-one.criterion)


def test_signal_detection_recovers_the_observer():
    """An observer with d' = 1.5 and c = .4 answers 4,000 items of each class."""
    rng, n = np.random.default_rng(0), 4000
    hits, alarms = (int((rng.normal(centre, 1, n) > 0.4).sum()) for centre in (0.75, -0.75))
    found = signal_detection(hits, n, alarms, n)
    assert (found.d_prime, found.criterion) == pytest.approx((1.5, 0.4), abs=0.08)


# Grids.


def brute_force_max_t(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """t and adjusted p of `[family, cell]` by the definition: every pattern, every cell studentised afresh."""
    t = stats.ttest_1samp(means, 0).statistic
    flips = [means * np.array(signs)[:, None] for signs in product([1, -1], repeat=len(means))]
    largest = np.array([np.abs(stats.ttest_1samp(flipped, 0).statistic).max() for flipped in flips])
    return t, np.array([np.mean(largest >= abs(cell) - 1e-9) for cell in t])


def test_max_t_equals_enumeration():
    effects = np.random.default_rng(6).normal(size=(24, 3, 2)) + np.array([1.0, 0])
    found = max_t(effects, SIX_FAMILIES)
    t, p = brute_force_max_t(family_means(effects, SIX_FAMILIES).reshape(6, -1))
    assert found.t.reshape(-1) == pytest.approx(t)
    assert found.p.reshape(-1) == pytest.approx(p)
    assert found.effect == pytest.approx(effects.mean(axis=0))


def test_max_t_of_one_cell_is_the_sign_flip_test():
    effects = np.random.default_rng(7).normal(0.3, 1, size=(60, 1))
    for families in (np.arange(60), np.arange(60) % 8):
        assert max_t(effects, families).p[0] == sign_flip_test(effects[:, 0], families)


@given(effects=grids, order=st.permutations(range(24)), scale=st.floats(0.01, 100))
@settings(max_examples=30)
def test_max_t_knows_neither_order_nor_unit(effects: np.ndarray, order: list[int], scale: float):
    here, there = max_t(effects, SIX_FAMILIES), max_t(-scale * effects[order], SIX_FAMILIES[order])
    assert there.effect == pytest.approx(-scale * here.effect, abs=1e-9)
    assert there.p == pytest.approx(here.p)
    assert there.half_width == pytest.approx(scale * here.half_width, rel=1e-6, abs=1e-9)


def test_a_cell_without_effect_is_never_found():
    effects = np.zeros((24, 2))
    effects[:, 1] = 1 + np.random.default_rng(0).normal(size=24) / 9
    found = max_t(effects, SIX_FAMILIES)
    assert found.p[0] == 1
    assert found.p[1] == 2 / 2**6
    assert found.t[0] == found.half_width[0] == 0


def test_the_same_effect_in_every_family_has_no_spread_and_leaves_the_band_of_other_cells_alone():
    noisy = np.random.default_rng(0).normal(size=(24, 1))
    alone, beside = max_t(noisy, SIX_FAMILIES), max_t(np.hstack([noisy, np.full((24, 1), 0.1)]), SIX_FAMILIES)
    assert beside.half_width == pytest.approx([alone.half_width[0], 0])
    assert beside.p[1] == 2 / 2**6


def test_false_findings_stay_within_alpha():
    """200 grids without an effect, with heavy tails and cells that resemble each other."""
    rng, alpha, grids = np.random.default_rng(8), 0.05, 200
    false = 0
    for _ in range(grids):
        effects = rng.standard_t(4, size=(20, 6, 5)) + rng.normal(size=(20, 1, 5))
        false += max_t(effects, np.arange(20) % 10).p.min() <= alpha
    least, most = stats.binom.ppf([0.001, 0.999], grids, alpha)
    assert least <= false <= most


def test_the_band_covers_all_cells_at_once_where_effects_are_strong():
    rng, grids = np.random.default_rng(9), 150
    truth = np.linspace(0, 5, 40)
    covered = 0
    for _ in range(grids):
        found = max_t(truth + rng.normal(size=(12, 40)), np.arange(12))
        covered += (np.abs(found.effect - truth) <= found.half_width).all()
    least, most = stats.binom.ppf([0.001, 0.999], grids, 0.95)
    assert least <= covered <= most


def test_max_t_needs_two_families():
    with pytest.raises(MechdriftError, match="two or more families"):
        max_t(np.ones((3, 2)), np.zeros(3, dtype=int))


def test_the_smallest_effect_is_found_with_the_promised_power():
    rng, families, trials = np.random.default_rng(10), 16, 2000
    effect = minimum_detectable_effect(2.0, families)
    samples = rng.normal(effect, 2.0, size=(families, trials))
    found = (stats.ttest_1samp(samples, 0).pvalue <= 0.05).sum()
    least, most = stats.binom.ppf([0.001, 0.999], trials, 0.8)
    assert least <= found <= most
