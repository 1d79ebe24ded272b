"""One audit on many machines: the steps of an audit that can be divided, and what joins them.

    pair, pilot                          whole: one process, in the run folder itself
    ask-reasoning, ask-instruct          a shard has every n-th question
    states-reasoning, states-instruct    a shard has every n-th dimension, as in all that follow
    kl, drift, readouts, patch           both models, one after the other

Each shard writes a part (`parts`) into a folder beside the run's, and no shard writes to the run folder:

    RUN/                     the run, as one process would have written it
    RUN.parts/kl-2of4/       one part;  RUN.parts/kl-2of4.work/   its working folder until it is finished

`merging` joins the parts of a stage as soon as all are there, finishes the stage, and does what needs no model. A shard
is refused whose run, version or number of shards is another than that of the parts that are there. The same command
again finds a finished part and does nothing; an unfinished one goes on at its last answer.

Whole dimensions are dealt, so that what is read comes to the same bytes. Answers are dealt one by one: each is decoded
greedily, or with random numbers of its own, so that it does not depend on which others share its batch, but for the
rounding of its logits.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mechdrift.audits.config import Audit
from mechdrift.audits.parts import (
    SEAL,
    Key,
    Part,
    Shard,
    digest_of,
    finished_parts,
    first_missing,
    load_part,
    parts_of,
    place_of,
    read_seal,
    save_part,
    shard_of,
)
from mechdrift.audits.pipeline import open_audit, run_unfinished_stages, software
from mechdrift.audits.plan import AuditPlan, generation_dtype, is_until_decided, load_from, plan_audit
from mechdrift.audits.stages import answers, drift, kl, pair, patch, pilot, readouts
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.stages.questions import task_questions
from mechdrift.behaviour.backends.choosing import close_engines
from mechdrift.behaviour.generation import Question, write_completions
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.labels import RULES
from mechdrift.behaviour.thoughts import ask_without_markers
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import fast_float32
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Completion, Completions, MechdriftError, Side
from mechdrift.records.progress import tell
from mechdrift.runs import Run, folder_lock, placed, sha256

ASKED = "asked.partial.jsonl"  # of a shard's working folder: what is answered so far
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
WHOLE = {"pair": pair.STAGE, "pilot": pilot.STAGE}
Read = Callable[[Run, Pair, AuditPlan, Shard, Path], Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A part of a stage that can be dealt to several processes.

    `sides` are the models that it opens, `behind` the stages that have to be finished, `needs` the run's files that it
    reads, and `after` the steps whose parts it reads.
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


def _read(stage: Callable[[Run, Pair, AuditPlan], Part]) -> Read:
    """A stage's own reading, of every n-th dimension."""

    def read(run: Run, pair: Pair, plan: AuditPlan, shard: Shard, work: Path) -> Part:
        dealt = _dealt(plan, shard)
        return stage(run, pair, dealt) if dealt.sets else Part()

    return read


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
    Step(name="kl", stage="kl", read=_read(kl.read_kl), behind=("answers",), needs=ANSWERS),
    Step(name="drift", stage="drift", read=_read(drift.read_drift), behind=("answers",), needs=ANSWERS),
    Step(
        name="readouts",
        stage="readouts",
        read=_read(readouts.read_readouts),
        behind=("answers", "drift"),
        needs=(*ANSWERS, *STATES_READ),
    ),
    Step(
        name="patch",
        stage="patch",
        read=_read(patch.read_patch),
        behind=("answers", "readouts"),
        needs=(*ANSWERS, "readout_validation.parquet"),
    ),
]
STEPS = {step.name: step for step in (*ASKING, *READING_STATES, *READING)}
NAMES = (*WHOLE, *STEPS)


# One shard.


