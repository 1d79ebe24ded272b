"""Did the direction move? One dimension's directions in two models, compared per layer and role.

In one cell (layer and role), let `u` be the instruct model's unit direction and `v` the reasoning model's, `u_h, v_h`
(h = 1, 2) the directions found on two random halves of the families, and `<>` the mean over splits. The columns of
`.frame`:

    cosine               u . v; angle_degrees = 2 atan2(|u - v|, |u + v|), exact also for tiny angles. Both are NaN
                         where a model has no direction, because all its items have the same activation there.
    cosine_low, _high    interval (95 % unless `level` says otherwise, like all intervals here): families are drawn with
                         replacement, the same for both models, and the mean differences (Arditi et al., arXiv
                         2406.11717) are recomputed from per-family sums. A draw adds its own noise to that of the data,
                         so drawn cosines are too low; the drawn angles are shifted so that their median is the
                         estimate. NaN for another finder.
    norm_ratio           |r_reasoning| / |r_instruct|: did the class difference grow or shrink?
    split_half_*         <u_1 . u_2> of each model: how well half the data find the direction again.
    ceiling              the geometric mean of both models' 2 s / (1 + s), s = max(split_half, 0): Spearman-Brown, the
                         cosine to expect of the same direction found twice, on *independent* data of full size.
    cosine_over_ceiling  <(u_1 . v_2 + u_2 . v_1) / 2> / sqrt(<u_1 . u_2> <v_1 . v_2>): the cosine that noiseless
                         directions would have (correction for attenuation, Spearman 1904). It is not
                         `cosine / ceiling`: both models see the same prompts and share their noise, so identical
                         models would score above one. Opposite halves share nothing. NaN below the null.
    angle                the angle between the two *true* mean differences, in degrees, and `angle_low`, `angle_high`:
                         from the inner products of different families, which share no noise; `statistics.angles` gives
                         the method, and how often the interval held a planted angle. This, not the interval of
                         `cosine`, says how far the direction turned. `noiseless_cosine`, `noiseless_low`,
                         `noiseless_high` are the same as cosines; the first may exceed 1. They are those of mean
                         differences, whatever the finder; NaN below the null.
    auroc_*              the direction is found on one half of the families, and items of the other half are projected
                         on it; mean over both halves of 4 splits. `auroc_instruct`, `auroc_reasoning`: on the model's
                         own activations; `auroc_transfer_to_reasoning`: the instruct model's direction on the reasoning
                         model's activations; `auroc_transfer_to_instruct`: the other way round.
    auroc_aligned_*      `to_reasoning`, `to_instruct`: the same transfer after the models' spaces were turned onto each
                         other (orthogonal Procrustes, `geometry.procrustes`), fitted on the neutral items of the half
                         that the direction comes from. If it is higher than the raw one, the direction moved together
                         with the space around it; if it is as low, the direction changed in its meaning. A few dozen
                         items determine the turn in as many dimensions; the others are not turned.
    shift_along_*        `trigger`, `neutral`: how far the class mean moved from the instruct to the reasoning model
                         along the instruct direction u, in units of the instruct class difference |r|: -1 for triggers
                         means that they now lie where neutral items were.
    shift_across_*       the length of the rest of that move, at right angles to u, in the same units.
    did_along            difference in differences: how much further triggers moved along the instruct direction than
                         their neutral twins, in the same units, with `did_along_low`, `did_along_high`: -0.3 means that
                         the classes are 30 % less apart there. What moves both classes alike, as all training does,
                         cancels. It is the noiseless form of shift_along_trigger - shift_along_neutral: each family's
                         change is measured along the direction of the *others*,
                         sum_{f != g} (b_f - a_f) . a_g / sum_{f != g} a_f . a_g, where a and b are the families' class
                         differences in the instruct and the reasoning model. NaN where the instruct direction is below
                         its null.
    moved_*              `trigger`, `neutral`: mean length of the class's items' moves |y - x| from the instruct to the
                         reasoning model, in units of the root mean square distance of the instruct model's items
                         from their mean. 1 means that training moved an item as far as prompts lie apart. (The unit is
                         not |x|, because most of x is common to all prompts.)
    did_moved            moved_trigger - moved_neutral, with `did_moved_low`, `did_moved_high`. Above 0, training moved
                         triggers further than their neutral twins, in whatever direction. Both intervals are
                         percentiles over resampled families.
    cka, cka_unbiased    linear CKA of both models' activations of all items, and its unbiased form
                         (`statistics.geometry`). The few dimensions that are much larger than the rest dominate both.
    principal_angle_*    `smallest`, `largest`, in degrees, between the spans of the first 4 principal components (not
                         centred) of each model's twin differences. NaN with fewer than 4 independent ones. Both models
                         see the same prompts: independent noise would be near 90 degrees.
    p_no_drift           the probability of such a large difference if both models had the same direction up to its
                         length. Each family's difference between the models, in units of the noiseless lengths, would
                         then be as likely with the other sign, so signs are flipped 200 times and sums over different
                         families are compared. For a child that is its parent plus noise of its own, p falls below .05
                         in 1 to 7 % of cells (8, 16 and 32 families; fewest where the noise has few dimensions),
                         whether it is as noisy as its parent or ten times noisier. NaN where a model has no direction.
    below_null           noise would look the same: the split-half cosine, over the same 4 splits, does not exceed the
                         95 % quantile of 200 label permutations. `below_null_instruct`, `below_null_reasoning`, and
                         either of the two.

The null exchanges trigger and neutral for a whole family at a time, which flips the sign of its difference. Exchanging
single twin pairs would break up what the items of a family share, and take unrelated per-family differences for one
direction (in simulation up to 18 % of the time instead of 5 %). It holds per cell, not family-wise over the grid.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from threadpoolctl import threadpool_limits

from mechdrift.directions.drift_design import Design, Layer, draw_design, prepare_layer, quantiles
from mechdrift.directions.finders import find_in
from mechdrift.directions.shifts import did_columns, shift_columns
from mechdrift.directions.transfer import transfer_columns
from mechdrift.records import SIDES, DirectionDrift, Directions, MechdriftError
from mechdrift.statistics import geometry
from mechdrift.statistics.angles import noiseless_angle
from mechdrift.statistics.geometry import cosine_of, ratio
from mechdrift.statistics.resampling import ROUNDING

COMPONENTS = 4
OF_BOTH = ("cosine_over_ceiling", "angle", "angle_low", "angle_high")
OF_BOTH += ("noiseless_cosine", "noiseless_low", "noiseless_high")
"""Columns that need a direction in both models: NaN where either is below its null."""
OF_INSTRUCT = ("did_along", "did_along_low", "did_along_high")
"""Columns that need one in the instruct model only."""
Cells = Float[np.ndarray, " role"]
BySide = Mapping[str, np.ndarray]
FamilyProducts = Float[np.ndarray, "role 2 2 class_family class_family"]


def compare_directions(directions: Directions, draws: int = 300, seed: int = 0, level: float = 0.95) -> DirectionDrift:
    """Did the direction turn? The two models' directions compared, per layer and role.

    Args:
        directions: of both models, from `find_directions`.
        draws: how many times families are resampled for the intervals.
        seed: of all resampling.
        level: the probability with which an interval should hold the truth.

    Returns:
        A `DirectionDrift`. Its `.frame` has a row per layer and role. The main columns: `cosine` with `cosine_low`
        and `cosine_high`; `ceiling`, the cosine to expect of the same direction found twice; `angle`, `angle_low`
        and `angle_high`, in degrees, with noise taken out; `auroc_*`, how well a direction separates held-out items
        of its own model or of the other one; `did_along`, how much further triggers moved along the instruct
        direction than their twins, in units of the class difference; `below_null`, whether noise would look the
        same. The docstring of `mechdrift.directions.drift` defines every column.

    Raises:
        MechdriftError: when `level` does not lie between 0 and 1, or when there are too few families.

    Source:
        Mean differences: Arditi et al. 2024, https://arxiv.org/abs/2406.11717; correction for attenuation: Spearman
        1904; linear CKA: Kornblith et al. 2019, https://arxiv.org/abs/1905.00414.

    Example:
        >>> drift = md.compare_directions(dirs, draws=50)
        >>> drift.frame[["layer", "role", "cosine", "ceiling", "angle"]].columns.size
        5
        >>> clear = drift.frame[~drift.frame.below_null]  # cells with a direction to be seen in both models
    """
    if not 0 < level < 1:
        raise MechdriftError(
            f"level is the probability that an interval holds the truth, between 0 and 1; it is {level}."
        )
    design = draw_design(directions.activations, draws, seed, level)
    with threadpool_limits(1):  # thousands of small matrices: threads would only wait for each other
        held_out = _held_out_directions(directions, design)
        columns = [_compare_layer(directions, held_out, index, design) for index in range(len(directions.layers))]
    cells = pd.MultiIndex.from_product([directions.layers, directions.roles], names=["layer", "role"])
    table = {name: np.concatenate([layer[name] for layer in columns]) for name in columns[0]}
    frame = pd.DataFrame(table, index=cells).reset_index()
    frame.insert(0, "dimension", directions.dimension)
    return DirectionDrift(dimension=directions.dimension, frame=frame)


def _held_out_directions(directions: Directions, design: Design) -> BySide:
    """Directions in the first, then in the second halves of the design's splits, `[subset, layer, role, d_model]`."""
    subsets = np.concatenate([design.halves, ~design.halves])
    return {side: find_in(directions.activations, side, subsets, directions.method).numpy() for side in SIDES}


