"""Where in the residual stream does a model write "this one is harmful"? One direction per layer and role.

The trigger items of a probe set ask for special behaviour, their neutral twins do not. A *finder* turns the two groups
of activations into a vector that points from neutral to trigger. The mean difference

    r = mean(x | trigger) - mean(x | neutral)

is the finder of Arditi et al. (arXiv 2406.11717): on the block input, per layer and template-tail position, in float64.
It is found for both models on the same items, in three steps:

    1. check that the activations are finite and that both classes are there;
    2. r on all items: its length is kept as `norm`, and r / |r| is the direction. Where all items have the same
       activation (a template position at layer 0) r is zero and stays zero: there is no direction;
    3. r on random halves of the *families*, the same halves for both models. How well the two halves agree is what one
       can expect of any two directions: the noise ceiling of `drift`.

A new method is a function `(trigger [n, *cell, d_model], neutral [n, *cell, d_model]) -> [*cell, d_model]` that treats
each cell by itself and does not normalise; add it to `FINDERS`. It gets one layer at a time, `[n, role, d_model]`, in
float64.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechdrift.records import SIDES, Activations, Directions, MechdriftError, Side

Finder = Callable[[Tensor, Tensor], Tensor]


def mean_difference(
    trigger: Float[Tensor, "trigger *cell d_model"], neutral: Float[Tensor, "neutral *cell d_model"]
) -> Float[Tensor, "*cell d_model"]:
    """Mean of the trigger items minus mean of the neutral items."""
    return trigger.mean(dim=0, dtype=torch.float64) - neutral.mean(dim=0, dtype=torch.float64)


FINDERS: dict[str, Finder] = {"mean_difference": mean_difference}


def find_directions(activations: Activations, method: str = "mean_difference", splits: int = 16, seed: int = 0) -> Directions:
    """Find a unit vector per layer and role in both models, and in `splits` pairs of half the families."""
    if method not in FINDERS:
        raise MechdriftError(f"There is no direction finder {method!r}: choose one of {', '.join(FINDERS)}.")
    _check_finite(activations)
    everything = np.ones((1, len(activations.probes)), dtype=bool)
    halves = family_halves(activations, splits, seed)
    whole = {side: find_in(activations, side, everything, method)[0] for side in SIDES}
    first, second = ({side: find_in(activations, side, half, method) for side in SIDES} for half in (halves, ~halves))
    split = {side: _unit(torch.stack([first[side], second[side]], dim=1)) for side in SIDES}
    return Directions(
        dimension=activations.probes.dimension, method=method, site=activations.site,
        layers=activations.layers, roles=activations.roles,
        instruct=_unit(whole["instruct"]), reasoning=_unit(whole["reasoning"]),
        norm_instruct=whole["instruct"].norm(dim=-1).float(), norm_reasoning=whole["reasoning"].norm(dim=-1).float(),
        split_instruct=split["instruct"], split_reasoning=split["reasoning"],
        activations=activations,
    )  # fmt: skip


def find_in(
    activations: Activations, side: Side, subsets: Bool[np.ndarray, "subset prompt"], method: str
) -> Float[Tensor, "subset layer role d_model"]:
    """One model's directions in several subsets of the prompts, float64 and not normalised."""
    finder, masks = FINDERS[method], torch.from_numpy(subsets)
    is_trigger = torch.from_numpy(activations.is_trigger)
    layers = []
    for recorded in activations.of(side).unbind(dim=1):
        layer = recorded.double()  # one layer at a time: this copy fits the cache, that of all layers would be large
        layers.append(torch.stack([finder(layer[mask & is_trigger], layer[mask & ~is_trigger]) for mask in masks]))
    return torch.stack(layers, dim=1)


def family_halves(activations: Activations, splits: int, seed: int) -> Bool[np.ndarray, "split prompt"]:
    """Whether each item is in the first half: random halves of the families, each with both classes."""
    families, family = np.unique(activations.families, return_inverse=True)
    is_trigger = activations.is_trigger
    triggers = np.bincount(family[is_trigger], minlength=len(families))
    kind = np.sign(triggers) - np.sign(np.bincount(family[~is_trigger], minlength=len(families)))
    rng, first = np.random.default_rng(seed), np.zeros((splits, len(families)), dtype=bool)
    for half in first:
        shuffled = rng.permutation(len(families))
        # Families of one kind (both classes, or one alone) lie side by side and go to the halves in turn.
        half[shuffled[np.argsort(kind[shuffled], kind="stable")]] = np.arange(len(families)) % 2 == 0
    halves = first[:, family]
    for group in (halves & is_trigger, halves & ~is_trigger, ~halves & is_trigger, ~halves & ~is_trigger):
        if not group.any(axis=1).all():
            raise MechdriftError(
                f"Probe set {activations.probes.name!r} has {is_trigger.sum()} trigger and"
                f" {(~is_trigger).sum()} neutral items in {len(families)} families: directions need each class in two"
                " families at least, so take more items."
            )
    return halves


def _unit(vectors: Float[Tensor, "*cell d_model"]) -> Float[Tensor, "*cell d_model"]:
    """Divide by the length; a zero vector has no direction and stays zero."""
    length = vectors.norm(dim=-1, keepdim=True)
    return (vectors / length.where(length > 0, 1)).float()


def _check_finite(activations: Activations) -> None:
    for side in SIDES:
        recorded = activations.of(side)
        if recorded.sum(dtype=torch.float64).isfinite():  # a sum is enough, and cheap: NaN and infinity survive it
            continue
        item, layer, role = (~recorded.isfinite()).any(dim=-1).nonzero()[0].tolist()
        raise MechdriftError(
            f"The {side} model's activation of item {activations.probes.items[item].id!r} at layer"
            f" {activations.layers[layer]}, role {activations.roles[role]!r}, is NaN or infinite:"
            " load the model in float32, or leave this item out."
        )
