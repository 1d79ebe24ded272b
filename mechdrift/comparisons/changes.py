"""The rows of a comparison of children: each run against its parent, and two children with each other.

`children` has the formulas.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from mechdrift.behaviour.censoring import finished_only, missing_of, why_cannot_tell
from mechdrift.behaviour.paired import class_weights, compare_sides, nothing_compared, pair_up, paired_test
from mechdrift.behaviour.verdicts import cannot_tell, headline_rows, reasoning_rows, withheld
from mechdrift.records import SIDES, order_dimensions
from mechdrift.records.words import ALL
from mechdrift.runs import Run
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.intervals import POSITIVE, SHARE

SCORED = [
    "metric",
    "better",
    *(f"{side}{end}" for side in SIDES for end in ("", "_low", "_high")),
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "n",
    "families",
    "reason",
]
TESTED = ["difference", "low", "high", "p", "mde", "n", "families"]
PAIRED = ["first", "second", "dimension", "first_score", "second_score", *TESTED, "reason"]


def judged_answers(run: Run, contrast: Literal["trigger", "neutral"] = "trigger") -> pd.DataFrame:
    """A run's judged answers to triggers or to neutral twins; `missing` says which were not finished.

    Items on which the judge failed, for either model, are left out.
    """
    table = run.table("completions")
    failed = set(table[table.failed.astype(bool)]["item"])
    kept = table[(table.contrast == contrast) & ~table["item"].isin(failed)]
    kept = kept.assign(missing=missing_of(kept))
    tokens = [name for name in ("think_tokens", "answer_tokens") if name in kept]  # not in runs of earlier versions
    return kept[["item", "sample", "dimension", "family", "side", "answer", "aligned", "missing", *tokens]]


def _aligned(table: pd.DataFrame) -> pd.Series:
    return table.aligned.astype(float)


# Against the parent.


def against_parent(name: str, run: Run, seed: int) -> pd.DataFrame:
    """A run's own headline scores in the order of dimensions, with the divergence."""
    rows = headline_rows(withheld(run.table("scores"), run.manifest)).set_index("dimension")
    rows["reason"] = [cannot_tell(row) for row in rows.to_dict("records")]
    rows = rows.loc[order_dimensions(rows.index), SCORED].reset_index()
    divergence = [_divergence(run, [dimension], seed) for dimension in rows.dimension]
    rows = rows.assign(**{key: [found[key] for found in divergence] for key in divergence[0]})
    rows.insert(0, "run", name)
    rows.insert(1, "route", run.manifest["pair"].get("route", "unknown"))
    return rows


def _divergence(run: Run, dimensions: Sequence[str], seed: int) -> dict[str, float]:
    """Mean KL per token in nats with its interval; every dimension weighs the same."""
    nothing = {"kl": np.nan, "kl_low": np.nan, "kl_high": np.nan}
    if not run.has("kl_tokens.parquet"):
        return nothing
    tokens = run.table("kl_tokens")
    tokens = tokens[tokens.dimension.isin(dimensions) & tokens.kl.notna()]
    if tokens.empty:
        return nothing
    families = tokens.dimension + "/" + tokens.family
    found = statistics.cluster_bootstrap(
        tokens.kl.to_numpy(),
        families.to_numpy(),
        statistics.balanced_mean(tokens.dimension.to_numpy()),
        bounds=POSITIVE,
        seed=seed,
    )
    return {"kl": found.estimate, "kl_low": found.low, "kl_high": found.high}


def summary_of(name: str, run: Run, triggers: pd.DataFrame, seed: int) -> dict[str, object]:
    """One run on one line: what it gained, what it kept, how far it diverged."""
    kept, over = _mean_change(triggers, seed), _mean_change(judged_answers(run, "neutral"), seed)
    gain = next(iter(reasoning_rows(withheld(run.table("scores"), run.manifest)).to_dict("records")), {})
    return {
        "run": name,
        "route": run.manifest["pair"].get("route", "unknown"),
        "gain": gain.get("difference", np.nan),
        "gain_low": gain.get("low", np.nan),
        "gain_high": gain.get("high", np.nan),
        "accuracy_before": gain.get("instruct", np.nan),
        "accuracy": gain.get("reasoning", np.nan),
        "kept": kept["difference"],
        "kept_low": kept["low"],
        "kept_high": kept["high"],
        "aligned_before": kept["instruct"],
        "aligned": kept["reasoning"],
        "n": kept["n"],
        "families": kept["families"],
        "price": -over["difference"],
        "price_low": -over["high"],
        "price_high": -over["low"],
        "over_before": 1 - over["instruct"],
        "over": 1 - over["reasoning"],
        "dimensions": triggers.dimension.nunique(),
        "reason": why_cannot_tell(triggers),
        "gain_reason": cannot_tell(gain) if gain else "",
    } | _divergence(run, sorted(set(triggers.dimension)), seed)


def _mean_change(answers: pd.DataFrame, seed: int) -> dict:
    """The share of aligned answers of both models and its change, as a mean over the dimensions, on the items that
    both models finished."""
    items, before, after = pair_up(finished_only(answers), _aligned)
    if not len(items):
        return nothing_compared()
    families = (items.dimension + "/" + items.family).to_numpy()
    return compare_sides(families, before, after, statistics.balanced_mean(items.dimension.to_numpy()), SHARE, seed)


# Child against child.


def compare_children(first: str, second: str, triggers: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Two children on the items that both answered: a row per dimension, and one for their mean."""
    both = pd.concat(
        [
            triggers[name][triggers[name].side == "reasoning"].assign(side=side)
            for name, side in zip((first, second), SIDES, strict=True)
        ]
    )
    rows = []
    dimensions = order_dimensions(both.dimension)
    for dimension in [*dimensions, *([ALL] if len(dimensions) > 1 else [])]:
        part = both if dimension == ALL else both[both.dimension == dimension]
        if set(part.side) == set(SIDES):
            items, before, after = pair_up(finished_only(part), _aligned)
            if items.family.nunique() > 1:
                named = {"first": first, "second": second, "dimension": dimension, "reason": why_cannot_tell(part)}
                rows.append(named | _paired(items, before, after, seed))
    return pd.DataFrame(rows, columns=PAIRED)


def _paired(items: pd.DataFrame, before: np.ndarray, after: np.ndarray, seed: int) -> dict[str, float]:
    """The difference of two children with its interval and p; every dimension weighs the same."""
    dimensions, families = items.dimension.to_numpy(), (items.dimension + "/" + items.family).to_numpy()
    found = compare_sides(families, before, after, statistics.balanced_mean(dimensions), SHARE, seed)
    _, first, family = np.unique(families, return_index=True, return_inverse=True)
    # Dimensions have different numbers of families. The test weighs all families alike, so these weights make every
    # dimension count as much as in the estimate.
    found |= paired_test((after - before) * class_weights(dimensions[first])[family], families, seed)
    scores = {"first_score": found["instruct"], "second_score": found["reasoning"]}
    return scores | {name: found[name] for name in TESTED}


def adjusted(children: pd.DataFrame) -> pd.DataFrame:
    """The rows with `p_holm`, adjusted over all of them."""
    return children.assign(p_holm=statistics.holm(children.p.to_numpy(dtype=float)))