def _compare_layer(directions: Directions, held_out: BySide, index: int, design: Design) -> dict[str, np.ndarray]:
    layer = prepare_layer(directions.activations, index, design.is_trigger)
    families = layer.between(design.differences)
    null = {f"below_null_{side}": _below_null(families[:, number, number], design) for number, side in enumerate(SIDES)}
    below_null = np.logical_or(*null.values())
    angles, products = _angles(directions, index), layer.between(design.sums)
    columns = (
        angles
        | (_interval(angles["cosine"], products, design) if directions.method == "mean_difference" else {})
        | _split_agreement(directions, index)
        | transfer_columns({side: held_out[side][:, index] for side in SIDES}, layer, design)
        | shift_columns(layer, directions.instruct[index].double().numpy())
        | did_columns(products, layer, design)
        | dict(zip(("cka", "cka_unbiased"), geometry.cka(*layer.within), strict=True))
        | _subspaces(layer, design)
        | _noiseless(families, design.level)
        | {"p_no_drift": np.where(np.isnan(angles["cosine"]), np.nan, _p_no_drift(families, design))}
        | null
        | {"below_null": below_null}
    )
    hidden = dict.fromkeys(OF_BOTH, below_null) | dict.fromkeys(OF_INSTRUCT, null["below_null_instruct"])
    return columns | {name: np.where(below, np.nan, columns[name]) for name, below in hidden.items()}


