"""Did the direction move? One dimension's directions in two models, compared per layer and role.

Let `u` be the instruct and `v` the reasoning model's unit direction of one cell, `u_h, v_h` (h = 1, 2) the directions
found on two random halves of the families, and `<>` the mean over splits. The columns of `.frame`:

    cosine               u . v; angle_degrees = 2 atan2(|u - v|, |u + v|), exact also for tiny angles. Both are NaN
                         where a model has no direction, because all its items have the same activation there.
    cosine_low, _high    interval (95 % unless `level` says otherwise, as all intervals here): families are drawn with
                         replacement, the same for both models, and the mean differences (Arditi et al., arXiv
                         2406.11717) recomputed from per-family sums. A draw adds its own noise to that of the data, so
                         all draws lie low; their angles are shifted to have the estimate as their median. NaN for
                         another finder.
    norm_ratio           |r_reasoning| / |r_instruct|: did the class difference grow or shrink?
    split_half_*         <u_1 . u_2> of each model: how well half the data find the direction again.
    ceiling              the geometric mean of both models' 2 s / (1 + s), s = max(split_half, 0): Spearman-Brown, the
                         cosine to expect of the same direction found twice, on *independent* data of full size.
    cosine_over_ceiling  <(u_1 . v_2 + u_2 . v_1) / 2> / sqrt(<u_1 . u_2> <v_1 . v_2>): the cosine that noiseless
                         directions would have (correction for attenuation, Spearman 1904). It is not
                         `cosine / ceiling`: both models see the same prompts and share their noise, so identical
                         models would score above one. Opposite halves share nothing. NaN below the null.
    angle                the angle between the two *true* mean differences, in degrees, and `angle_low`, `angle_high`:
                         from the inner products of different families, which share no noise; see `angles`, also for how
                         often the interval held a planted angle. This, not the interval of `cosine`, is what says how
                         far the direction turned. `noiseless_cosine`, `noiseless_low`, `noiseless_high` are the same as
                         cosines, the first also above 1. Mean differences whatever the finder; NaN below the null.
    auroc_*              direction found on one half of the families, items of the other half projected on it; mean over
                         both halves of 4 splits. `auroc_instruct`, `auroc_reasoning`: on the model's own activations;
                         `auroc_transfer_to_reasoning`: the instruct model's direction on the reasoning model's
                         activations; `auroc_transfer_to_instruct`: the other way round.
    auroc_aligned_*      `to_reasoning`, `to_instruct`: the same transfer after the models' spaces were turned onto each
                         other (orthogonal Procrustes, `geometry.procrustes`), fitted on the neutral items of the half
                         that the direction comes from. Higher than the raw one: the direction was moved with the space
                         around it; as low: it changed in its meaning. A few dozen items fix as many dimensions, the
                         rest stays.
    shift_along_*        `trigger`, `neutral`: how far the class mean moved from the instruct to the reasoning model
                         along the instruct direction u, in units of the instruct class difference |r|: -1 for triggers
                         says that they now lie where neutral items were.
    shift_across_*       the length of what is left of that move at right angles to u, in the same units.
    did_along            difference in differences: how much further triggers moved along the instruct direction than
                         their neutral twins, in the same units, with `did_along_low`, `did_along_high`: -0.3 says that
                         the classes are 30 % less apart there. What moves both classes alike, as all training does,
                         cancels. The noiseless form of shift_along_trigger - shift_along_neutral: each family's change
                         is measured along the direction of the *others*, sum_{f != g} (b_f - a_f) . a_g / sum_{f != g}
                         a_f . a_g, a and b the families' class differences in both models. NaN where the instruct
                         direction is below its null.
    moved_*              `trigger`, `neutral`: mean length of the class's items' moves |y - x| from the instruct to the
                         reasoning model, in units of the root mean square distance of the instruct model's items
                         from their mean. 1: training moved an item as far as prompts lie apart. (Not in units of |x|,
                         which is mostly what all prompts have in common.)
    did_moved            moved_trigger - moved_neutral, with `did_moved_low`, `did_moved_high`: above 0, training
                         changed what the model makes of triggers more than what it makes of their neutral twins, in
                         whatever direction. Both intervals are percentiles over resampled families.
    cka, cka_unbiased    linear CKA of both models' activations of all items, and its unbiased form (see `geometry`).
                         Both are dominated by the few dimensions that are much larger than the rest.
    principal_angle_*    `smallest`, `largest`, in degrees, between the spans of the first 4 principal components (not
                         centred) of each model's twin differences. NaN with fewer than 4 independent ones. Both models
                         see the same prompts: independent noise would be near 90 degrees.
    p_no_drift           chance of so large a difference if both models had the same direction but for its length: each
                         family's difference between the models, in units of the noiseless lengths, is as likely with
                         the other sign, so signs are flipped 200 times and sums over different families compared. A
                         child that is the same model with noise of its own, added to all that it shares with its
                         parent, falls below .05 in 1 to 7 % of cells (8, 16 and 32 families; the least where noise has
                         few dimensions), be it as noisy as its parent or ten times as much. NaN where a model shows no
                         direction at all.
    below_null           noise would look the same: the split-half cosine, over the same 4 splits, does not exceed the
                         95 % quantile of 200 label permutations. `below_null_instruct`, `below_null_reasoning`, and
                         either of the two.

The null exchanges trigger and neutral for a whole family at a time, which flips the sign of its difference. Exchanging
single twin pairs would break up what the items of a family share, and take unrelated per-family differences for one
direction (in simulation up to 18 % of the time instead of 5 %). It holds per cell, not family-wise over the grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from mechdrift.directions.finders import family_contrasts, family_halves, find_in, twin_rows
from mechdrift.records import SIDES, Activations, DirectionDrift, Directions, MechdriftError, Side
from mechdrift.statistics import geometry
from mechdrift.statistics.angles import noiseless_angle
from mechdrift.statistics.geometry import cosine_of, ratio
from mechdrift.statistics.resampling import ROUNDING

HELD_OUT_SPLITS = 4
NULL_DRAWS = 200
COMPONENTS = 4
Cells = Float[np.ndarray, " role"]
BySide = Mapping[str, np.ndarray]
FamilyProducts = Float[np.ndarray, "role 2 2 class_family class_family"]


@dataclass(frozen=True, slots=True)
class _Design:
    """What is drawn once and used in every layer. `sums` adds up the items of each family: triggers, then neutrals."""

    level: float
    is_trigger: Bool[np.ndarray, " prompt"]
    pairs: Int[np.ndarray, "pair 2"]
    sums: Float[np.ndarray, "class_family prompt"]
    contrasts: Float[np.ndarray, "draw class_family"]
    halves: Bool[np.ndarray, "split prompt"]
    family_halves: Bool[np.ndarray, "split family"]
    flips: Float[np.ndarray, "null_draw family"]

    @property
    def classes(self) -> dict[str, Bool[np.ndarray, " prompt"]]:
        return {"trigger": self.is_trigger, "neutral": ~self.is_trigger}

    @property
    def differences(self) -> Float[np.ndarray, "family prompt"]:
        """What each family adds to the mean difference."""
        triggers, neutrals = np.split(self.sums, 2)
        return triggers / self.is_trigger.sum() - neutrals / (~self.is_trigger).sum()


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's activations, centred between the class means, and the inner products of all, instruct items first.

    `moved` is how far each item lies from where it was in the instruct model, in units of how far items lie apart
    there.
    """

    items: Mapping[str, Float[np.ndarray, "role prompt d_model"]]
    moved: Float[np.ndarray, "role prompt"]
    means: Mapping[str, Float[np.ndarray, "class role d_model"]]
    products: Float[np.ndarray, "role both both"]

    def between(self, weights: Float[np.ndarray, "sum prompt"]) -> Float[np.ndarray, "role 2 2 sum sum"]:
        """Inner products of sums of items: the first index counts the sides of one sum, the second those of the
        other."""
        count = weights.shape[1]
        blocks = self.products.reshape(-1, 2, count, 2, count).swapaxes(2, 3)
        return weights @ blocks @ weights.T


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
    design = _draw(directions.activations, draws, seed, level)
    with threadpool_limits(1):  # thousands of small matrices: threads would only wait for each other
        held_out = _held_out_directions(directions, design)
        columns = [_compare_layer(directions, held_out, index, design) for index in range(len(directions.layers))]
    cells = pd.MultiIndex.from_product([directions.layers, directions.roles], names=["layer", "role"])
    table = {name: np.concatenate([layer[name] for layer in columns]) for name in columns[0]}
    frame = pd.DataFrame(table, index=cells).reset_index()
    frame.insert(0, "dimension", directions.dimension)
    return DirectionDrift(dimension=directions.dimension, frame=frame)


