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
    """Scores of both models on one probe set, its variants included; a benchmark is scored by its own formula.

    One greedy answer per item, or several `samples` at a temperature. `judge` takes the place of the refusal rules
    where refusals decide. Raises `MechdriftError` for a set that is empty or has one family only.
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
