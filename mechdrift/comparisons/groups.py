"""Groups of runs: by route, model family, size and parent, and what is measured in each."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from mechdrift.records import order_dimensions
from mechdrift.records.words import ALL

NO_DIMENSIONS = ("reasoning", ALL)
GROUPS = ("route", "family", "size", "parent")
MOST_PARENTS = 40  # in a list to choose from
UNITS = {"pair": "pair", "parent": "parent_print"}
"""What counts as one observation, and the column of the table of runs that identifies it."""


def measures_of(table: pd.DataFrame) -> list[str]:
    """What is measured, in the order of the page: accuracy on reasoning tasks, the dimensions, and their mean."""
    found = set(table.dimension)
    named = ["reasoning", *order_dimensions(sorted(found - set(NO_DIMENSIONS))), ALL]
    return [name for name in named if name in found]


def filters_of(table: pd.DataFrame) -> tuple[str, ...]:
    """By what the runs can be grouped: what differs among them, and parents only where they are few enough to choose
    from."""
    counts = {name: table[name].nunique() for name in GROUPS}
    is_list = 1 < counts["parent"] <= MOST_PARENTS and counts["parent"] < table.pair.nunique()
    return tuple(name for name in GROUPS if counts[name] > 1 and (name != "parent" or is_list))


def groups_of(table: pd.DataFrame) -> dict[tuple[str, ...], np.ndarray]:
    """Groups of runs by their route, family, size and parent ("" stands for any), each with its members.

    Several choices can hold the same runs, because a parent has one family and one size. Of those, the choice with the
    fewest words is kept.
    """
    chosen = filters_of(table)
    values = table[[*GROUPS]].assign(**dict.fromkeys(set(GROUPS) - set(chosen), "")).drop_duplicates()
    options = {
        tuple(value if keep else "" for value, keep in zip(row, kept, strict=True))
        for row in values.itertuples(index=False, name=None)
        for kept in product((False, True), repeat=len(GROUPS))
    }
    found: dict[bytes, tuple[str, ...]] = {}
    for option in sorted(options, key=lambda option: (sum(map(bool, option)), [not word for word in option], option)):
        found.setdefault(members_of(table, option).tobytes(), option)
    return {option: np.frombuffer(members, dtype=bool) for members, option in found.items()}


def members_of(table: pd.DataFrame, group: Sequence[str]) -> np.ndarray:
    """Which runs fit a choice of route, family, size and parent ("" stands for any), as a mask."""
    fits = [(table[name] == value).to_numpy() for name, value in zip(GROUPS, group, strict=True) if value]
    return np.logical_and.reduce(fits) if fits else np.ones(len(table), dtype=bool)