def _angles(directions: Directions, index: int) -> dict[str, Cells]:
    u, v = (directions.of(side)[index].double().numpy() for side in SIDES)
    cosine = cosine_of(u, v)
    angle = np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1)))
    before, after = directions.norm_instruct[index].numpy(), directions.norm_reasoning[index].numpy()
    unknown = np.full_like(cosine, np.nan)
    return {
        "cosine": cosine,
        "cosine_low": unknown,
        "cosine_high": unknown,
        "angle_degrees": np.where(np.isnan(cosine), np.nan, angle),
        "norm_ratio": ratio(after, before),
    }


def _interval(cosine: Cells, products: FamilyProducts, design: Design) -> dict[str, Cells]:
    """Percentiles of the resampled angles, shifted so that their median is the angle of the data."""
    drawn = design.contrasts
    shared, before, after = (((drawn @ products[:, a, b]) * drawn).sum(axis=-1) for a, b in ((0, 1), (0, 0), (1, 1)))
    angles = np.arccos(np.clip(ratio(shared, np.sqrt(np.maximum(before * after, 0))), -1, 1))
    smallest, middle, largest = np.quantile(angles, quantiles(design.level), axis=1)
    low, high = (np.cos(np.clip(np.arccos(cosine) + end - middle, 0, np.pi)) for end in (largest, smallest))
    return {"cosine_low": low, "cosine_high": high}


