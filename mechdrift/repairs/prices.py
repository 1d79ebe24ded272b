"""What a repair brings back, and what it costs: one row per measure, paired with child and parent.

    aligned      triggers with an aligned answer, by dimension and in their mean (`all`)
    twins        neutral items that were simply helped; it falls with over-caution
    reasoning    held-out tasks answered right
    thought      triggers whose thought alone is aligned
    think_ratio  length of thinking divided by the child's; geometric mean over items
    loops, unclosed, missing     shares of all that was asked

Only items count that both models finished. Intervals are over families, with the same draws for both models
(`statistics.resampling`). The share of the gap

    recovered = (repaired - child) / (parent - child)

is a ratio of means with a percentile interval. It is given only where the interval of parent less child excludes zero,
because a share of a gap that may be zero says nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.records import order_dimensions
from mechdrift.records.words import ALL
from mechdrift.statistics.intervals import SHARE, UNBOUNDED, Bounds, family_weights
from mechdrift.statistics.resampling import Statistic, balanced_mean, cluster_bootstrap, mean, paired_bootstrap

DRAWS = 2000
LIKEWISE = 0.95  # least share of the draws in which the gap has the sign of its estimate
NOTHING = dict.fromkeys(
    [
        "low",
        "high",
        "child",
        "parent",
        "change",
        "change_low",
        "change_high",
        "recovered",
        "recovered_low",
        "recovered_high",
    ],
    math.nan,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number per item: of which group of items (all of them without one), in which column, and whether each dimension
    has its own."""

    name: str
    group: str = ""
    column: str = "good"
    by_dimension: bool = False
    bounds: Bounds = SHARE


MEASURES = (
    Measure(name="aligned", group="trigger", by_dimension=True),
    Measure(name="twins", group="neutral", by_dimension=True),
    Measure(name="thought", group="trigger", column="thought", by_dimension=True),
    Measure(name="reasoning", group="task"),
    Measure(name="loops", column="loop"),
    Measure(name="unclosed", column="unclosed"),
    Measure(name="missing", column="missing"),
)


def price_rows(repaired: pd.DataFrame, child: pd.DataFrame, parent: pd.DataFrame, seed: int = 0) -> list[dict]:
    """The rows of one model (`answered`) against child and parent, which were asked the same items."""
    rows = []
    for measure in MEASURES:
        rows += list(_rows_of(measure, repaired, child, parent, seed))
    return [*rows, *_ratio_row(repaired, child, seed)]


def _rows_of(
    measure: Measure, repaired: pd.DataFrame, child: pd.DataFrame, parent: pd.DataFrame, seed: int
) -> Iterator[dict]:
    tables = [table[table.group == measure.group] if measure.group else table for table in (repaired, child, parent)]
    together = pd.concat(
        [table.set_index("item")[measure.column].astype(float) for table in tables],
        axis=1,
        keys=["repaired", "child", "parent"],
    )
    places = tables[0].set_index("item")[["dimension", "family"]]
    joined = places.join(together).dropna(subset=["repaired", "child"])
    if not measure.by_dimension:
        dimension = "reasoning" if measure.group == "task" else ALL
        yield from _row(measure, dimension, joined, mean, seed)
        return
    names = order_dimensions(joined.dimension)
    for name in names:
        yield from _row(measure, name, joined[joined.dimension == name], mean, seed)
    if len(names) > 1:
        yield from _row(measure, ALL, joined, balanced_mean(joined.dimension.to_numpy()), seed)


