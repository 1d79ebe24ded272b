"""Ask both models, judge, and compare, in one call: a built-in probe set, a file of one's own, or one of the field's
benchmarks."""

import pandas as pd

from mechdrift.behaviour.benchmark_scores.asking import score_benchmark
from mechdrift.behaviour.generation import generate
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.labels import RULES, VARIANTS, judge_all, judge_variant, variant_of
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.scores import score_table
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, ProbeSet, ScoreTable


def score(
    pair: Pair,
    probes: ProbeSet,
    *,
    budget: Budget = Budget(),  # noqa: B008
    judge: RefusalJudge | None = None,
    samples: int = 1,
    temperature: float = 0.7,
    seed: int = 0,
) -> ScoreTable:
    """How aligned are both models' answers, and do they differ? Asks both, judges, and compares them in pairs.

    Args:
        pair: the two models.
        probes: a probe set, whose variants are asked as well, or a benchmark, which is scored by its own formula.
        budget: how many tokens a model may think and answer.
        judge: what takes the place of the refusal rules where refusals decide (`load_judge`, or any
            `RefusalJudge`).
        samples: answers per item: one is greedy, more are drawn at the temperature.
        temperature: of the samples, where there are several.
        seed: of the samples and of all resampling.

    Returns:
        A `ScoreTable`. Its `.frame` has a row per metric: `dimension, metric, n, families, instruct, reasoning,
        difference` (reasoning minus instruct), `low, high` (95 %, families resampled), `p`, `mde` (the smallest
        difference that this design finds in 80 % of cases), counts of answers that could not be judged, and
        `convention`. Shares run from 0 to 1.

    Raises:
        MechdriftError: for a set that is empty or has one family only.

    Source:
        Each metric's paper stands in its `convention`; tests and intervals in `mechdrift.statistics.resampling`.

    Example:
        >>> table = md.score(pair, probes, budget=md.Budget(think=8, answer=8))
        >>> table.frame[["metric", "instruct", "reasoning", "difference", "low", "high"]].shape[1]
        6
    """
    if probes.benchmark:
        table = score_benchmark(
            pair, probes, budget=budget, samples=samples, temperature=temperature, judge=judge, seed=seed
        )
        return ScoreTable(frame=table.assign(headline=False))
    judged, variants = [], []
    drawing = {"samples": samples, "temperature": temperature if samples > 1 else None, "seed": seed}
    for side in SIDES:
        judged.append(judge_all(probes, generate(pair, probes, side, budget=budget, **drawing), judge or RULES))
        for name in VARIANTS.get(probes.dimension, ()):
            asked = variant_of(probes, name)
            if asked.items:
                variants.append(
                    judge_variant(probes, name, generate(pair, asked, side, budget=budget, **drawing), judge or RULES)
                )
    return score_table(
        pd.concat(judged, ignore_index=True), variants=pd.concat(variants) if variants else None, seed=seed
    )