def _split_agreement(directions: Directions, index: int) -> dict[str, Cells]:
    u, v = (split[:, :, index].double().numpy() for split in (directions.split_instruct, directions.split_reasoning))
    # opposite halves of [split, half, role, d_model]; halves without a direction do not agree: 0, not NaN
    opposite = {"instruct": (u, u[:, ::-1]), "reasoning": (v, v[:, ::-1]), "across": (u, v[:, ::-1])}
    agreement = {name: np.nan_to_num(cosine_of(*halves)).mean(axis=(0, 1)) for name, halves in opposite.items()}
    known = [np.maximum(agreement[side], 0) for side in SIDES]
    return {
        "split_half_instruct": agreement["instruct"],
        "split_half_reasoning": agreement["reasoning"],
        "ceiling": np.sqrt(np.prod([2 * cosine / (1 + cosine) for cosine in known], axis=0)),
        "cosine_over_ceiling": ratio(agreement["across"], np.sqrt(known[0] * known[1])),
    }


def _subspaces(layer: Layer, design: Design) -> dict[str, Cells]:
    """Principal angles between the leading components of the two models' twin differences."""
    trigger, neutral = design.pairs.T
    angles = np.full((layer.products.shape[0], 2), np.nan)
    if len(design.pairs) >= COMPONENTS:
        differences = [layer.items[side][:, trigger] - layer.items[side][:, neutral] for side in SIDES]
        components, squares = zip(
            *(geometry.principal_components(rows, COMPONENTS) for rows in differences), strict=True
        )
        for role in np.flatnonzero((np.stack(squares) > 0).all(axis=(0, 2))):
            angles[role] = geometry.principal_angles(components[0][role], components[1][role])[[0, -1]]
    return {"principal_angle_smallest": angles[:, 0], "principal_angle_largest": angles[:, 1]}


def _noiseless(families: Float[np.ndarray, "role 2 2 family family"], level: float) -> dict[str, Cells]:
    found = noiseless_angle(families, level)
    return {name if name.startswith("angle") else f"noiseless_{name}": values for name, values in found.items()}


def _p_no_drift(families: Float[np.ndarray, "role 2 2 family family"], design: Design) -> Cells:
    """The share of sign patterns, over families, under which the two models differ at least as much as in the data."""
    apart = families * (1 - np.eye(families.shape[-1]))
    squares = np.stack([apart[:, side, side].sum(axis=(1, 2)) for side in (0, 1)], axis=1)
    known = np.all(squares > 0, axis=1)
    first, second = (np.where(known, squares[:, side], 1)[:, None, None] for side in (0, 1))
    differences = (
        apart[:, 0, 0] / first + apart[:, 1, 1] / second - (apart[:, 0, 1] + apart[:, 1, 0]) / np.sqrt(first * second)
    )
    signs = np.vstack([np.ones(design.flips.shape[1]), design.flips])  # the first draw is the data
    sizes = ((signs @ differences) * signs).sum(axis=-1)
    return np.where(known, (sizes - sizes[:, :1] >= -ROUNDING).mean(axis=1), np.nan)


def _below_null(products: Float[np.ndarray, "role family family"], design: Design) -> Bool[np.ndarray, " role"]:
    """A direction in half the families is a signed sum of family differences, so inner products of those are enough."""
    signs = np.vstack([np.ones(design.flips.shape[1]), design.flips])[:, None]  # the first draw is the data
    first, second = signs * design.family_halves, signs * ~design.family_halves  # [draw, split, family]
    cosines = np.stack([_gram_cosine(first, second, product).mean(axis=1) for product in products])
    return cosines[:, 0] <= np.quantile(cosines[:, 1:], 0.95, axis=1)


def _gram_cosine(a: np.ndarray, b: np.ndarray, products: Float[np.ndarray, "family family"]) -> np.ndarray:
    """Cosine of the sums with coefficients `a` and `b`, `[..., family]`; 0 where one of them is zero."""
    a_products = a @ products
    across, squares = (a_products * b).sum(-1), (a_products * a).sum(-1) * ((b @ products) * b).sum(-1)
    return np.nan_to_num(ratio(across, np.sqrt(np.maximum(squares, 0))))
