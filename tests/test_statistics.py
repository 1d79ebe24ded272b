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
from mechdrift.statistics.resampling import (
    auroc,
    balanced_mean,
    cluster_bootstrap,
    criterion,
    d_prime,
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


def test_bootstrap_equals_a_loop_over_resampled_families():
    values = np.random.default_rng(0).normal(size=24)
    blocks = values.reshape(6, 4)
    drawn = [
        np.repeat(blocks, counts, axis=0).mean()
        for counts in np.random.default_rng(3).multinomial(6, [1 / 6] * 6, size=500)
    ]
    found = cluster_bootstrap(values, SIX_FAMILIES, draws=500, seed=3)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_families_count_not_items():
    """Repeating every item adds no family, so the interval stays; splitting items into families narrows it."""
    values, families = np.random.default_rng(0).normal(size=12), np.arange(12)
    once = cluster_bootstrap(values, families)
    repeated = cluster_bootstrap(np.repeat(values, 9), np.repeat(families, 9))
    pretended = cluster_bootstrap(np.repeat(values, 9), np.arange(108))
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    assert pretended.high - pretended.low < 0.5 * (once.high - once.low)


def test_bootstrap_interval_agrees_with_the_normal_one():
    values = np.random.default_rng(1).normal(size=400)
    found = cluster_bootstrap(values, np.arange(400), draws=4000)
    half_width = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.01)


@pytest.mark.parametrize("name", STATISTICS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_equal_models_differ_by_exactly_zero(name: str, seed: int):
    values = judged(np.random.default_rng(seed))
    found = paired_bootstrap(values, values.copy(), SIX_FAMILIES, STATISTICS[name], draws=50)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize("name", STATISTICS)
def test_paired_bootstrap_is_the_difference_of_estimates_and_changes_sign_with_the_order(name: str):
    rng, statistic = np.random.default_rng(5), STATISTICS[name]
    a, b = judged(rng), judged(rng)
    forth, back = (paired_bootstrap(*models, SIX_FAMILIES, statistic) for models in ((a, b), (b, a)))
    separate = [cluster_bootstrap(values, SIX_FAMILIES, statistic).estimate for values in (a, b)]
    assert forth.estimate == pytest.approx(separate[1] - separate[0])
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))


@given(values=readings, order=st.permutations(range(24)))
@settings(max_examples=30)
def test_the_order_of_items_does_not_matter(values: np.ndarray, order: list[int]):
    orders = (np.arange(24), np.array(order))
    here, there = (cluster_bootstrap(values[o], SIX_FAMILIES[o], draws=100) for o in orders)
    assert (here.estimate, here.low, here.high) == pytest.approx((there.estimate, there.low, there.high))
    p, q = (sign_flip_test(values[o], SIX_FAMILIES[o]) for o in orders)
    assert p == q


@given(values=readings, scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
@settings(max_examples=30)
def test_the_interval_moves_with_the_unit_of_measurement(values: np.ndarray, scale: float, shift: float):
    raw, moved = (cluster_bootstrap(v, SIX_FAMILIES, draws=100) for v in (values, scale * values + shift))
    expected = [scale * end + shift for end in (raw.estimate, raw.low, raw.high)]
    assert [moved.estimate, moved.low, moved.high] == pytest.approx(expected, abs=1e-6)


def test_balanced_mean_gives_each_class_the_same_say():
    classes = np.array(["a"] * 9 + ["b"] * 3)
    values = np.where(classes == "a", 1.0, 0.0)
    assert cluster_bootstrap(values, np.arange(12), balanced_mean(classes)).estimate == 0.5
    assert cluster_bootstrap(values, np.arange(12), mean).estimate == 0.75


@given(values=readings)
def test_auroc_equals_scikit_learn_also_with_ties(values: np.ndarray):
    found = cluster_bootstrap(np.round(values), SIX_FAMILIES, auroc(IS_TRIGGER), draws=2)
    assert found.estimate == pytest.approx(roc_auc_score(IS_TRIGGER, np.round(values)))


def test_a_weight_of_two_is_an_item_that_occurs_twice():
    rng = np.random.default_rng(2)
    values, weights = rng.integers(0, 6, 24).astype(float), rng.integers(1, 4, 24)
    is_trigger = np.repeat(IS_TRIGGER, weights)
    repeated = np.repeat(values, weights)
    assert auroc(IS_TRIGGER)(values, weights[None])[0] == pytest.approx(roc_auc_score(is_trigger, repeated))
    once = d_prime(is_trigger)(repeated > 2, np.ones((1, len(repeated))))
    assert d_prime(IS_TRIGGER)(values > 2, weights[None])[0] == pytest.approx(once[0])


def test_one_family_has_an_estimate_but_no_interval():
    found = cluster_bootstrap(np.arange(4.0), np.zeros(4, dtype=int))
    assert found.estimate == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_draws_without_one_class_are_left_out():
    classes = np.array([True, False, False])
    found = cluster_bootstrap(np.array([1.0, 0.0, 0.0]), np.arange(3), auroc(classes))
    assert (found.estimate, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [1.0, np.inf]])
def test_what_cannot_be_summarised_is_refused(values: list[float]):
    with pytest.raises(MechdriftError, match=r"There are no values|leave those items out"):
        cluster_bootstrap(np.array(values), np.arange(len(values)))


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