def _draw(activations: Activations, draws: int, seed: int, level: float) -> _Design:
    names, first = np.unique(activations.families, return_index=True)
    sums, contrasts = family_contrasts(activations, draws, seed)
    halves = family_halves(activations, HELD_OUT_SPLITS, seed)
    flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(NULL_DRAWS, len(names)))
    pairs = np.stack([np.arange(len(activations.probes)), twin_rows(activations)], axis=1)
    pairs = pairs[activations.is_trigger & (pairs[:, 1] >= 0)]
    contrasts = contrasts[~np.isnan(contrasts).any(axis=1)]
    return _Design(level, activations.is_trigger, pairs, sums, contrasts, halves, halves[:, first], flips)


def _held_out_directions(directions: Directions, design: _Design) -> BySide:
    """Directions in the first, then in the second halves of the design's splits, `[subset, layer, role, d_model]`."""
    subsets = np.concatenate([design.halves, ~design.halves])
    return {side: find_in(directions.activations, side, subsets, directions.method).numpy() for side in SIDES}


def _compare_layer(directions: Directions, held_out: BySide, index: int, design: _Design) -> dict[str, np.ndarray]:
    layer = _prepare(directions.activations, index, design.is_trigger)
    families = layer.between(design.differences)
    null = {f"below_null_{side}": _below_null(families[:, number, number], design) for number, side in enumerate(SIDES)}
    below_null = np.logical_or(*null.values())
    angles, products = _angles(directions, index), layer.between(design.sums)
    columns = (
        angles
        | (_interval(angles["cosine"], products, design) if directions.method == "mean_difference" else {})
        | _split_agreement(directions, index)
        | _transfer({side: held_out[side][:, index] for side in SIDES}, layer, design)
        | _shifts(layer, directions.instruct[index].double().numpy())
        | _differences_in_differences(products, layer, design)
        | dict(zip(("cka", "cka_unbiased"), geometry.cka(*_sides(layer.products)), strict=True))
        | _subspaces(layer, design)
        | _noiseless(families, design.level)
        | {"p_no_drift": np.where(np.isnan(angles["cosine"]), np.nan, _p_no_drift(families, design))}
        | null
        | {"below_null": below_null}
    )
    for name in columns:
        if (
            name == "cosine_over_ceiling"
            or name.startswith("noiseless")
            or name in ("angle", "angle_low", "angle_high")
        ):
            columns[name] = np.where(below_null, np.nan, columns[name])
        elif name.startswith("did_along"):
            columns[name] = np.where(null["below_null_instruct"], np.nan, columns[name])
    return columns


