"""Did the direction move? One dimension's directions in two models, compared per layer and role.

Let `u` be the instruct and `v` the reasoning model's unit direction of one cell, `u_h, v_h` (h = 1, 2) the directions
found on two random halves of the families, and `<>` the mean over splits. The columns of `.frame`:

    cosine               u . v; angle_degrees = 2 atan2(|u - v|, |u + v|), exact also for tiny angles. Both are NaN
                         where a model has no direction, because all its items have the same activation there.
    cosine_low, _high    95 % interval: families are drawn with replacement, the same for both models, and the mean
                         differences (Arditi et al., arXiv 2406.11717) recomputed from per-family sums. A draw adds its
                         own noise to that of the data, so all draws lie low; their angles are shifted to have the
                         estimate as their median. NaN for another finder.
    norm_ratio           |r_reasoning| / |r_instruct|: did the class difference grow or shrink?
    split_half_*         <u_1 . u_2> of each model: how well half the data find the direction again.
    ceiling              the geometric mean of both models' 2 s / (1 + s), s = max(split_half, 0): Spearman-Brown, the
                         cosine to expect of the same direction found twice, on *independent* data of full size.
    cosine_over_ceiling  <(u_1 . v_2 + u_2 . v_1) / 2> / sqrt(<u_1 . u_2> <v_1 . v_2>): the cosine that noiseless
                         directions would have (correction for attenuation, Spearman 1904). It is not
                         `cosine / ceiling`: both models see the same prompts and share their noise, so identical
                         models would score above one. Opposite halves share nothing. NaN below the null.
    auroc_*              direction found on one half of the families, items of the other half projected on it; mean over
                         both halves of 4 splits. `auroc_instruct`, `auroc_reasoning`: on the model's own activations;
                         `auroc_transfer_to_reasoning`: the instruct model's direction on the reasoning model's
                         activations; `auroc_transfer_to_instruct`: the other way round.
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
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from mechdrift.directions import family_halves, find_in
from mechdrift.records import SIDES, Activations, DirectionDrift, Directions, Side
from mechdrift.statistics import family_draws

HELD_OUT_SPLITS = 4
NULL_DRAWS = 200
Cells = Float[np.ndarray, " role"]
BySide = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class _Design:
    """What is drawn once and used in every layer. `sums` adds up the items of each family: triggers, then neutrals."""

    is_trigger: Bool[np.ndarray, " prompt"]
    sums: Float[np.ndarray, "class_family prompt"]
    contrasts: Float[np.ndarray, "draw class_family"]
    halves: Bool[np.ndarray, "split prompt"]
    family_halves: Bool[np.ndarray, "split family"]
    flips: Float[np.ndarray, "null_draw family"]


def compare_directions(directions: Directions, draws: int = 300, seed: int = 0) -> DirectionDrift:
    """Compare the two models' directions per layer and role."""
    design = _draw(directions.activations, draws, seed)
    held_out = _held_out_directions(directions, design)
    columns = [_compare_layer(directions, held_out, index, design) for index in range(len(directions.layers))]
    cells = pd.MultiIndex.from_product([directions.layers, directions.roles], names=["layer", "role"])
    table = {name: np.concatenate([layer[name] for layer in columns]) for name in columns[0]}
    frame = pd.DataFrame(table, index=cells).reset_index()
    frame.insert(0, "dimension", directions.dimension)
    return DirectionDrift(dimension=directions.dimension, frame=frame)


def _draw(activations: Activations, draws: int, seed: int) -> _Design:
    is_trigger = activations.is_trigger
    names, first, family = np.unique(activations.families, return_index=True, return_inverse=True)
    member = np.eye(len(names))[:, family]
    sums = np.vstack([member * is_trigger, member * ~is_trigger])
    weights = family_draws(len(names), draws, seed)
    with np.errstate(invalid="ignore"):  # a draw without one class is NaN from here on, and left out of the interval
        classes = [weights / (weights @ count)[:, None] for count in sums.sum(axis=1).reshape(2, -1)]
    halves = family_halves(activations, HELD_OUT_SPLITS, seed)
    flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(NULL_DRAWS, len(names)))
    return _Design(is_trigger, sums, np.hstack([classes[0], -classes[1]]), halves, halves[:, first], flips)


def _held_out_directions(directions: Directions, design: _Design) -> BySide:
    """Directions in the first, then in the second halves of the design's splits, `[subset, layer, role, d_model]`."""
    subsets = np.concatenate([design.halves, ~design.halves])
    return {side: find_in(directions.activations, side, subsets, directions.method).numpy() for side in SIDES}


def _compare_layer(directions: Directions, held_out: BySide, index: int, design: _Design) -> dict[str, np.ndarray]:
    recorded = {side: directions.activations.of(side)[:, index].double().numpy() for side in SIDES}
    centred = {side: _centre(recorded[side], design.is_trigger) for side in SIDES}
    sums = {side: np.tensordot(design.sums, centred[side], axes=1) for side in SIDES}
    null = {f"below_null_{side}": _below_null(sums[side], design) for side in SIDES}
    below_null = np.logical_or(*null.values())
    angles = _angles(directions, index)
    columns = (
        angles
        | (_interval(angles["cosine"], sums, design) if directions.method == "mean_difference" else {})
        | _split_agreement(directions, index)
        | _transfer({side: held_out[side][:, index] for side in SIDES}, centred, design)
        | null
        | {"below_null": below_null}
    )
    columns["cosine_over_ceiling"] = np.where(below_null, np.nan, columns["cosine_over_ceiling"])
    return columns


