"""Which cells of a patch grid are beyond chance, and where does the grid peak? A heat map always looks convincing.

A grid holds an effect per prompt and cell, `[prompt, layer, role]`. Prompts of one family are not independent, so the
family is the unit of everything here (`resampling`). With F families and m_f[c] the mean effect of family f in cell c:

    p_adjusted   from paired sign flips over families and the largest |t| over *all* cells (max-T, Westfall & Young
                 1993): the chance of even one false cell in the whole grid is at most alpha. With F families no p is
                 below 2^(1-F).
    low, high    a band that holds the true effects of all cells at once in 95 % of experiments (wild bootstrap of max
                 |t|).
    detectable   the mean effect that a paired t-test finds with 80 % power after Bonferroni's correction for all cells,
                 from the spread of the families: the smallest effect that this design could have found.
    peak         the layer of the largest |mean effect| of a role, found again in 1,000 draws of families. `share` is
                 how often each layer was the peak: a peak that moves from draw to draw locates nothing.
    centre       sum_l l |e_l| / sum_l |e_l|, the centre of mass over layers, with its interval over the same draws.

Neutral twins are the control: an effect that a patch also has on prompts with nothing to restore does not restore. So a
grid of both contrasts is tested as a *difference in differences*, each family's trigger mean minus its neutral mean;
families without both are left out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from mechdrift.errors import MechdriftError
from mechdrift.statistics import resampling as statistics

PEAK_DRAWS = 1000
ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class GridInference:
    """The tests of a grid's cells, and where it peaks.

    `frame`: a row per cell, `layer, role, effect, low, high, t, p_adjusted, significant, detectable`. `peak`: a row per
    layer and role, `layer, role, share` of the draws in which the layer was that role's peak. `centre`: a row per role,
    `role, peak_layer, centre, low, high`. `tested` says what was tested: the prompts' effects, or the difference of
    triggers and neutral twins.
    """

    frame: pd.DataFrame
    peak: pd.DataFrame
    centre: pd.DataFrame
    families: int
    n: int
    tested: str


def infer(
    effect: Float[np.ndarray, "prompt layer role"],
    families: Shaped[np.ndarray, " prompt"],
    is_trigger: Bool[np.ndarray, " prompt"],
    layers: tuple[int, ...],
    roles: tuple[str, ...],
    draws: int = 10_000,
    seed: int = 0,
) -> GridInference:
    """Test every cell of a grid of triggers, of neutral prompts, or of both against each other."""
    means, n = tested_means(effect, families, is_trigger)
    if len(means) < 2:
        raise MechdriftError(
            "a grid is tested over families, and there is only one: patch prompts of two or more families."
        )
    tested = statistics.max_t(means, np.arange(len(means)), draws=draws, seed=seed)
    detectable = statistics.minimum_detectable_effect(
        means.std(axis=0, ddof=1), len(means), alpha=ALPHA / means[0].size
    )
    cells = pd.MultiIndex.from_product([layers, roles], names=["layer", "role"])
    columns = {
        "effect": tested.effect,
        "low": tested.effect - tested.half_width,
        "high": tested.effect + tested.half_width,
        "t": tested.t,
        "p_adjusted": tested.p,
        "significant": tested.p <= ALPHA,
        "detectable": detectable,
    }
    frame = pd.DataFrame(
        {name: np.asarray(values).reshape(-1) for name, values in columns.items()}, index=cells
    ).reset_index()
    peak, centre = _peaks(means, layers, roles, seed)
    return GridInference(
        frame=frame,
        peak=peak,
        centre=centre,
        families=len(means),
        n=n,
        tested="triggers less neutral twins" if _has_both(is_trigger) else "effects",
    )


def tested_means(
    values: Float[np.ndarray, "prompt *cell"], families: Shaped[np.ndarray, " prompt"], is_trigger: np.ndarray
) -> tuple[Float[np.ndarray, "family *cell"], int]:
    """What a grid tests: each family's mean; for prompts of both contrasts its trigger mean minus its neutral mean. And
    how many prompts count."""
    if not _has_both(is_trigger):
        return statistics.family_means(values, families), len(values)
    shared = np.isin(families, np.intersect1d(families[is_trigger], families[~is_trigger]))
    if not shared.any():
        raise MechdriftError("no family has triggers and neutral twins: patch them together, or one contrast alone.")
    trigger, neutral = (
        statistics.family_means(values[shared & part], families[shared & part]) for part in (is_trigger, ~is_trigger)
    )
    return trigger - neutral, int(shared.sum())


def _has_both(is_trigger: np.ndarray) -> bool:
    return bool(is_trigger.any() and not is_trigger.all())


def _peaks(
    means: Float[np.ndarray, "family layer role"], layers: tuple[int, ...], roles: tuple[str, ...], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    weights = np.vstack([np.ones(len(means)), statistics.family_draws(len(means), PEAK_DRAWS, seed)]) / len(means)
    sizes = np.abs(np.tensordot(weights, means, axes=1))  # [draw, layer, role]; the first draw is the data
    numbers, largest = np.array(layers, dtype=float), sizes.argmax(axis=1)
    total = sizes.sum(axis=1)
    centres = np.divide(
        np.tensordot(sizes, numbers, axes=(1, 0)), total, out=np.full_like(total, np.nan), where=total > 0
    )
    share = np.stack([(largest[1:] == index).mean(axis=0) for index in range(len(layers))])
    cells = pd.MultiIndex.from_product([layers, roles], names=["layer", "role"])
    peak = pd.DataFrame({"share": share.reshape(-1)}, index=cells).reset_index()
    low, high = np.nanquantile(centres[1:], [0.025, 0.975], axis=0)
    centre = {
        "role": roles,
        "peak_layer": [layers[index] for index in largest[0]],
        "centre": centres[0],
        "low": low,
        "high": high,
    }
    return peak, pd.DataFrame(centre)