def _prepare(activations: Activations, index: int, is_trigger: np.ndarray) -> _Layer:
    """Subtracts the midpoint of the class means: a large vector, which otherwise cancels in every difference with
    rounding errors."""
    items, means = {}, {}
    before, after = (activations.of(side)[:, index].double().numpy() for side in SIDES)
    spread = np.sqrt(before.var(axis=0).sum(axis=-1))
    moved = np.linalg.norm(after - before, axis=-1).T / np.where(spread > 0, spread, np.nan)[:, None]
    for side, recorded in zip(SIDES, (before, after), strict=True):
        means[side] = np.stack([recorded[is_trigger].mean(axis=0), recorded[~is_trigger].mean(axis=0)])
        items[side] = np.ascontiguousarray((recorded - means[side].mean(axis=0)).transpose(1, 0, 2))
    both = np.concatenate(list(items.values()), axis=1)
    return _Layer(items, moved, means, both @ both.transpose(0, 2, 1))


def _sides(products: Float[np.ndarray, "role both both"]) -> tuple[np.ndarray, np.ndarray]:
    """Inner products within the instruct and within the reasoning model."""
    half = products.shape[-1] // 2
    return products[:, :half, :half], products[:, half:, half:]


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


def _interval(cosine: Cells, products: FamilyProducts, design: _Design) -> dict[str, Cells]:
    """Percentiles of the resampled angles, shifted so that their median is the angle of the data."""
    drawn = design.contrasts
    shared, before, after = (((drawn @ products[:, a, b]) * drawn).sum(axis=-1) for a, b in ((0, 1), (0, 0), (1, 1)))
    angles = np.arccos(np.clip(ratio(shared, np.sqrt(np.maximum(before * after, 0))), -1, 1))
    smallest, middle, largest = np.quantile(angles, _quantiles(design.level), axis=1)
    low, high = (np.cos(np.clip(np.arccos(cosine) + end - middle, 0, np.pi)) for end in (largest, smallest))
    return {"cosine_low": low, "cosine_high": high}


