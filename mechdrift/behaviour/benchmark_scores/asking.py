"""Ask both models a benchmark, read the answers, and compare."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.behaviour.benchmark_scores.answers import read_answers
from mechdrift.behaviour.benchmark_scores.exact import FINAL, read_tasks
from mechdrift.behaviour.benchmark_scores.likelihoods import weigh_sentences
from mechdrift.behaviour.benchmark_scores.scorings import kind_of, scoring_of
from mechdrift.behaviour.benchmark_scores.table import benchmark_table
from mechdrift.behaviour.both_models import Engine, ask_both
from mechdrift.behaviour.generation import default_budget
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.keeping import check_judge
from mechdrift.behaviour.judges.toxicity import score_toxicity
from mechdrift.behaviour.kept import Kept, keeping
from mechdrift.behaviour.sampling import GREEDY, Budget, Sampling
from mechdrift.behaviour.tasks import Task
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, MechdriftError, ProbeSet


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
    engine: Engine = "hf",
    dtype: str | None = None,
    seed: int = 0,
    keep: Path | None = None,
) -> pd.DataFrame:
    """Ask both models a benchmark (`load_benchmark`) or reasoning tasks (`load_tasks`), read the answers, and compare.

    One greedy answer per item, or `samples` of them at `temperature`. `toxicity` names a scorer of `toxicity.SCORERS`,
    for RealToxicityPrompts; `judge` labels refusals in place of the rules, for the benchmarks that are scored by
    refusals. `engine` writes (`both_models.Engine`), in the number format `dtype`; sentences that are only compared are
    read in this process, in the pair's own format. `budget` is in tokens, or measured by a pilot (`"auto"`, the default
    of pairs of one's own; `think_max` is the most that it tries). Published benchmarks allow some 500 tokens an answer:
    with a small `budget` the columns `cut_…` say how many items were cut off, which are in no score, and `reason`
    whether that is too many. `keep` is a folder in which answers and labels are kept until the table is whole
    (`behaviour.kept`).
    """
    sampling = Sampling(samples=samples, temperature=temperature, seed=seed) if samples != 1 else GREEDY
    drawn = sampling.temperature if samples > 1 else None
    how = {"budget": budget or default_budget(pair), "think_max": think_max, "sampling": sampling}
    if not isinstance(probes, ProbeSet):
        name = "gsm8k" if {task.kind for task in probes} == {"gsm8k"} else "math500"
        questions = [Question(id=f"task-{number}", prompt=task.question + FINAL) for number, task in enumerate(probes)]
        with _keeping(keep, pair, name, questions, how, dtype) as kept:
            written = ask_both(pair, [questions], engine=engine, dtype=dtype, kept=kept, **how)
            answers = [read_tasks(probes, each) for _, each in written]
            table = benchmark_table(name, pd.concat(answers, ignore_index=True), temperature=drawn, seed=seed)
            kept.settle(table)
        return table
    judge_name = _name_judge(probes.name, toxicity, judge)
    check_judge(judge)
    naming = {"judge_name": judge_name, "temperature": drawn, "seed": seed}
    if not scoring_of(probes.name).numbers:
        weighed = [weigh_sentences(pair.open(side), probes, side) for side in SIDES]
        return benchmark_table(probes.name, pd.concat(weighed, ignore_index=True), **naming)
    questions = [Question(id=item.id, prompt=item.prompt) for item in probes]
    with _keeping(keep, pair, probes.name, questions, how, dtype) as kept:
        labels = kept.judge(judge) if judge is not None else None
        written = ask_both(pair, [questions], engine=engine, dtype=dtype, kept=kept, **how)
        answers = [read_answers(probes, each, toxicity=toxicity, judge=labels) for _, each in written]
        table = benchmark_table(probes.name, pd.concat(answers, ignore_index=True), **naming)
        kept.settle(table)
    return table


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


def _keeping(
    folder: Path | None,
    pair: Pair,
    name: str,
    questions: Sequence[Question],
    how: Mapping[str, Any],
    dtype: str | None,
) -> AbstractContextManager[Kept]:
    asked = [(question.id, question.prompt) for question in questions]
    return keeping(folder, pair, f"{pair.name}-{name}", asked, dtype=dtype, **how)
