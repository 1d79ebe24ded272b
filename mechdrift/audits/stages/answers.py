"""Stage `answers`: both models are asked everything, and every answer is judged.

completions     the probe sets            variants    their items a second time, in other words
everyday        everyday requests         tasks       held-out reasoning tasks
sentences       minimal pairs of sentences, compared by likelihood (bias)
lengths         the length of every thought and answer, with the budgets; length_scores compares the models in it
own_states      what each model unembeds before its first answer token, and what the instruct model unembeds after
                the reasoning model's thinking

Where an outside judge failed, it is asked again when the run goes on (`ask_judge_again`); until then answers and labels
are kept beside the tables.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from mechdrift.activations.readouts import readout_states, render_answered
from mechdrift.audits.answers import completions_of
from mechdrift.audits.parts import Part, tensors_of
from mechdrift.audits.plan import AuditPlan, Facts, Stage, generation_dtype
from mechdrift.audits.stages.questions import asked_of, everyday_requests, task_questions, variants_of
from mechdrift.behaviour.backends.choosing import close_engines, make_generator
from mechdrift.behaviour.backends.written import check_engines, engine_line
from mechdrift.behaviour.benchmark_scores.likelihoods import log_likelihoods
from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.judges.external import RefusalJudge, RuleJudge
from mechdrift.behaviour.judges.keeping import KeptLabels, check_judged
from mechdrift.behaviour.labels import (
    compare_sentences,
    judge_all,
    judge_tasks,
    judge_variant,
)
from mechdrift.behaviour.lengths import compare_lengths, length_table, pilot_lengths
from mechdrift.behaviour.pilot import fitting
from mechdrift.behaviour.sampling import GREEDY, Budget, Sampling
from mechdrift.behaviour.tasks import held_out
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_sentences
from mechdrift.records import SIDES, Completion, Completions, Side
from mechdrift.runs import Run

TABLES = ("completions", "variants", "everyday", "sentences", "tasks")
ANSWERED = ("completions", "variants", "everyday", "tasks")
JUDGED = ("completions", "variants", "everyday")
LABELS = "answers-judge.partial.jsonl"  # what an outside judge said so far
LENGTHS = ("lengths", "length_scores")
Tables = dict[str, list[pd.DataFrame]]
"""The parts of each table, in the order in which they are put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one model answered: to all items, and to the reasoning tasks."""

    answers: Completions
    tasks: Completions


def ask_both_models(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Both models' answers, judged, and what each unembeds before its first answer token in its own think mode.

    The reasoning model is asked first, so that the instruct model can read its thinking without being opened again.
    """
    dtype = generation_dtype(plan.config)
    asked: dict[Side, Asked] = {}
    read: list[Part] = []
    for side in reversed(SIDES):
        loaded = pair.open(side, dtype)
        asked[side] = ask_side(run, plan, loaded, side)
        read.append(read_side(plan, loaded, side, {name: found.answers for name, found in asked.items()}))
        check_engines({name: found.answers.engines for name, found in asked.items()})
        del loaded
        pair.close(dtype)
        close_engines()
    return join_answers(run, plan, asked, read[::-1])


def ask_side(run: Run, plan: AuditPlan, loaded: LanguageModel, side: Side, store: Path | None = None) -> Asked:
    """One model's answers to everything that is asked."""
    answers, tasks = ask_with_tasks(run, plan, loaded, side, questions_of(plan), task_questions(plan), store)
    return Asked(answers=answers, tasks=tasks)


def questions_of(plan: AuditPlan) -> list[Question]:
    """Every item, with those that are asked a second time and everyday requests."""
    asked, beside = asked_of(plan)
    return [Question(id=item.id, prompt=item.prompt) for probes in (*asked, *beside) for item in probes]


def read_side(plan: AuditPlan, loaded: LanguageModel, side: Side, answers: Mapping[Side, Completions]) -> Part:
    """What one model unembeds before its first answer token, the instruct model also after the reasoning model's
    thinking; and its likelihoods of sentences."""
    states = answered_states(loaded, plan, answers[side], side)
    if side == "instruct":
        states |= answered_states(loaded, plan, replace(answers["reasoning"], think="donor"), "instruct.donor")
    asks_sentences = any(dimension_of(name).asks_sentences for name in plan.sets)
    return Part(
        tables={"sentences": sentence_log_likelihoods(loaded, side)} if asks_sentences else {},
        tensors=states,
    )