def _angles(directions: Directions, index: int) -> dict[str, Cells]:
    u, v = (directions.of(side)[index].double().numpy() for side in SIDES)
    cosine = _cosine(u, v)
    angle = np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1)))
    before, after = directions.norm_instruct[index].numpy(), directions.norm_reasoning[index].numpy()
    unknown = np.full_like(cosine, np.nan)
    return {
        "cosine": cosine, "cosine_low": unknown, "cosine_high": unknown,
        "angle_degrees": np.where(np.isnan(cosine), np.nan, angle), "norm_ratio": _ratio(after, before),
    }  # fmt: skip


def _cosine(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Along the last axis; NaN where a vector is zero, exactly 1 where they are the same."""
    length = np.sqrt((u * u).sum(axis=-1) * (v * v).sum(axis=-1))
    return np.clip(_ratio((u * v).sum(axis=-1), length), -1, 1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where the denominator is not positive."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _centre(layer: Float[np.ndarray, "prompt role d_model"], is_trigger: np.ndarray) -> np.ndarray:
    """Take away the midpoint of the class means, a large vector that all differences would have to cancel."""
    return layer - (layer[is_trigger].mean(axis=0) + layer[~is_trigger].mean(axis=0)) / 2


def _interval(cosine: Cells, sums: BySide, design: _Design) -> dict[str, Cells]:
    """Percentiles of the resampled angles, shifted so that their median is the angle of the data."""
    drawn = {side: np.tensordot(design.contrasts, sums[side], axes=1) for side in SIDES}
    angles = np.arccos(_cosine(drawn["instruct"], drawn["reasoning"]))
    angles = angles[~np.isnan(angles[:, ~np.isnan(cosine)]).any(axis=1)]
    largest, middle, smallest = np.percentile(angles, [97.5, 50, 2.5], axis=0)
    low, high = (np.cos(np.clip(np.arccos(cosine) + end - middle, 0, np.pi)) for end in (largest, smallest))
    return {"cosine_low": low, "cosine_high": high}


def _split_agreement(directions: Directions, index: int) -> dict[str, Cells]:
    u, v = (split[:, :, index].double().numpy() for split in (directions.split_instruct, directions.split_reasoning))
    # opposite halves of [split, half, role, d_model]; halves without a direction do not agree: 0, not NaN
    opposite = {"instruct": (u, u[:, ::-1]), "reasoning": (v, v[:, ::-1]), "across": (u, v[:, ::-1])}
    agreement = {name: np.nan_to_num(_cosine(*halves)).mean(axis=(0, 1)) for name, halves in opposite.items()}
    known = [np.maximum(agreement[side], 0) for side in SIDES]
    return {
        "split_half_instruct": agreement["instruct"],
        "split_half_reasoning": agreement["reasoning"],
        "ceiling": np.sqrt(np.prod([2 * cosine / (1 + cosine) for cosine in known], axis=0)),
        "cosine_over_ceiling": _ratio(agreement["across"], np.sqrt(known[0] * known[1])),
    }


def _transfer(held_out: BySide, centred: BySide, design: _Design) -> dict[str, Cells]:
    """AUROC of each model's held-out directions on each model's activations."""
    names: dict[tuple[Side, Side], str] = {
        ("instruct", "instruct"): "auroc_instruct", ("instruct", "reasoning"): "auroc_transfer_to_reasoning",
        ("reasoning", "reasoning"): "auroc_reasoning", ("reasoning", "instruct"): "auroc_transfer_to_instruct",
    }  # fmt: skip
    unseen = np.concatenate([~design.halves, design.halves])
    columns = {}
    for (source, target), name in names.items():
        # [role, prompt, d_model] @ [role, d_model, subset]: one matrix product per role
        scores = centred[target].transpose(1, 0, 2) @ held_out[source].transpose(1, 2, 0)
        areas = [_auroc(scores[:, mask, k].T, design.is_trigger[mask]) for k, mask in enumerate(unseen)]
        columns[name] = np.mean(areas, axis=0)
    return columns


def _auroc(scores: Float[np.ndarray, "prompt role"], is_trigger: Bool[np.ndarray, " prompt"]) -> Cells:
    """From the trigger items' sum of ranks (Mann-Whitney), a column at a time."""
    triggers, neutrals = is_trigger.sum(), (~is_trigger).sum()
    ranks = rankdata(scores, axis=0)[is_trigger].sum(axis=0)
    return (ranks - triggers * (triggers + 1) / 2) / (triggers * neutrals)


def _below_null(sums: Float[np.ndarray, "class_family role d_model"], design: _Design) -> Bool[np.ndarray, " role"]:
    """A direction in half the families is a signed sum of family differences, so inner products of those are enough."""
    triggers, neutrals = np.split(sums, 2)
    differences = triggers / design.is_trigger.sum() - neutrals / (~design.is_trigger).sum()
    products = np.einsum("frd,grd->rfg", differences, differences, optimize=True)
    signs = np.vstack([np.ones(len(differences)), design.flips])[:, None]  # the first draw is the data
    first, second = signs * design.family_halves, signs * ~design.family_halves  # [draw, split, family]
    cosines = np.stack([_gram_cosine(first, second, product).mean(axis=1) for product in products])
    return cosines[:, 0] <= np.quantile(cosines[:, 1:], 0.95, axis=1)


def _gram_cosine(a: np.ndarray, b: np.ndarray, products: Float[np.ndarray, "family family"]) -> np.ndarray:
    """Cosine of the sums with coefficients `a` and `b`, `[..., family]`; 0 where one of them is zero."""
    a_products = a @ products
    across, squares = (a_products * b).sum(-1), (a_products * a).sum(-1) * ((b @ products) * b).sum(-1)
    return np.nan_to_num(_ratio(across, np.sqrt(np.maximum(squares, 0))))