def run_step(config: Audit, step: str, shard: Shard = Shard(), pair: Pair | None = None) -> Path:  # noqa: B008
    """Run one step of an audit, or one shard of it.

    Args:
        config: what the audit asks; the same in all processes, as for `audit`.
        step: its name (`NAMES`).
        shard: which shard of how many.
        pair: the pair, where a process has opened it before.

    Returns:
        The folder of the part; of a step that is not divided, the run folder.

    Raises:
        MechdriftError: where an earlier step is missing, and where the parts that are there are of another run,
            version, or number of shards.

    Example:
        >>> config = md.Audit(instruct=parent, reasoning=child, think=8, answer=8, until_decided=False)
        >>> run_step(config, "pair")  # doctest: +SKIP
    """
    if step not in NAMES:
        raise MechdriftError(f"there is no step {step!r:.40} that can be run alone: there are {', '.join(NAMES)}.")
    pair = load_from(config) if pair is None else pair
    config = replace(config, until_decided=is_until_decided(config, pair))
    if config.until_decided:
        raise MechdriftError(
            "an audit in waves cannot be divided, because each wave asks what the one before left open: give "
            "--no-until-decided, or run it whole."
        )
    judge = load_judge(config.judge) if config.judge else RULES
    run, plan = open_audit(config, pair, judge), plan_audit(config, pair, judge)
    if step in WHOLE:
        _check_before(run, plan, ("pair",) if step == "pilot" else (), step)
        with run.locked(), fast_float32():
            run_unfinished_stages(run, pair, plan, [stage for stage in stages_of(config) if stage.name == step])
        return run.folder
    return _run_shard(run, pair, plan, STEPS[step], shard)


def _run_shard(run: Run, pair: Pair, plan: AuditPlan, step: Step, shard: Shard) -> Path:
    place, key = place_of(run.folder, step.name, shard), key_of(run, plan, step, shard)
    _check_others(run.folder, key)
    if (place / SEAL).exists():
        check_key(place, key)
        return place
    work = _work_of(place)
    work.mkdir(parents=True, exist_ok=True)
    with folder_lock(work, "shard"), fast_float32():
        tell(f"{run.folder.name}, {step.name}, shard {shard}")
        _mark_thoughts(run, pair, plan, step)
        part = step.read(_working_copy(run, step, work), pair, plan, shard, work)
        save_part(replace(part, facts={**part.facts, "weights": _weights_in(pair)}), place, key)
    with suppress(OSError):  # another process may just look into it
        shutil.rmtree(work)
    return place


def lend(finished: Path, folder: Path, step: str, shard: Shard, pair: Pair, dtype: str) -> bool:
    """Give a shard the answers of a finished part of another run that asked the same model the same questions, before
    it begins. True where it took them: the weights and all versions are the same, and it has no answers yet.

    `finished` is the other part, `folder` the run folder of the shard, `dtype` what its answers are written in.
    """
    place, seal = place_of(folder, step, shard), read_seal(finished)
    store, side = _work_of(place) / ASKED, STEPS[step].sides[0]
    if (place / SEAL).exists() or store.exists() or seal["key"]["versions"] != software()["versions"]:
        return False
    if bits_of(pair.open(side, dtype).model) not in seal["facts"]["weights"].values():
        return False
    store.parent.mkdir(parents=True, exist_ok=True)
    write_completions(store, load_part(finished).answers)
    return True


def _work_of(place: Path) -> Path:
    """The folder in which a part is made."""
    return place.with_name(f"{place.name}.work")


def _working_copy(run: Run, step: Step, work: Path) -> Run:
    """A run folder with what a step reads, in which it may keep what it needs for itself."""
    copy = work / "run"
    copy.mkdir(exist_ok=True)
    for name in ("run.json", *step.needs):
        if (run.folder / name).exists():
            with placed(copy / name) as temporary:
                shutil.copyfile(run.folder / name, temporary)
    return Run(copy)


def _weights_in(pair: Pair) -> dict[str, str]:
    """Hashes of the models that a step leaves open, by side and number format."""
    return {
        f"{side} ({dtype})": bits_of(loaded.model)
        for side, cache in pair.models.items()
        for dtype, loaded in cache.loaded.items()
    }


