"""Are the dimensions' directions entangled? Two dimensions' directions compared, within each model and across.

Does reasoning training turn, say, the direction of refusing towards that of toxicity? The cosine of the two in each
model says how close they are; the difference of the two cosines says whether training brought them together. Two mean
differences could share noise only through prompts that both probe sets hold, and probe sets share none.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.directions.families import family_contrasts
from mechdrift.records import SIDES, Directions, MechdriftError, several
from mechdrift.statistics.geometry import cosine_of

Cells = Float[np.ndarray, " role"]
BySide = Mapping[str, np.ndarray]


def compare_dimensions(found: Directions | Sequence[Directions], draws: int = 200, seed: int = 0) -> pd.DataFrame:
    """Are the dimensions' directions entangled, and did training bring them together? Cosines between dimensions.

    Args:
        found: the directions of two or more dimensions, collected at the same site.
        draws: how many times families are resampled for the interval.
        seed: of all resampling.

    Returns:
        One row per pair of dimensions, layer and role that all share. `instruct` and `reasoning` are the cosines
        within a model; `instruct_to_reasoning` is that of the first dimension in the instruct model and the second
        in the reasoning model, `reasoning_to_instruct` the other way round. `change` is reasoning minus instruct,
        with `change_low` and `change_high` (95 %): each dimension's families are resampled, both models together,
        and the draws are shifted to have the estimate as their median, because all resampled cosines lie nearer to
        zero. The interval is NaN for finders other than the mean difference.

    Raises:
        MechdriftError: for fewer than two dimensions, or when they share no layer or no role.

    Source:
        Cosines of mean differences, with a cluster bootstrap over families.

    Example:
        >>> bias = md.find_directions(md.collect(pair, md.load_probes("bias").sample(8), roles=acts.roles))
        >>> table = md.compare_dimensions([dirs, bias], draws=50)
        >>> sorted(set(table["first"]) | set(table["second"]))
        ['bias', 'safety']
    """
    found = several(found)
    layers, roles = (
        [name for name in getattr(found[0], axis) if all(name in getattr(each, axis) for each in found)]
        for axis in ("layers", "roles")
    )
    if len(found) < 2 or not layers or not roles:
        raise MechdriftError(
            "Dimensions are compared two at a time, at the layers and roles that both have: collect the same for all."
        )
    tables = []
    for layer in layers:
        estimates = [
            {side: _at(each.of(side).double().numpy()[each.layers.index(layer)], each, roles) for side in SIDES}
            for each in found
        ]
        drawn = [_drawn_directions(each, layer, roles, draws, seed + number) for number, each in enumerate(found)]
        for a, b in combinations(range(len(found)), 2):
            columns = _dimension_cosines(estimates[a], estimates[b], drawn[a], drawn[b])
            table = pd.DataFrame(
                {"first": found[a].dimension, "second": found[b].dimension, "layer": layer, "role": roles} | columns
            )
            tables.append(table)
    frame = pd.concat(tables, ignore_index=True)
    return frame.sort_values(["first", "second"], kind="stable", ignore_index=True)


def _at(
    layer: Float[np.ndarray, "any d_model"], directions: Directions, roles: Sequence[str]
) -> Float[np.ndarray, "role d_model"]:
    return layer[[directions.roles.index(role) for role in roles]]


def _drawn_directions(directions: Directions, layer: int, roles: Sequence[str], draws: int, seed: int) -> BySide:
    """Mean differences in resampled families, `[draw, role, d_model]`; nothing for another finder."""
    if directions.method != "mean_difference":
        return {}
    activations = directions.activations
    sums, contrasts = family_contrasts(activations, draws, seed)
    chosen = [directions.roles.index(role) for role in roles]
    drawn = {}
    for side in SIDES:
        recorded = activations.of(side)[:, directions.layers.index(layer), chosen].double().numpy()
        drawn[side] = np.tensordot(contrasts, np.tensordot(sums, recorded - recorded.mean(axis=0), axes=1), axes=1)
    return drawn


def _dimension_cosines(a: BySide, b: BySide, drawn_a: BySide, drawn_b: BySide) -> dict[str, Cells]:
    within = {side: cosine_of(a[side], b[side]) for side in SIDES}
    change = within["reasoning"] - within["instruct"]
    low, high = np.full_like(change, np.nan), np.full_like(change, np.nan)
    known = ~np.isnan(change)
    if drawn_a and drawn_b and known.any():
        draws = cosine_of(drawn_a["reasoning"], drawn_b["reasoning"]) - cosine_of(
            drawn_a["instruct"], drawn_b["instruct"]
        )
        draws = draws[~np.isnan(draws[:, known]).any(axis=1)][:, known]  # a draw without one class is NaN
        smallest, middle, largest = np.percentile(draws, [2.5, 50, 97.5], axis=0)
        low[known], high[known] = change[known] + smallest - middle, change[known] + largest - middle
    across = {
        "instruct_to_reasoning": cosine_of(a["instruct"], b["reasoning"]),
        "reasoning_to_instruct": cosine_of(a["reasoning"], b["instruct"]),
    }
    return within | across | {"change": change, "change_low": low, "change_high": high}
