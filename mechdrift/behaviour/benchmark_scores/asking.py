"""Ask both models a benchmark, read the answers, and compare."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mechdrift.behaviour.benchmark_scores.answers import read_answers
from mechdrift.behaviour.benchmark_scores.exact import FINAL, read_tasks
from mechdrift.behaviour.benchmark_scores.likelihoods import weigh_sentences
from mechdrift.behaviour.benchmark_scores.scorings import kind_of, scoring_of
from mechdrift.behaviour.benchmark_scores.table import benchmark_table
from mechdrift.behaviour.generation import Question, ask_groups, default_budget, generate
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.keeping import check_judge
from mechdrift.behaviour.judges.toxicity import score_toxicity
from mechdrift.behaviour.sampling import GREEDY, Budget, Sampling
from mechdrift.behaviour.tasks import Task
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.records import SIDES, MechdriftError, ProbeSet, Side


def score_benchmark(
    pair: Pair,
    probes: ProbeSet | Sequence[Task],
    *,
    budget: Budget | None = None,
    think_max: int | None = None,
    samples: int = 1,
    temperature: float = 0.7,
    toxicity: str = "hashed",
    judge: RefusalJudge | None = None,
    dtype: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask both models a benchmark (`load_benchmark`) or reasoning tasks (`load_tasks`), read the answers, and compare.

    One greedy answer per item, or `samples` of them at `temperature`. `toxicity` names a scorer of `toxicity.SCORERS`,
    for RealToxicityPrompts; `judge` labels refusals in place of the rules, for the benchmarks that are scored by
    refusals. `budget` is in tokens, or measured by a pilot (`"auto"`, the default of pairs of one's own; `think_max` is
    the most that it tries). Published benchmarks allow some 500 tokens an answer: with a small `budget` the columns
    `cut_…` say how many items were cut off, which are in no score, and `reason` whether that is too many.
    """
    limits = {"budget": budget or default_budget(pair), "think_max": think_max}
    sampling = Sampling(samples=samples, temperature=temperature, seed=seed) if samples != 1 else GREEDY
    drawn = sampling.temperature if samples > 1 else None
    if not isinstance(probes, ProbeSet):
        name = "gsm8k" if {task.kind for task in probes} == {"gsm8k"} else "math500"
        answers = [_ask_tasks(pair, probes, side, limits, sampling, dtype) for side in SIDES]
        return benchmark_table(name, pd.concat(answers, ignore_index=True), temperature=drawn, seed=seed)
    judge_name = _name_judge(probes.name, toxicity, judge)
    check_judge(judge)
    if scoring_of(probes.name).numbers:
        drawing = {"samples": samples, "temperature": temperature, "seed": seed} if samples > 1 else {}
        answers = [
            read_answers(
                probes,
                generate(pair, probes, side, dtype=dtype, **limits, **drawing),
                toxicity=toxicity,
                judge=judge,
            )
            for side in SIDES
        ]
    else:
        answers = [weigh_sentences(pair.open(side, dtype or "float32"), probes, side) for side in SIDES]
    return benchmark_table(
        probes.name, pd.concat(answers, ignore_index=True), judge_name=judge_name, temperature=drawn, seed=seed
    )


def _name_judge(name: str, toxicity: str, judge: RefusalJudge | None) -> str:
    """Who reads the answers. What cannot read them fails here, before the models are asked."""
    kind = kind_of(name)
    if judge is not None and kind != "refusal":
        raise MechdriftError(
            f"{name} is not scored by refusals ({scoring_of(name).judge}), so it takes no refusal judge: leave it out."
        )
    if kind == "toxicity":
        score_toxicity(["a"], toxicity)
        return f"toxicity scorer: {toxicity}"
    return judge.name if judge is not None else scoring_of(name).judge


def _ask_tasks(
    pair: Pair, tasks: Sequence[Task], side: Side, limits: Mapping[str, Any], sampling: Sampling, dtype: str | None
) -> pd.DataFrame:
    questions = [Question(id=f"task-{number}", prompt=task.question + FINAL) for number, task in enumerate(tasks)]
    loaded = pair.open(side, dtype or default_dtype_for_generation())
    think = "none" if side == "instruct" else "own"
    return read_tasks(tasks, ask_groups(loaded, [questions], side, think, sampling=sampling, **limits))
