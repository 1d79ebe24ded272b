"""The steps of an audit that can be divided, and what one shard of each reads.

    ask-reasoning, ask-instruct          a shard has every n-th question
    states-reasoning, states-instruct    a shard has every n-th dimension, and so in all that follow
    kl, drift, readouts, patch           both models, one after the other

Dimensions are dealt whole, so that the joined tensors have the same bytes as those of one process. Answers are dealt
one by one: each is decoded greedily, or with random numbers of its own, so it does not depend on which others share its
batch, except by the rounding of its logits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mechdrift.audits.parts import Part, Shard, finished_parts, load_part
from mechdrift.audits.plan import AuditPlan, generation_dtype
from mechdrift.audits.stages import answers, drift, kl, pair, patch, pilot, readouts
from mechdrift.audits.stages.questions import task_questions
from mechdrift.behaviour.backends.choosing import check_servers, close_engines
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, Completion, Completions, MechdriftError, Side
from mechdrift.runs import Run

ASKED = "asked.partial.jsonl"  # in a shard's working folder: its answers so far
WHOLE = {"pair": pair.STAGE, "pilot": pilot.STAGE}
"""Stages that one process does in the run folder itself."""
Read = Callable[[Run, Pair, AuditPlan, Shard, Path], Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A part of a stage that can be dealt to several processes.

    Args:
        name: as in `--step`.
        stage: the stage that it belongs to.
        read: the function that does one shard of it and returns a `Part`.
        behind: the stages that have to be finished before.
        sides: the models that it opens.
        needs: the files of the run that it reads.
        after: the steps whose parts it reads.
        by_question: whether questions are dealt one by one, and not whole dimensions.
    """

    name: str
    stage: str
    read: Read
    behind: tuple[str, ...]
    sides: tuple[Side, ...] = SIDES
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    by_question: bool = False


def ask_shard(side: Side, run: Run, pair: Pair, plan: AuditPlan, shard: Shard, work: Path) -> Part:
    """One model's answers to every n-th question. Questions are dealt by length, so that shards take equally long."""
    check_servers(pair, plan.config.engine_of, (side,))
    loaded, store = pair.open(side, generation_dtype(plan.config)), work / ASKED
    mine, tasks = deal(answers.questions_of(plan), shard), deal(task_questions(plan), shard)
    items, to_tasks = answers.ask_with_tasks(run, plan, loaded, side, mine, tasks, store)
    close_engines()
    rows = [*items, *to_tasks]
    written = sum(len(row.thinking_ids) + len(row.answer_ids) for row in rows)
    return Part(answers=rows, facts={"think": items.think, "line": answers.engine_line(items), "written": written})


def deal(questions: Sequence[Question], shard: Shard) -> list[Question]:
    """This shard's questions, in the order in which they are asked."""
    by_length = sorted(questions, key=lambda question: (len(question.prompt), question.id))
    mine = {question.id for question in shard.of(by_length)}
    return [question for question in questions if question.id in mine]


def read_states(side: Side, run: Run, pair: Pair, plan: AuditPlan, shard: Shard, work: Path) -> Part:
    """What one model unembeds before its first answer token."""
    folder = work.parent.with_suffix("")
    if not shard.of(list(plan.sets)):
        return Part()
    asked = {name: answers_of(parts_here(folder, f"ask-{name}"), plan, name).answers for name in SIDES}
    loaded = pair.open(side, generation_dtype(plan.config))
    return answers.read_side(_dealt(plan, shard), loaded, side, asked)


def _by_dimension(stage: Callable[[Run, Pair, AuditPlan], Part]) -> Read:
    """A stage's own function, for every n-th dimension."""
    return partial(_read_dealt, stage)


def _read_dealt(
    stage: Callable[[Run, Pair, AuditPlan], Part], run: Run, pair: Pair, plan: AuditPlan, shard: Shard, work: Path
) -> Part:
    dealt = _dealt(plan, shard)
    return stage(run, pair, dealt) if dealt.sets else Part()


def _dealt(plan: AuditPlan, shard: Shard) -> AuditPlan:
    return replace(plan, sets={name: plan.sets[name] for name in shard.of(list(plan.sets))})


ANSWERS = ("completions.parquet",)
STATES_READ = ("own_states.safetensors", "readout_states.safetensors")
ASKING = [
    Step(
        name=f"ask-{side}",
        stage="answers",
        read=partial(ask_shard, side),
        behind=("pair", "pilot"),
        sides=(side,),
        needs=("pilot.parquet",),
        by_question=True,
    )
    for side in reversed(SIDES)
]
READING_STATES = [
    Step(
        name=f"states-{side}",
        stage="answers",
        read=partial(read_states, side),
        behind=("pair", "pilot"),
        sides=(side,),
        after=tuple(step.name for step in ASKING),
    )
    for side in reversed(SIDES)
]
READING = [
    Step(name="kl", stage="kl", read=_by_dimension(kl.read_kl), behind=("answers",), needs=ANSWERS),
    Step(name="drift", stage="drift", read=_by_dimension(drift.read_drift), behind=("answers",), needs=ANSWERS),
    Step(
        name="readouts",
        stage="readouts",
        read=_by_dimension(readouts.read_readouts),
        behind=("answers", "drift"),
        needs=(*ANSWERS, *STATES_READ),
    ),
    Step(
        name="patch",
        stage="patch",
        read=_by_dimension(patch.read_patch),
        behind=("answers", "readouts"),
        needs=(*ANSWERS, "readout_validation.parquet"),
    ),
]
STEPS = {step.name: step for step in (*ASKING, *READING_STATES, *READING)}


def steps_of(stage: str) -> tuple[str, ...]:
    """The steps of a stage; of one that no model is opened for, none but the merging."""
    return (stage,) if stage in WHOLE else tuple(step.name for step in STEPS.values() if step.stage == stage)


# What all shards of a model answered.


def parts_here(folder: Path, step: str) -> list[Part]:
    """A step's finished parts."""
    return [load_part(place) for place in finished_parts(folder, step)]


def answers_of(parts: Sequence[Part], plan: AuditPlan, side: Side) -> answers.Asked:
    """One model's answers from all shards, in the order in which one process asks."""
    thinks = {part.facts["think"] for part in parts}
    if len(thinks) > 1:
        raise MechdriftError(
            f"some shards found that the {side} model closes its think blocks, and others that it does not: say which "
            "markers it writes with --think-open and --think-close, or --think-open none, and ask again."
        )
    rows = {(row.item_id, row.sample): row for part in parts for row in part.answers}
    think = thinks.pop()

    def in_order(questions: Sequence[Question], samples: int) -> Completions:
        found: list[Completion] = [rows[one.id, sample] for one in questions for sample in range(samples)]
        return Completions(side=side, think=think, rows=tuple(found))

    return answers.Asked(
        answers=in_order(answers.questions_of(plan), plan.config.sampling.samples),
        tasks=in_order(task_questions(plan), 1),
    )
