"""Tests and intervals after every wave: known boundaries, enumerated sign patterns, one look as an ordinary test."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from mechdrift.statistics.resampling import sign_flip_test
from mechdrift.statistics.sequential import (
    ALPHA,
    Evidence,
    boundaries,
    decide,
    repeated_tail,
    sequential_p,
    spending,
)

QUARTERS = (0.25, 0.5, 0.75, 1.0)


def test_four_equal_looks_have_the_published_boundaries():
    """Lan-DeMets spending of the O'Brien-Fleming type, two-sided 5 %: Proschan, Lan & Wittes 2006, table 5.2."""
    assert boundaries(QUARTERS) == pytest.approx((4.3326, 2.9631, 2.3590, 2.0141), abs=2e-4)


def test_one_look_has_the_normal_quantile():
    assert boundaries((1.0,)) == pytest.approx((1.95996,), abs=1e-4)
    assert repeated_tail((1.0,), 0) == pytest.approx(0.025)


def test_all_is_spent_at_the_end_and_little_before():
    shares = spending(QUARTERS)
    assert shares[-1] == pytest.approx(1)
    assert (np.diff(shares) > 0).all()
    assert shares[0] < 1e-3


def test_simulated_walks_cross_the_boundaries_as_often_as_was_spent():
    steps = np.random.default_rng(0).standard_normal((200_000, 4))
    z = np.abs(steps.cumsum(axis=1)) / np.sqrt([1, 2, 3, 4])
    assert (z >= boundaries(QUARTERS)).any(axis=1).mean() == pytest.approx(ALPHA, abs=0.002)


@pytest.mark.parametrize("families", [6, 11, 16])
def test_one_look_is_the_ordinary_sign_flip_test(families):
    means = np.random.default_rng(families).integers(-2, 4, families) / 3
    expected = sign_flip_test(means, np.arange(families), mid_p=True)
    assert sequential_p([means], [1.0]) == pytest.approx(expected, rel=2e-3)


def test_means_of_any_size_are_tested_as_well():
    means = np.random.default_rng(0).normal(0.3, 0.5, 14)
    expected = sign_flip_test(means, np.arange(14), mid_p=True)
    assert sequential_p([means], [1.0]) == pytest.approx(expected, rel=0.03)


def reaches_by_enumeration(waves, fractions, level):
    """The same rule, over a list of all sign patterns."""
    signs = np.array(list(product([-1, 1], repeat=sum(map(len, waves)))))
    ends, spent = np.cumsum([len(wave) for wave in waves]), 0.0
    going, means = np.ones(len(signs), dtype=bool), np.concatenate(waves)
    for end, share in zip(ends, spending(fractions), strict=True):
        totals = np.round(np.abs(signs[:, :end] @ means[:end]), 9)
        possible = np.unique(totals[going & (totals > 0)])
        tails = [(going & (totals > c)).mean() + (going & (totals == c)).mean() / 2 for c in possible]
        rare = [c for c, tail in zip(possible, tails, strict=True) if tail <= level * share - spent]
        if rare:
            if round(abs(float(means[:end].sum())), 9) >= rare[0]:
                return True
            spent += (going & (totals >= rare[0])).mean()
            going &= totals < rare[0]
    return False


@pytest.mark.parametrize("seed", range(6))
def test_two_waves_are_those_of_all_sign_patterns(seed):
    rng = np.random.default_rng(seed)
    waves, fractions = [rng.integers(-1, 3, 6) / 2 for _ in range(2)], [0.5, 1.0]
    p = sequential_p(waves, fractions)
    assert p == 1.0 or reaches_by_enumeration(waves, fractions, p * 1.002)
    assert not reaches_by_enumeration(waves, fractions, p / 1.003)


def test_of_all_sign_patterns_as_many_are_found_as_the_level_says():
    magnitudes = np.random.default_rng(1).permutation(np.arange(1, 8)) / 7
    patterns = np.array(list(product([-1.0], *[[-1.0, 1.0]] * 6))) * magnitudes  # of s and -s one is enough
    found = [sequential_p([means[:4], means[4:]], [4 / 7, 1.0]) <= 0.2 for means in patterns]
    assert np.mean(found) == pytest.approx(0.2, abs=0.04)


def test_looking_again_never_makes_a_found_change_unfound():
    rng = np.random.default_rng(3)
    waves = [rng.normal(-0.4, 0.2, 12).round(1) for _ in range(4)]
    found = [sequential_p(waves[:k], QUARTERS[:k]) for k in (1, 2, 3, 4)]
    assert found == sorted(found, reverse=True)
    assert found[1] < 0.01


def test_no_family_that_differs_is_no_evidence_of_a_change():
    assert sequential_p([np.zeros(12), np.zeros(12)], [0.25, 0.5]) == 1.0


def test_one_family_can_never_be_significant():
    assert sequential_p([np.array([1.0])], [1.0]) > 0.4


def test_decisions_use_holm_the_interval_and_the_margin():
    found = [
        Evidence(p=0.001, low=-0.5, high=-0.2),
        Evidence(p=0.03, low=-0.3, high=-0.01),  # .03 x 3 is not below .05
        Evidence(p=0.8, low=-0.1, high=0.14),
        Evidence(p=0.9, low=-0.1, high=0.15),
    ]
    assert decide(found, 0.15) == ["changed", "go on", "no change", "go on"]


def test_later_looks_leave_out_more():
    tails = [repeated_tail(QUARTERS, look) for look in range(4)]
    assert tails == sorted(tails)
    assert tails[-1] == pytest.approx(stats.norm.sf(2.0141), rel=1e-3)
