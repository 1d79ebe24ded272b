"""Random-effects summaries: a published example, closed forms, and how often intervals hold a planted mean."""

import numpy as np
import pytest
from scipy import stats

from mechdrift.records import MechdriftError
from mechdrift.statistics.pooling import mean_of_independent, pool, reml, variance_from_interval

# Tuberculosis in thirteen trials of the BCG vaccine (Colditz et al. 1994): cases and others, vaccinated and not.
TRIALS = [
    (4, 119, 11, 128),
    (6, 300, 29, 274),
    (3, 228, 11, 209),
    (62, 13536, 248, 12619),
    (33, 5036, 47, 5761),
    (180, 1361, 372, 1079),
    (8, 2537, 10, 619),
    (505, 87886, 499, 87892),
    (29, 7470, 45, 7232),
    (17, 1699, 65, 1600),
    (186, 50448, 141, 27197),
    (5, 2493, 3, 2338),
    (27, 16886, 29, 17825),
]


def log_risk_ratios() -> tuple[np.ndarray, np.ndarray]:
    cases, others, untreated_cases, untreated_others = np.array(TRIALS, dtype=float).T
    treated, untreated = cases + others, untreated_cases + untreated_others
    ratios = np.log(cases / treated) - np.log(untreated_cases / untreated)
    return ratios, 1 / cases - 1 / treated + 1 / untreated_cases - 1 / untreated


def test_a_published_example_comes_out():
    """metafor's own example (Viechtbauer 2010): tau^2 0.3132, I^2 92.22 %, Q 152.23, mean -0.7145."""
    found = pool(*log_risk_ratios())
    assert found.k == 13
    assert found.estimate == pytest.approx(-0.7145, abs=5e-5)
    assert found.tau**2 == pytest.approx(0.3132, abs=5e-5)
    assert found.i2 == pytest.approx(0.9222, abs=5e-5)
    assert found.q == pytest.approx(152.2330, abs=5e-5)
    assert found.p_equal < 1e-4


def test_with_equal_variances_it_is_the_t_interval():
    """All weights are equal then: tau^2 is the variance minus v, and Hartung and Knapp's interval Student's."""
    values = np.array([-0.3, -0.1, 0.0, 0.2, -0.25, -0.6])
    found = pool(values, np.full(6, 0.01))
    assert found.tau**2 == pytest.approx(values.var(ddof=1) - 0.01)
    student = stats.ttest_1samp(values, 0.0)
    np.testing.assert_allclose((found.low, found.high), student.confidence_interval())
    assert found.p == pytest.approx(student.pvalue)
    wide = np.sqrt(found.tau**2 + values.var(ddof=1) / 6)
    assert found.predicted_high - found.estimate == pytest.approx(stats.t.isf(0.025, 5) * wide)


def test_estimates_that_agree_have_no_heterogeneity_and_no_false_precision():
    values = np.array([0.1, 0.1, 0.1, 0.1])
    found = pool(values, np.array([0.01, 0.02, 0.04, 0.08]))
    assert (found.tau, found.i2, found.q) == (0, 0, pytest.approx(0))
    se = np.sqrt(1 / (1 / np.array([0.01, 0.02, 0.04, 0.08])).sum())
    assert found.high - found.estimate == pytest.approx(stats.t.isf(0.025, 3) * se)  # and not 0, as q is


def test_reml_is_where_no_other_value_is_likelier():
    ratios, variances = log_risk_ratios()

    def restricted(tau2: float) -> float:
        covariance = np.diag(variances + tau2)
        ones, inverse = np.ones((len(ratios), 1)), np.linalg.inv(covariance)
        information = (ones.T @ inverse @ ones).item()
        residuals = ratios - (ones.T @ inverse @ ratios).item() / information
        return -0.5 * (np.linalg.slogdet(covariance)[1] + np.log(information) + residuals @ inverse @ residuals)

    found = reml(ratios, variances)
    assert restricted(found) >= max(restricted(found + step) for step in (-0.05, -1e-4, 1e-4, 0.05))


@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_intervals_hold_the_planted_mean_and_the_next_unit(tau):
    rng = np.random.default_rng(5)
    mean, next_unit = [], []
    for _ in range(200):
        variances = rng.uniform(0.002, 0.02, 8)
        true = rng.normal(-0.05, tau, 9)
        found = pool(rng.normal(true[:8], np.sqrt(variances)), variances)
        mean.append(found.low <= -0.05 <= found.high)
        next_unit.append(found.predicted_low <= true[8] <= found.predicted_high)
    assert np.mean(mean) >= 0.93
    assert np.mean(next_unit) >= 0.82


def test_one_unit_is_not_pooled_and_nonsense_is_refused():
    alone = pool(np.array([0.2]), np.array([0.01]))
    assert (alone.k, alone.estimate) == (1, 0.2)
    assert np.isnan([alone.low, alone.tau, alone.predicted_high]).all()
    for estimates, variances in (([], []), ([0.1, np.nan], [1.0, 1.0]), ([0.1, 0.2], [1.0, 0.0])):
        with pytest.raises(MechdriftError, match="variances above 0"):
            pool(np.array(estimates, dtype=float), np.array(variances))


def test_variances_and_means_come_from_intervals():
    assert variance_from_interval(2 * 1.959964) == pytest.approx(1)
    assert variance_from_interval(0.0) == 0
    assert variance_from_interval(2 * 4.333, reach=4.333) == pytest.approx(1)
    mean, low, high = mean_of_independent(np.array([0.0, 1.0]), np.array([-3.0, -3.0]), np.array([3.0, 5.0]))
    assert (mean, low, high) == (0.5, pytest.approx(0.5 - 2.5), pytest.approx(0.5 + 2.5))