def join_answers(run: Run, plan: AuditPlan, asked: Mapping[Side, Asked], read: Sequence[Part]) -> Facts:
    """Judge all answers and write the tables; opens no model. `read` are parts of both models, instruct first."""
    tables = {side: tables_of(run, plan, asked[side]) for side in reversed(SIDES)}
    parts = {name: [part for side in SIDES for part in tables[side].get(name, [])] for name in ANSWERED}
    parts["sentences"] = [part.filled["sentences"] for part in read if "sentences" in part.filled]
    judged = [part for name in JUDGED for part in parts[name] if len(part)]
    check_judged(kept_judge(run, plan), pd.concat(judged))
    for name, found in parts.items():
        run.write_table(name, pd.concat(found, ignore_index=True) if found else pd.DataFrame({"dimension": []}))
    lengths = lengths_of(run, plan, parts)
    run.write_table("lengths", lengths)
    run.write_table("length_scores", compare_lengths(lengths, plan.seed))
    run.write_tensors("own_states", tensors_of(read))
    failures = Counter(why.split(":")[0] for part in judged for why in part[part.failed].why)
    lines = {side: engine_line(asked[side].answers) for side in reversed(SIDES)}
    return {"judge": {"name": plan.refusal_judge.name, "failures": dict(failures)}, "engines": lines}


def tables_of(run: Run, plan: AuditPlan, asked: Asked) -> Tables:
    """The tables of one model's answers, judged."""
    answers, judge, everyday = asked.answers, kept_judge(run, plan), everyday_requests(plan)
    return {
        "completions": [
            with_ids(judge_all(probes, answers.of(probes), judge), answers.of(probes)) for probes in plan.sets.values()
        ],
        "variants": [
            judge_variant(plan.sets[name], variant, answers.of(probes), judge)
            for (name, variant), probes in variants_of(plan).items()
        ],
        "everyday": [judge_all(everyday, answers.of(everyday), judge)],
        "tasks": [judge_tasks(held_out(plan.size.tasks), asked.tasks)],
    }


def kept_judge(run: Run, plan: AuditPlan) -> RefusalJudge:
    """The judge of refusals. The run keeps the labels of an outside judge until none is missing; the rules need no
    keeping."""
    judge = plan.refusal_judge
    return judge if isinstance(judge, RuleJudge) else KeptLabels(judge=judge, store=run.folder / LABELS)


def ask_judge_again(run: Run, plan: AuditPlan) -> bool:
    """Ask the judge again about the answers that it failed on, in a run that has finished this stage. True where it now
    judged some: the stage is then run again, with the answers and labels that are kept."""
    if not is_judging_unfinished(run.manifest) or not (run.folder / LABELS).exists():
        return False
    tables = [table[table.failed.astype(bool)] for table in map(run.table, JUDGED) if len(table)]
    missing = pd.concat([table[["prompt", "answer"]] for table in tables])
    said = kept_judge(run, plan)(missing.prompt.tolist(), missing.answer.tolist())
    return any(judged.label is not None for judged in said)


def is_judging_unfinished(facts: Mapping[str, Any]) -> bool:
    """Whether a judge failed on some answers: the facts of this stage, or the manifest that they went into, say so."""
    return bool(facts.get("judge", {}).get("failures"))


def ask_with_tasks(
    run: Run,
    plan: AuditPlan,
    loaded: LanguageModel,
    side: Side,
    questions: Sequence[Question],
    tasks: Sequence[Question],
    store: Path | None = None,
) -> tuple[Completions, Completions]:
    """One model's answers to `questions`, and to the held-out reasoning tasks, which are never sampled. Where no
    answers are sampled, all are asked in one queue: a batch is fast while it is full, and it empties at the end of
    every queue."""
    asking = partial(ask_one, run, plan, loaded, side, store=store)
    if plan.config.sampling != GREEDY:
        return asking(questions, plan.config.sampling), asking(tasks)
    answers = asking([*questions, *tasks])
    rows = answers.rows[: len(questions)], answers.rows[len(questions) :]
    return replace(answers, rows=rows[0]), replace(answers, rows=rows[1])


