"""What a comparison of two models' directions draws once, and what it prepares of each layer.

A `Design` holds the twins, the halves of the families, the resampled families and the sign flips, the same in every
layer. A `Layer` holds one layer's activations of both models, centred, with all their inner products, from which most
columns of the drift table follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mechdrift.directions.families import family_contrasts, family_halves, twin_rows
from mechdrift.records import SIDES, Activations

HELD_OUT_SPLITS = 4
NULL_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Design:
    """What is drawn once and used in every layer. `sums` are weights that add up the items of each family, first its
    triggers, then its neutral items; `contrasts` combine these sums into each draw's mean difference."""

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
        """Weights of the items that give each family's part of the mean difference."""
        triggers, neutrals = np.split(self.sums, 2)
        return triggers / self.is_trigger.sum() - neutrals / (~self.is_trigger).sum()


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's activations, centred at the midpoint of the class means, and all their inner products, with the
    instruct model's items first.

    `moved` is the distance of each item from its place in the instruct model, in units of the spread of items there.
    """

    items: Mapping[str, Float[np.ndarray, "role prompt d_model"]]
    moved: Float[np.ndarray, "role prompt"]
    means: Mapping[str, Float[np.ndarray, "class role d_model"]]
    products: Float[np.ndarray, "role both both"]

    @property
    def within(self) -> tuple[Float[np.ndarray, "role prompt prompt"], Float[np.ndarray, "role prompt prompt"]]:
        """Inner products within the instruct and within the reasoning model."""
        half = self.products.shape[-1] // 2
        return self.products[:, :half, :half], self.products[:, half:, half:]

    def between(self, weights: Float[np.ndarray, "sum prompt"]) -> Float[np.ndarray, "role 2 2 sum sum"]:
        """Inner products of weighted sums of items; the axes of length 2 are the sides (models) of the two sums."""
        count = weights.shape[1]
        blocks = self.products.reshape(-1, 2, count, 2, count).swapaxes(2, 3)
        return weights @ blocks @ weights.T


def draw_design(activations: Activations, draws: int, seed: int, level: float) -> Design:
    names, first = np.unique(activations.families, return_index=True)
    sums, contrasts = family_contrasts(activations, draws, seed)
    halves = family_halves(activations, HELD_OUT_SPLITS, seed)
    flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(NULL_DRAWS, len(names)))
    pairs = np.stack([np.arange(len(activations.probes)), twin_rows(activations)], axis=1)
    pairs = pairs[activations.is_trigger & (pairs[:, 1] >= 0)]
    contrasts = contrasts[~np.isnan(contrasts).any(axis=1)]
    return Design(level, activations.is_trigger, pairs, sums, contrasts, halves, halves[:, first], flips)


def prepare_layer(activations: Activations, index: int, is_trigger: np.ndarray) -> Layer:
    """One layer, minus the midpoint of its class means: a large vector, which would otherwise cancel in every
    difference and leave rounding errors."""
    items, means = {}, {}
    before, after = (activations.of(side)[:, index].double().numpy() for side in SIDES)
    spread = np.sqrt(before.var(axis=0).sum(axis=-1))
    moved = np.linalg.norm(after - before, axis=-1).T / np.where(spread > 0, spread, np.nan)[:, None]
    for side, recorded in zip(SIDES, (before, after), strict=True):
        means[side] = np.stack([recorded[is_trigger].mean(axis=0), recorded[~is_trigger].mean(axis=0)])
        items[side] = np.ascontiguousarray((recorded - means[side].mean(axis=0)).transpose(1, 0, 2))
    both = np.concatenate(list(items.values()), axis=1)
    return Layer(items, moved, means, both @ both.transpose(0, 2, 1))


def quantiles(level: float) -> tuple[float, float, float]:
    return (1 - level) / 2, 0.5, (1 + level) / 2
