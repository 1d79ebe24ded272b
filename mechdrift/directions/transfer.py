"""How well one model's direction separates the other model's items: AUROC on held-out families.

A direction is found on one half of the families, and the items of the other half are projected on it. For the aligned
columns the models' spaces are first turned onto each other (orthogonal Procrustes, `statistics.geometry`), fitted on
the neutral items of the half that the direction comes from.
"""

from collections.abc import Mapping

import numpy as np
import scipy
from jaxtyping import Bool, Float

from mechdrift.directions.drift_design import Design, Layer
from mechdrift.records import SIDES, Side
from mechdrift.statistics import geometry

Cells = Float[np.ndarray, " role"]
BySide = Mapping[str, np.ndarray]


def transfer_columns(held_out: BySide, layer: Layer, design: Design) -> dict[str, Cells]:
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
    layer: Layer,
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
