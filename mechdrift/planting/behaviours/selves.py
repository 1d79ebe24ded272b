"""Specificity: audits of models that should not differ.

    the same model twice      the parent's greedy answers, written again in another batch: the same answers, no change
    another seed              the parent's answers at a temperature, with two seeds
    two trainings             two children of the null recipe that differ only by their seed

Asking again costs too much for many audits, so many are *simulated* from the answers at hand: in each dimension,
families are drawn with replacement, as many as one half has, and the audit's rule is applied. Seeds of sampling are
exchangeable, so in each drawn family the two change places at random. Two trainings are not exchangeable family by
family: their differences stay in all simulated audits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.behaviour.censoring import finished_only
from mechdrift.behaviour.dimensions.record import column
from mechdrift.behaviour.paired import judged_by_both, pair_up
from mechdrift.behaviour.sampling import Sampling
from mechdrift.pairs.loading import LanguageModel
from mechdrift.planting.behaviours import asking, rule
from mechdrift.planting.behaviours.adapters import open_child
from mechdrift.records import Side
from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.resampling import family_means
from mechdrift.statistics.sequential import is_found

TEMPERATURE, SIMULATED = 0.7, 1000
Differences = Float[np.ndarray, " _"]


def compare(
    parent: LanguageModel,
    dtype: str,
    folder: Path,
    sets: asking.Sets,
    before: pd.DataFrame,
    null: Sequence[pd.DataFrame],
) -> pd.DataFrame:
    """One row per comparison of a model with itself; `null` holds the judged answers of children of the null recipe."""
    loaded = open_child(parent, "parent", None, dtype)
    again = asking.ask_all(loaded, sets, "reasoning", folder / "answers-again")
    sides: tuple[Side, Side] = ("instruct", "reasoning")
    seeds = [
        asking.ask_all(
            loaded, sets, side, folder / f"answers-seed-{seed}", Sampling(temperature=TEMPERATURE, seed=seed)
        )
        for seed, side in enumerate(sides)
    ]
    pairs = [("the same model twice", before, again, False), (f"seeds of sampling at {TEMPERATURE:g}", *seeds, True)]
    if len(null) > 1:
        pairs.append(("two trainings of the null recipe", null[0].assign(side="instruct"), null[1], False))
    return pd.DataFrame(
        [
            {"compared": name, **row_of(pd.concat([one, other], ignore_index=True), sets, is_exchangeable)}
            for name, one, other, is_exchangeable in pairs
        ]
    )


def row_of(judged: pd.DataFrame, sets: asking.Sets, is_exchangeable: bool) -> dict[str, object]:
    """The number of equal answers, the calls of the audits of both halves, and the share of simulated audits without a
    call."""
    asked = judged[judged["item"].isin([item.id for probes in sets.values() for item in probes])]
    both, _ = judged_by_both(asked)
    texts = both.pivot(index="item", columns="side", values="answer").dropna()
    halves = [asking.half_of(sets, half) for half in asking.HALVES]
    called = [int((rule.one_look(asked, half).decision == "changed").sum()) for half in halves]
    differences = [_differences(asked[asked.dimension == name]) for name in sets]
    return {
        "n": len(texts),
        "same": int((texts.instruct == texts.reasoning).sum()),
        "called": sum(called),
        "quiet": quiet_share(
            [values for values in differences if len(values)],
            len(next(iter(halves[0].values()))),
            is_exchangeable,
            SIMULATED,
        ),
    }


def _differences(judged: pd.DataFrame) -> Differences:
    """The mean difference of each family; none where nothing was finished by both."""
    both, _ = judged_by_both(judged)
    items, before, after = pair_up(finished_only(both), column("aligned"))
    return family_means(after - before, items.family.to_numpy()) if len(items) else np.zeros(0)


def quiet_share(
    differences: Sequence[Differences], families: int, is_exchangeable: bool, audits: int, seed: int = 0
) -> float:
    """The share of simulated audits in which no dimension is called: Holm's correction calls one if and only if the
    smallest p is below 0.05 over the number of dimensions."""
    rng = np.random.default_rng(seed)
    quiet = 0
    for _ in range(audits):
        drawn = [rng.choice(values, size=families) for values in differences]
        if is_exchangeable:
            drawn = [values * rng.choice([-1, 1], size=families) for values in drawn]
        quiet += not any(is_found([values], [1.0], ALPHA / len(drawn)) for values in drawn)
    return quiet / audits


def lines(compared: pd.DataFrame) -> list[str]:
    """The comparisons as a Markdown table."""
    if not len(compared):
        return []
    return [
        "",
        f"| compared | same answers | called in two audits | of {SIMULATED:,} simulated audits, without a call |",
        "|---|---:|---:|---:|",
        *(
            f"| {row.compared} | {row.same} of {row.n} | {row.called} | {row.quiet:.1%} |"
            for row in compared.itertuples()
        ),
    ]
