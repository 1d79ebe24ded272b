"""How items are grouped when directions are found: twins, halves of the families, resampled families.

Families, not items, are split and resampled, because the items of a family share a template or a topic.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from mechdrift.records import Activations, MechdriftError
from mechdrift.statistics.resampling import family_draws


def twin_rows(activations: Activations) -> Int[np.ndarray, " prompt"]:
    """The row of each item's twin; -1 where it has none in the other class."""
    items = activations.probes.items
    place = {item.id: index for index, item in enumerate(items)}
    found = [place.get(item.twin, -1) for item in items]
    return np.array(
        [twin if items[twin].is_trigger != item.is_trigger else -1 for item, twin in zip(items, found, strict=True)]
    )


def family_halves(activations: Activations, splits: int, seed: int) -> Bool[np.ndarray, "split prompt"]:
    """Whether each item is in the first half, for several random splits of the families. Both halves hold both
    classes; raises `MechdriftError` where that is not possible."""
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
                f"Probe set {activations.probes.name!r} has {is_trigger.sum()} trigger and {(~is_trigger).sum()} "
                f"neutral items in {len(families)} families: directions need each class in two families at least, so "
                "take more items."
            )
    return halves


def family_contrasts(
    activations: Activations, draws: int, seed: int
) -> tuple[Float[np.ndarray, "class_family prompt"], Float[np.ndarray, "draw class_family"]]:
    """Weights that sum each family's triggers, then its neutral items; and how these sums combine into the mean
    difference of each draw of families.

    The contrasts of a draw that lacks a class are NaN.
    """
    is_trigger = activations.is_trigger
    names, family = np.unique(activations.families, return_inverse=True)
    member = np.eye(len(names))[:, family]
    sums = np.vstack([member * is_trigger, member * ~is_trigger])
    weights = family_draws(len(names), draws, seed)
    with np.errstate(invalid="ignore"):
        classes = [weights / (weights @ count)[:, None] for count in sums.sum(axis=1).reshape(2, -1)]
    return sums, np.hstack([classes[0], -classes[1]])