def _row(measure: Measure, dimension: str, joined: pd.DataFrame, statistic: Statistic, seed: int) -> Iterator[dict]:
    if joined.empty:
        return
    families = (joined.dimension + "/" + joined.family).to_numpy()
    after, before = joined.repaired.to_numpy(), joined.child.to_numpy()
    value = cluster_bootstrap(after, families, statistic, bounds=measure.bounds, draws=DRAWS, seed=seed)
    change = paired_bootstrap(before, after, families, statistic, bounds=measure.bounds, draws=DRAWS, seed=seed)
    whole = np.ones((1, len(joined)))
    row = {
        "measure": measure.name,
        "dimension": dimension,
        "value": value.estimate,
        **NOTHING,
        "low": value.low,
        "high": value.high,
        "child": float(statistic(before, whole)[0]),
        "change": change.estimate,
        "change_low": change.low,
        "change_high": change.high,
        "n": len(joined),
        "families": len(set(families)),
    }
    goal = joined.parent.to_numpy()
    if measure.group and not np.isnan(goal).all():
        has_goal = ~np.isnan(goal)
        chosen = balanced_mean(joined.dimension.to_numpy()[has_goal]) if dimension == ALL else statistic
        row["parent"] = float(chosen(goal[has_goal], np.ones((1, int(has_goal.sum()))))[0])
        row |= recovered(after[has_goal], before[has_goal], goal[has_goal], families[has_goal], chosen, seed)
    yield row


def recovered(
    after: Float[np.ndarray, " item"],
    before: Float[np.ndarray, " item"],
    goal: Float[np.ndarray, " item"],
    families: np.ndarray,
    statistic: Statistic = mean,
    seed: int = 0,
) -> dict[str, float]:
    """The share of the gap that came back, with its interval; missing where the gap is not established."""
    gap = paired_bootstrap(before, goal, families, statistic, bounds=SHARE, draws=DRAWS, seed=seed)
    names = ("recovered", "recovered_low", "recovered_high")
    if not (gap.low > 0 or gap.high < 0):
        return dict.fromkeys(names, math.nan)
    labels, family = np.unique(families, return_inverse=True)
    weights = np.vstack([np.ones(len(labels)), family_weights(len(labels), DRAWS, seed)])[:, family]
    start, end, new = (statistic(values, weights) for values in (before, goal, after))
    has_sign = np.sign(end - start) == np.sign(gap.estimate)
    if has_sign.mean() < LIKEWISE:
        return dict.fromkeys(names, math.nan)
    shares = (new - start)[has_sign] / (end - start)[has_sign]
    low, high = np.percentile(shares[1:], [2.5, 97.5])
    return dict(zip(names, (float(shares[0]), float(low), float(high)), strict=True))


def _ratio_row(repaired: pd.DataFrame, child: pd.DataFrame, seed: int) -> Iterator[dict]:
    """Lengths are compared as logarithms, so that doubling and halving weigh the same."""
    both = repaired.set_index("item").join(child.set_index("item")[["think_tokens"]], rsuffix="_child")
    if both.empty or not both.think_tokens_child.any():
        return
    logs = np.log1p(both.think_tokens.to_numpy(dtype=float)) - np.log1p(both.think_tokens_child.to_numpy(dtype=float))
    families = (both.dimension + "/" + both.family).to_numpy()
    found = cluster_bootstrap(logs, families, bounds=UNBOUNDED, draws=DRAWS, seed=seed)
    value, low, high = (math.exp(end) for end in (found.estimate, found.low, found.high))
    yield {
        "measure": "think_ratio",
        "dimension": ALL,
        "value": value,
        **NOTHING,
        "low": low,
        "high": high,
        "child": 1.0,
        "change": value - 1,
        "change_low": low - 1,
        "change_high": high - 1,
        "n": len(both),
        "families": len(set(families)),
    }


def level_row(
    measure: str, values: Float[np.ndarray, " item"], families: np.ndarray, bounds: Bounds, seed: int = 0
) -> dict[str, Any]:
    """A row of a measure that has no value in child or parent, such as the divergence from the child."""
    found = cluster_bootstrap(values, families, bounds=bounds, draws=DRAWS, seed=seed)
    return {
        "measure": measure,
        "dimension": ALL,
        "value": found.estimate,
        **NOTHING,
        "low": found.low,
        "high": found.high,
        "n": len(values),
        "families": len(set(families)),
    }


def plain_row(measure: str, value: float) -> dict[str, Any]:
    """A row of one number without an interval, such as seconds."""
    return {
        "measure": measure,
        "dimension": ALL,
        "value": value,
        **NOTHING,
        "n": 1,
        "families": 1,
    }
