"""Several estimates of one effect, put together: a random-effects summary.

Each of k units (a pair of models, or a parent with its children) has an estimate y_i with a sampling variance v_i. True
effects differ from unit to unit:

    model        y_i = mu + u_i + e_i, with u_i ~ N(0, tau^2) and e_i ~ N(0, v_i). mu is the mean effect over units like
                 these, and tau how much true effects spread around it.
    tau^2        by restricted maximum likelihood (REML; Viechtbauer 2005, doi 10.3102/10769986030003261), which Langan
                 et al. 2019 (doi 10.1002/jrsm.1316) recommend. With equal variances it is the variance of the
                 estimates minus v, or 0.
    mean         mu = sum w_i y_i / sum w_i, with w_i = 1 / (v_i + tau^2)
    interval     mu +- t_[k-1] se, with se^2 = max(1, q) / sum w_i and q = sum w_i (y_i - mu)^2 / (k - 1): Hartung and
                 Knapp's interval (2001, doi 10.1002/sim.1009), which allows for the uncertainty of tau. The maximum
                 keeps it from being narrower than an interval that does not (Knapp & Hartung 2003, doi
                 10.1002/sim.1482; Röver et al. 2015, doi 10.1186/s12874-015-0091-1, recommend it for few units).
    Q            sum (y_i - m)^2 / v_i, with m the mean at tau = 0, is chi-squared with k - 1 degrees of freedom where
                 all true effects are equal (Cochran 1954, doi 10.2307/3001666)
    I^2          tau^2 / (tau^2 + s^2), the share of the spread that is not sampling error, with s^2 the typical
                 sampling variance of Higgins & Thompson 2002 (doi 10.1002/sim.1186)
    prediction   mu +- t_[k-1] sqrt(tau^2 + se^2) holds the true effect in a new unit (Higgins et al. 2009, doi
                 10.1111/j.1467-985X.2008.00552.x, with t_[k-2] and another se; t_[k-1] goes with Hartung and Knapp's
                 se, as in metafor). It says what to expect of the next pair; the interval of the mean does not.

With few units tau is hardly known: with 2, the interval reaches 12.7 standard errors to either side. In simulations of
4 to 40 units the interval held the mean in 94 to 100 % of cases, and the prediction interval held the next unit's true
effect in 83 to 100 %; it does worst where tau is about half of a sampling error and is often estimated as 0.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

from mechdrift.errors import MechdriftError
from mechdrift.statistics.intervals import TAIL

REACH = float(special.ndtri(1 - TAIL))  # standard errors to either side of a 95 % interval
STEPS = 200
CLOSE = 1e-9  # relative to the spread of the estimates: the step of tau^2 at which the search ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """A random-effects summary of k estimates. `low` and `high` are the 95 % interval of the mean, `predicted_low` and
    `predicted_high` that of the true effect in a new unit; `p` tests a mean of 0, and `p_equal` equal true effects."""

    k: int
    estimate: float
    low: float
    high: float
    p: float
    tau: float
    i2: float
    q: float
    p_equal: float
    predicted_low: float
    predicted_high: float


def pool(estimates: Float[np.ndarray, " unit"], variances: Float[np.ndarray, " unit"]) -> Pooled:
    """The random-effects summary of independent estimates with known sampling variances.

    With one estimate there is nothing to pool: its own value comes back, and everything else is NaN.
    """
    if not len(estimates) or not (np.isfinite(estimates).all() and (variances > 0).all()):
        raise MechdriftError("pooling takes finite estimates with sampling variances above 0: leave the others out.")
    k = len(estimates)
    if k == 1:
        return _alone(float(estimates[0]))
    tau2 = reml(estimates, variances)
    mean, se = _mean(estimates, variances, tau2)
    reach = float(special.stdtrit(k - 1, 1 - TAIL))
    spread = reach * float(np.sqrt(tau2 + se**2))
    q = _heterogeneity(estimates, variances)
    return Pooled(
        k=k,
        estimate=mean,
        low=mean - reach * se,
        high=mean + reach * se,
        p=float(2 * special.stdtr(k - 1, -abs(mean) / se)),
        tau=float(np.sqrt(tau2)),
        i2=tau2 / (tau2 + typical_variance(variances)),
        q=q,
        p_equal=float(special.chdtrc(k - 1, q)),
        predicted_low=mean - spread,
        predicted_high=mean + spread,
    )


def reml(estimates: Float[np.ndarray, " unit"], variances: Float[np.ndarray, " unit"]) -> float:
    """tau^2 by restricted maximum likelihood: Fisher's scoring, steps halved until the likelihood rises, from the
    variance of the estimates minus the mean sampling variance (Hedges' estimator)."""
    tau2 = max(0.0, float(estimates.var(ddof=1) - variances.mean()))
    likelihood = _likelihood(tau2, estimates, variances)
    for _ in range(STEPS):
        step = _scoring_step(tau2, estimates, variances)
        moved, reached = max(0.0, tau2 + step), -np.inf
        while (reached := _likelihood(moved, estimates, variances)) < likelihood and abs(step) > 0:
            step /= 2
            moved = max(0.0, tau2 + step)
        is_at_rest = abs(moved - tau2) <= CLOSE * (tau2 + typical_variance(variances))
        tau2, likelihood = moved, reached
        if is_at_rest:
            break
    return tau2


def _scoring_step(tau2: float, estimates: np.ndarray, variances: np.ndarray) -> float:
    """The step of Fisher's scoring: the slope of the restricted log-likelihood over its expected curvature."""
    weights = 1 / (variances + tau2)
    total, squares = weights.sum(), (weights**2).sum()
    residuals = estimates - weights @ estimates / total
    trace = total - squares / total
    curvature = squares - 2 * (weights**3).sum() / total + (squares / total) ** 2
    return float(((weights * residuals) ** 2).sum() - trace) / float(curvature)


def _likelihood(tau2: float, estimates: np.ndarray, variances: np.ndarray) -> float:
    """The restricted log-likelihood of tau^2, without its constant."""
    weights = 1 / (variances + tau2)
    residuals = estimates - weights @ estimates / weights.sum()
    return float(np.log(weights).sum() - np.log(weights.sum()) - weights @ residuals**2) / 2


def _mean(estimates: np.ndarray, variances: np.ndarray, tau2: float) -> tuple[float, float]:
    """The weighted mean, and its standard error by Hartung and Knapp."""
    weights = 1 / (variances + tau2)
    mean = weights @ estimates / weights.sum()
    q = weights @ (estimates - mean) ** 2 / (len(estimates) - 1)
    return float(mean), float(np.sqrt(max(1.0, q) / weights.sum()))


def _heterogeneity(estimates: np.ndarray, variances: np.ndarray) -> float:
    weights = 1 / variances
    return float(weights @ (estimates - weights @ estimates / weights.sum()) ** 2)


def typical_variance(variances: Float[np.ndarray, " unit"]) -> float:
    """The sampling variance of a typical unit: (k - 1) sum w / ((sum w)^2 - sum w^2), with w = 1 / v."""
    weights = 1 / variances
    return float((len(weights) - 1) * weights.sum() / (weights.sum() ** 2 - (weights**2).sum()))


def _alone(estimate: float) -> Pooled:
    names = ("low", "high", "p", "tau", "i2", "q", "p_equal", "predicted_low", "predicted_high")
    return Pooled(k=1, estimate=estimate, **dict.fromkeys(names, float("nan")))


def variance_from_interval(width: float, reach: float = REACH) -> float:
    """The sampling variance that an interval of this width stands for: (width / 3.92)^2 for one of 95 % (Cochrane
    Handbook 6.3). A repeated interval reaches further, to the boundary of its look: `reach` standard errors."""
    return (width / (2 * reach)) ** 2


def mean_of_independent(
    estimates: Float[np.ndarray, " part"], low: Float[np.ndarray, " part"], high: Float[np.ndarray, " part"]
) -> tuple[float, float, float]:
    """The mean of independent estimates with its 95 % interval, from theirs: each end lies sqrt(sum of squared half
    widths) / n away (Zou & Donner 2008, doi 10.1002/sim.3095, "MOVER")."""
    mean, n = float(estimates.mean()), len(estimates)
    below, above = (float(np.sqrt(((end - estimates) ** 2).sum())) / n for end in (low, high))
    return mean, mean - below, mean + above
