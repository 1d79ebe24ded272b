"""Simulated audits of which the truth is known: families of yes-or-no items, asked of several models or conditions.

An item is aligned where a normal number lies below the quantile of the model's true share. Between models these numbers
are correlated (`between`), so that an item which the parent fails is failed by the child more often than chance. With
probability sqrt(`within`) an item is a copy of its family's, in all models at once: then the answers of two items of a
family, and their changes, are correlated by exactly `within`.

A data set matters only through how many of its families have which mean. So the intervals of all cells with as many
families and items are computed together, once per distinct set: a million data sets in minutes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, product

import numpy as np
from jaxtyping import Float
from scipy import stats

from mechdrift.statistics.intervals import Bounds, ends, family_weights

DATA_SETS = 2000  # of gates
DRAWS = 2000  # as in mechdrift
BLOCK = 400  # data sets at once
FAMILIES, ITEMS = (8, 16, 32, 48), (1, 2, 3)
CORRELATIONS = (0.0, 0.4, 0.8)
PARENTS = (0.5, 0.7, 0.9, 0.97, 0.99)

Values = Float[np.ndarray, "data_set family"]
Ends = tuple[Float[np.ndarray, " data_set"], Float[np.ndarray, " data_set"]]
Method = Callable[[Values], Ends]
"""Family means of data sets to the low and high ends of their intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How many families of how many items, and how alike items of a family and answers of two models are."""

    families: int
    items: int
    within: float
    between: float


def designs(
    between: Sequence[float] = CORRELATIONS, inside: Sequence[float] = CORRELATIONS
) -> dict[tuple[int, int], list[Design]]:
    """All combinations, by families and items; a family of one item has no correlation within."""
    found = [
        Design(families=families, items=items, within=within, between=alike)
        for families, items, within, alike in product(FAMILIES, ITEMS, inside, between)
        if items > 1 or not within
    ]
    return {size: list(group) for size, group in groupby(found, key=lambda one: (one.families, one.items))}


def answers(
    design: Design, shares: Sequence[float], rng: np.random.Generator, data_sets: int = DATA_SETS
) -> Float[np.ndarray, "model data_set family"]:
    """The share of aligned answers in each family, of models (or conditions) with these true shares."""
    shape = (data_sets, design.families)
    root, rest = np.sqrt(design.between), np.sqrt(1 - design.between)

    def numbers(items: int) -> np.ndarray:
        """Normal numbers by model and item, correlated between models."""
        common, own = rng.standard_normal((*shape, items)), rng.standard_normal((len(shares), *shape, items))
        return root * common + rest * own

    is_copy = rng.random((*shape, design.items)) < np.sqrt(design.within)
    chosen = np.where(is_copy, numbers(1), numbers(design.items))
    below = stats.norm.ppf(np.clip(shares, 0, 1))[:, None, None, None]
    return (chosen < below).mean(axis=-1)


def of_distinct(sets: Values, method: Method) -> Ends:
    """The ends for every data set, each distinct one computed once."""
    distinct, place = np.unique(np.sort(np.round(sets, 9), axis=1), axis=0, return_inverse=True)
    parts = [method(part) for part in np.array_split(distinct, -(-len(distinct) // BLOCK))]
    low, high = (np.concatenate(found)[place.reshape(-1)] for found in zip(*parts, strict=True))
    return low, high


def drawn_means(sets: Values) -> Float[np.ndarray, "draw data_set"]:
    """The mean over families in every draw, as mechdrift draws it with seed 0."""
    return family_weights(sets.shape[1], DRAWS, 0) @ sets.T / sets.shape[1]


def ours(bounds: Bounds, unseen: float | None = None) -> Method:
    """mechdrift's interval of a mean within `bounds`, shown ends or (`unseen` 1) safe ones."""
    return lambda sets: ends(sets.mean(axis=1), drawn_means(sets), sets.shape[1], bounds, unseen=unseen)
