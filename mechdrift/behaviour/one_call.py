"""`score`: ask both models, judge and compare in one call, on a built-in probe set, your own file, or a benchmark."""

from pathlib import Path

import pandas as pd

from mechdrift.behaviour.benchmark_scores.asking import score_benchmark
from mechdrift.behaviour.both_models import Engine, ask_both
from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.behaviour.generation import default_budget
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.keeping import check_judge, check_judged
from mechdrift.behaviour.kept import keeping
from mechdrift.behaviour.labels import RULES, judge_all, judge_variant, variant_of
from mechdrift.behaviour.sampling import Budget, Sampling
from mechdrift.behaviour.scores import score_table
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.pair import Pair
from mechdrift.records import ProbeSet, ScoreTable, check_not_empty


def score(
    pair: Pair,
    probes: ProbeSet,
    *,
    budget: Budget | None = None,
    think_max: int | None = None,
    judge: RefusalJudge | None = None,
    samples: int = 1,
    temperature: float = 0.7,
    seed: int = 0,
    engine: Engine = "hf",
    dtype: str | None = None,
    keep: Path | None = None,
) -> ScoreTable:
    """How aligned are both models' answers, and do they differ? Asks both, judges, and compares them in pairs.

    Args:
        pair: the two models.
        probes: a probe set, whose variants are asked as well, or a benchmark, which is scored by its own formula.
        budget: how many tokens a model may think and answer; by default those of the embedded pairs, and for others
            what a pilot measures.
        think_max: the most tokens of thinking that the pilot tries.
        judge: replaces the refusal rules where refusals decide (`load_judge`, or any `RefusalJudge`).
        samples: answers per item: one is greedy, more are drawn at the temperature.
        temperature: of the samples, where several are drawn.
        seed: of the samples and of all resampling.
        engine: the backend: `"hf"`, `"vllm"`, or the address of a server; or a mapping per side. Where it is not this
            process, a line on standard error says how far its log-probabilities are from Hugging Face's.
        dtype: in which the models run that write; by default what is fastest here.
        keep: a folder in which answers and labels are kept until the table is whole, so that the same call goes on
            where one before it was ended, by a judge that went down or a kill.

    Returns:
        A `ScoreTable`. Its `.frame` has a row per metric: `dimension, metric, n, families, instruct, reasoning,
        difference` (reasoning minus instruct), `low, high` (95 %, families resampled), `p`, `mde` (the smallest
        difference that this design finds in 80 % of cases), counts of answers that could not be judged, bounds,
        `convention`, and `reason`: why the models cannot be compared, where too many answers were cut off. Shares run
        from 0 to 1.

    Raises:
        MechdriftError: for a set that is empty or has one family only, and for a judge that does not reply.

    Source:
        `convention` names each metric's formula; `mechdrift.statistics.resampling` gives tests and intervals.

    Example:
        >>> table = md.score(pair, probes, budget=md.Budget(think=8, answer=8))
        >>> table.frame[["metric", "instruct", "reasoning", "difference", "low", "high"]].shape[1]
        6
    """
    check_not_empty(probes)
    if probes.benchmark:
        table = score_benchmark(
            pair,
            probes,
            budget=budget,
            think_max=think_max,
            samples=samples,
            temperature=temperature,
            judge=judge,
            seed=seed,
            engine=engine,
            dtype=dtype,
            keep=keep,
        )
        return ScoreTable(frame=table.assign(headline=False))
    check_judge(judge)
    variants = {name: variant_of(probes, name) for name in dimension_of(probes.dimension).variants}
    variants = {name: asked for name, asked in variants.items() if asked.items}
    sets = [probes, *variants.values()]
    groups = [[Question(id=item.id, prompt=item.prompt) for item in asked] for asked in sets]
    drawing = Sampling(samples=samples, temperature=temperature if samples > 1 else 0.0, seed=seed)
    settings = {"budget": budget or default_budget(pair), "think_max": think_max, "sampling": drawing}
    asked = [(question.id, question.prompt) for group in groups for question in group]
    with keeping(keep, pair, f"{pair.name}-{probes.name}", asked, dtype=dtype, **settings) as kept:
        labels = kept.judge(judge or RULES)
        judged, varied = [], []
        for _, answers in ask_both(pair, groups, engine=engine, dtype=dtype, kept=kept, **settings):
            judged.append(judge_all(probes, answers.of(probes), labels))
            varied += [judge_variant(probes, name, answers.of(asked), labels) for name, asked in variants.items()]
        check_judged(labels, pd.concat(judged), *varied)
        variants = pd.concat(varied) if varied else None
        table = score_table(pd.concat(judged, ignore_index=True), variants=variants, seed=seed)
        kept.settle(table.frame)
    return table
