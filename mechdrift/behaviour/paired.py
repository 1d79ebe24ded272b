"""Comparing the two models on the items that both answered.

Both models answer the same items, so everything is paired. `pair_up` puts each item's values side by side, with several
samples of an item pooled into one value; `compare_sides` gives a statistic of both sides and its difference, with 95 %
intervals over families and the same draws for both models; `paired_test` gives the p value of the difference and the
smallest difference that this design would have found.
"""

import numpy as np
import pandas as pd

from mechdrift.behaviour.censoring import missing_of
from mechdrift.behaviour.dimensions.record import Value
from mechdrift.records import SIDES
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.intervals import Bounds


def pair_up(table: pd.DataFrame, value: Value, pool: str = "mean") -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The items that both sides answered (a row each, indexed by `item`), and each side's values in the same order. The
    samples of an item become one value by `pool`, the name of a pandas aggregation."""
    values = {}
    for side in SIDES:
        part = table[table.side == side]
        values[side] = value(part).groupby(part["item"], sort=False).agg(pool)
    items = table[table.side == "instruct"].drop_duplicates("item").set_index("item")
    items = items[items.index.isin(values["reasoning"].index)]
    return items, *(values[side].loc[items.index].to_numpy(dtype=float) for side in SIDES)


def judged_by_both(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table without the items at which the judge failed for either side, and the counts that go with a score:
    items `asked`, and answers `incomplete_…`, `unanswered_…` and `failed_…` of each side."""
    failed = table[table.failed]
    rest = table[~table["item"].isin(failed["item"])]
    counts = {"asked": len(set.intersection(*(set(rest[rest.side == side]["item"]) for side in SIDES)))}
    for side in SIDES:
        answers = rest[rest.side == side]
        missing = missing_of(answers) != ""
        counts |= {
            f"incomplete_{side}": int(missing.sum()),
            f"unanswered_{side}": int(((answers.says == "") & ~missing).sum()),
            f"failed_{side}": int((failed.side == side).sum()),
        }
    return rest, counts


def compare_sides(
    families: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    statistic: statistics.Statistic,
    bounds: Bounds,
    seed: int,
) -> dict:
    """A statistic of both sides and its paired difference (reasoning minus instruct), each with its 95 % interval.
    `bounds` are the least and greatest value of one side."""
    sides = [
        statistics.cluster_bootstrap(values, families, statistic, bounds=bounds, seed=seed)
        for values in (before, after)
    ]
    change = statistics.paired_bootstrap(before, after, families, statistic, bounds=bounds, seed=seed)
    row: dict = {"n": len(before), "families": len(set(families)), "p": np.nan, "p_holm": np.nan, "mde": np.nan}
    for side, interval in zip(SIDES, sides, strict=True):
        row |= {side: interval.estimate, f"{side}_low": interval.low, f"{side}_high": interval.high}
    found = {name: getattr(change, name) for name in ("low", "high", "safe_low", "safe_high")}
    return row | {"difference": change.estimate} | found


def paired_test(differences: np.ndarray, families: np.ndarray, seed: int) -> dict[str, float]:
    """`p` of a paired difference, by sign flips of families, and `mde`, the smallest difference that this design would
    have found in 80 % of cases."""
    means = statistics.family_means(differences, families)
    sd = means.std(ddof=1) if len(means) > 1 else np.nan
    sd = sd if sd > 0 else np.nan  # where nothing changed, the data do not say what could have been seen
    return {
        "p": statistics.sign_flip_test(differences, families, seed=seed, mid_p=True),
        "mde": float(statistics.minimum_detectable_effect(sd, len(means))),
    }


def class_weights(classes: np.ndarray) -> np.ndarray:
    """Weights that make a plain mean the mean of the two class means."""
    _, index, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return len(classes) / (len(counts) * counts[index])


def nothing_compared() -> dict[str, float]:
    """The numbers of a row for which there is no item that both models finished."""
    values = [f"{value}{end}" for value in SIDES for end in ("", "_low", "_high")]
    return {"n": 0, "families": 0} | dict.fromkeys([*values, "difference", "low", "high", "p", "p_holm", "mde"], np.nan)


def nothing_missing() -> dict[str, int]:
    """The counts of a row whose answers were all read."""
    return {"asked": 0} | {f"{count}_{side}": 0 for count in ("incomplete", "unanswered", "failed") for side in SIDES}