def _quantiles(level: float) -> tuple[float, float, float]:
    return (1 - level) / 2, 0.5, (1 + level) / 2


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


def _transfer(held_out: BySide, layer: _Layer, design: _Design) -> dict[str, Cells]:
    """AUROC of each model's held-out directions on each model's activations, as they are and turned onto each other."""
    names: dict[tuple[Side, Side], str] = {
        ("instruct", "instruct"): "auroc_instruct",
        ("instruct", "reasoning"): "auroc_transfer_to_reasoning",
        ("reasoning", "reasoning"): "auroc_reasoning",
        ("reasoning", "instruct"): "auroc_transfer_to_instruct",
    }
    seen = np.concatenate([design.halves, ~design.halves])
    # [role, prompt, d_model] @ [role, d_model, subset]: one matrix product per role
    scores = {pair: layer.items[pair[1]] @ held_out[pair[0]].transpose(1, 2, 0) for pair in names}
    aligned = _aligned_scores(scores, layer, seen, design.is_trigger)
    columns = {name: scores[pair] for pair, name in names.items()} | {
        f"auroc_aligned_to_{side}": aligned[side] for side in SIDES[::-1]
    }
    for name, values in columns.items():
        areas = [_auroc(values[:, ~mask, k].T, design.is_trigger[~mask]) for k, mask in enumerate(seen)]
        columns[name] = np.mean(areas, axis=0)
    return columns


def _aligned_scores(
    scores: Mapping[tuple[Side, Side], Float[np.ndarray, "role prompt subset"]],
    layer: _Layer,
    seen: Bool[np.ndarray, "subset prompt"],
    is_trigger: Bool[np.ndarray, " prompt"],
) -> dict[str, Float[np.ndarray, "role prompt subset"]]:
    """Scores of `target` items on the other model's direction, turned by R = I + Q change Q' or back by its transpose.

    In the coordinates of Q, the span of the fitted items of both models: x . (u R) = x . u + (Q'u) change (Q'x).
    """
    on_both = {side: np.concatenate([scores[side, target] for target in SIDES], axis=1) for side in SIDES}
    aligned = {target: scores[source, target].copy() for source, target in zip(SIDES, SIDES[::-1], strict=True)}
    count = len(is_trigger)
    for k, mask in enumerate(seen):
        fitted = np.flatnonzero(mask & ~is_trigger)
        blocks = [side * count + fitted for side in (0, 1)]
        within = [[geometry.centre_products(layer.products[:, a[:, None], b]) for b in blocks] for a in blocks]
        basis, change = geometry.rotations(within[0][0], within[0][1], within[1][1])
        # basis' [A; B], rows centred, times a vector: the centring may as well be done on the basis
        halves = np.split(basis, 2, axis=1)
        centred = np.concatenate([half - half.mean(axis=1, keepdims=True) for half in halves], axis=1)
        place = np.concatenate(blocks)
        items = layer.products[:, :, place] @ centred
        for source, target, turn in (
            ("instruct", "reasoning", change),
            ("reasoning", "instruct", change.transpose(0, 2, 1)),
        ):
            direction = on_both[source][:, place, k][:, None] @ centred
            part = slice(count, None) if target == "reasoning" else slice(count)
            aligned[target][:, :, k] += (direction @ turn @ items[:, part].transpose(0, 2, 1))[:, 0]
    return aligned