def bits_of(model: PreTrainedModel) -> str:
    """A short hash of all parameters: names, shapes, and sums of their bits as whole numbers.

    Whole numbers add up to the same in any order, and so on any device, unlike floating-point numbers (`fingerprint`).
    One of the sums weighs each row by its place.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        if parameter.device.type != "meta":
            whole = INTEGERS[parameter.element_size()]
            rows = parameter.detach().contiguous().view(whole).reshape(len(parameter) if parameter.dim() else 1, -1)
            sums = rows.sum(1, dtype=torch.int64)
            places = torch.arange(1, len(sums) + 1, device=sums.device)
            digest.update(f"{sums.sum().item()} {(sums * places).sum().item()}".encode())
    return digest.hexdigest()[:16]


def _mark_thoughts(run: Run, pair: Pair, plan: AuditPlan, step: Step) -> None:
    """Give up think markers where the first answers showed that the model has none (`thoughts.closes_blocks`)."""
    if step.by_question or plan.modes["reasoning"] != "own":
        return
    if step.after:
        think = {part.facts["think"] for part in parts_here(run.folder, "ask-reasoning")}
    else:
        table = run.table("completions")
        think = set(table[table.side == "reasoning"].think)
    if think == {"none"}:
        ask_without_markers(Renderer(pair.tokenizer("reasoning")))


def key_of(run: Run, plan: AuditPlan, step: Step, shard: Shard) -> Key:
    """What this shard's part is of. Raises where something is missing that the step reads."""
    _check_before(run, plan, step.behind, step.name)
    files = {name: sha256(run.folder / name) for name in step.needs if (run.folder / name).exists()}
    for name in step.after:
        found = finished_parts(run.folder, name)
        if missing := first_missing(found):
            raise MechdriftError(f"{step.name} reads what {name} asks: shard {missing} of that is not finished.")
        files |= {f"{place.name}/{SEAL}": sha256(place / SEAL) for place in found}
    return Key(
        step=step.name,
        shard=str(shard),
        run=digest_of(run.manifest["identity"]),
        versions=software()["versions"],
        read_from=files,
    )


def _check_before(run: Run, plan: AuditPlan, behind: Sequence[str], step: str) -> None:
    """Raise where a stage that comes before this step is not finished."""
    stages = [stage.name for stage in stages_of(plan.config)]
    if step in WHOLE and step not in stages:
        raise MechdriftError(f"this audit has no step {step}: its budgets are given, so that nothing is measured.")
    if before := [name for name in behind if name in stages and name not in run.finished]:
        raise MechdriftError(
            f"{run.folder} has not finished its stage {before[0]}, which {step} follows: run its steps "
            f"({', '.join(steps_of(before[0]))}) and 'mechdrift merge {run.folder}' first."
        )


def steps_of(stage: str) -> tuple[str, ...]:
    """The steps of a stage; of one that no model is opened for, none but the merging."""
    return (stage,) if stage in WHOLE else tuple(step.name for step in STEPS.values() if step.stage == stage)


def check_key(place: Path, key: Key) -> None:
    """Raise where a finished part is of something else than `key`."""
    found = read_seal(place)["key"]
    if found["run"] != key.run:
        raise MechdriftError(f"{place} is a shard of another run: delete it, or give another folder with --out.")
    if found["versions"] != dict(key.versions):
        name = next(name for name in key.versions if found["versions"].get(name) != key.versions[name])
        raise MechdriftError(
            f"{place} was made with {name} {found['versions'].get(name)}, and this is {key.versions[name]}: use one "
            "version for all shards, or delete the folder and run that shard again."
        )
    if found["read_from"] != dict(key.read_from):
        raise MechdriftError(f"{place} was read from files that have changed: delete it and run that shard again.")


def _check_others(folder: Path, key: Key) -> None:
    """Raise where this step has parts of another number of shards."""
    count = Shard.parse(key.shard).count
    others = {shard_of(place).count for place in parts_of(folder).glob(f"{key.step}-*of*")} - {count}
    if others:
        raise MechdriftError(
            f"{key.step} has been divided into {min(others)} shards, and this is one of {count}: go on with the same "
            f"number, or delete {parts_of(folder) / key.step}-*of{min(others)}."
        )


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