def ask_one(
    run: Run,
    plan: AuditPlan,
    loaded: LanguageModel,
    side: Side,
    questions: Sequence[Question],
    sampling: Sampling = GREEDY,
    store: Path | None = None,
) -> Completions:
    """Answers in the think mode of this side. Every finished batch is kept in `store`, by default in the run folder."""
    return ask(
        loaded,
        questions,
        side,
        plan.modes[side],
        budget=budgets_of(run, plan)[side],
        sampling=sampling,
        store=store or run.folder / f"answers-{side}.partial.jsonl",
        known=kept_from_pilot(run, side, sampling),
        description=f"Asking {side}",
        generator=make_generator(plan.config.engine_of(side), loaded),
    )


def budgets_of(run: Run, plan: AuditPlan) -> dict[Side, Budget]:
    """Each model's budget: what the pilot of this run set, or else what was given."""
    found = run.manifest.get("pilot")
    if found is None:
        return dict.fromkeys(SIDES, plan.config.budget)
    return {side: Budget(think=found[side].get("think", 1), answer=found[side]["answer"]) for side in SIDES}


def pilot_answers(run: Run, side: Side) -> Completions:
    """One model's answers of the pilot; none where there was no pilot."""
    if "pilot" not in run.manifest:
        return Completions(side=side, think="own", rows=())
    return completions_of(run.table("pilot"), side)


def kept_from_pilot(run: Run, side: Side, sampling: Sampling) -> list[Completion]:
    """The pilot's answers that need not be asked again."""
    found = run.manifest.get("pilot")
    if found is None:
        return []
    budget = Budget(think=found[side].get("think", 1), answer=found[side]["answer"])
    return fitting(pilot_answers(run, side), budget, sampling)


def lengths_of(run: Run, plan: AuditPlan, parts: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """The length of every completion, with those of the pilot."""
    budgets, found = budgets_of(run, plan), run.manifest.get("pilot", {})
    rooms = {side: Budget(think=one.get("think_room", 1), answer=one["answer_room"]) for side, one in found.items()}
    pilots = [pilot_lengths(pilot_answers(run, side), rooms[side]) for side in SIDES if side in rooms]
    asked = [length_table(part, name, budgets) for name in ANSWERED for part in parts.get(name, ()) if len(part)]
    return pd.concat([*pilots, *asked], ignore_index=True)


def with_ids(judged: pd.DataFrame, answers: Completions) -> pd.DataFrame:
    """Judged answers with the token ids of thinking and answer beside them."""
    ids = ["item", "sample", "thinking_ids", "answer_ids"]
    return judged.merge(answers.frame[ids], on=ids[:2])


def answered_states(loaded: LanguageModel, plan: AuditPlan, answers: Completions, name: str) -> dict[str, Tensor]:
    """What a model unembeds before the first answer token, after the thinking of `answers`: per dimension
    `[prompt, d_model]`."""
    renderer = Renderer(loaded.tokenizer)
    return {
        f"{dimension}.{name}": readout_states(loaded, render_answered(renderer, probes, answers.of(probes)))
        for dimension, probes in plan.sets.items()
    }


def sentence_log_likelihoods(loaded: LanguageModel, side: Side) -> pd.DataFrame:
    """The minimal pairs of sentences, compared by one model."""
    pairs = load_sentences()
    more, less = (
        log_likelihoods(loaded, sentences, [""] * len(pairs))
        for sentences in ([pair.more for pair in pairs], [pair.less for pair in pairs])
    )
    return compare_sentences(pairs, more, less, side)


STAGE = Stage(
    name="answers",
    what="both models are asked, and their answers judged",
    files=(*(f"{name}.parquet" for name in (*TABLES, *LENGTHS)), "own_states.safetensors"),
    run=ask_both_models,
)