def _auroc(scores: Float[np.ndarray, "prompt role"], is_trigger: Bool[np.ndarray, " prompt"]) -> Cells:
    """AUROC from the trigger items' sum of ranks (Mann-Whitney), one column at a time."""
    triggers, neutrals = is_trigger.sum(), (~is_trigger).sum()
    ranks = scipy.stats.rankdata(scores, axis=0)[is_trigger].sum(axis=0)
    return (ranks - triggers * (triggers + 1) / 2) / (triggers * neutrals)


def _shifts(layer: _Layer, direction: Float[np.ndarray, "role d_model"]) -> dict[str, Cells]:
    """The class means' moves in units of the instruct model's class difference."""
    before = layer.means["instruct"]
    unit = np.linalg.norm(before[0] - before[1], axis=-1)
    columns = {}
    for name, moved in zip(("trigger", "neutral"), layer.means["reasoning"] - before, strict=True):
        along = (moved * direction).sum(axis=-1)
        columns[f"shift_along_{name}"] = ratio(along, unit)
        columns[f"shift_across_{name}"] = ratio(np.linalg.norm(moved - along[:, None] * direction, axis=-1), unit)
    return columns


def _subspaces(layer: _Layer, design: _Design) -> dict[str, Cells]:
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


def _differences_in_differences(products: FamilyProducts, layer: _Layer, design: _Design) -> dict[str, Cells]:
    """Triggers' change less that of neutral items: along the instruct direction of other families, and in length."""
    sizes = design.sums.sum(axis=1).reshape(2, -1).sum(axis=1)
    whole = np.repeat([1, -1] / sizes, len(design.sums) // 2)
    contrasts = np.vstack([whole, design.contrasts])  # the first draw is the data
    family = np.arange(len(design.sums)) % (len(design.sums) // 2)
    apart = products * (family[:, None] != family)
    within, across = (((contrasts @ apart[:, 0, side]) * contrasts).sum(axis=-1) for side in (0, 1))
    along, moved = ratio(across - within, within), layer.moved @ design.sums.T @ contrasts.T
    columns = {}
    for name, drawn in (("did_along", along), ("did_moved", moved)):
        ends, known = np.full((3, len(drawn)), np.nan), ~np.isnan(drawn[:, 1:]).all(axis=1)
        ends[:, known] = np.nanquantile(drawn[known, 1:], _quantiles(design.level), axis=1)
        columns |= {name: drawn[:, 0], f"{name}_low": ends[0], f"{name}_high": ends[2]}
    classes = {f"moved_{name}": layer.moved[:, rows].mean(axis=1) for name, rows in design.classes.items()}
    return classes | columns


def _noiseless(families: Float[np.ndarray, "role 2 2 family family"], level: float) -> dict[str, Cells]:
    found = noiseless_angle(families, level)
    return {name if name.startswith("angle") else f"noiseless_{name}": values for name, values in found.items()}


def _p_no_drift(families: Float[np.ndarray, "role 2 2 family family"], design: _Design) -> Cells:
    """Flip the sign of each family's difference between the models: if they share a direction, one time in twenty it is
    as large."""
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


def _below_null(products: Float[np.ndarray, "role family family"], design: _Design) -> Bool[np.ndarray, " role"]:
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
