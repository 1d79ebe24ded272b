"""One audit on many machines: a step of it, or a shard of a step, in one process.

    pair, pilot      are done whole, by one process, in the run folder itself
    all others       are divided (`steps`); each shard writes a part (`parts`) beside the run folder

No shard writes to the run folder:

    RUN/                        the run, as one process would have written it
    RUN.parts/kl-2of4/          one part
    RUN.parts/kl-2of4.work/     its working folder, until it is finished

`merging` joins the parts of a stage once all are there. The same command again finds a finished part and does nothing;
an unfinished one goes on at its last answer.
"""

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mechdrift.audits.config import Audit
from mechdrift.audits.parts import SEAL, Shard, load_part, place_of, read_seal, save_part
from mechdrift.audits.pipeline import open_audit, run_unfinished_stages, software
from mechdrift.audits.plan import AuditPlan, is_until_decided, load_from, plan_audit
from mechdrift.audits.provenance import bits_of, check_before, check_key, check_others, key_of, weights_in
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.steps import ASKED, STEPS, WHOLE, Step, parts_here
from mechdrift.behaviour.answer_store import write_completions
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.labels import RULES
from mechdrift.behaviour.thoughts import ask_without_markers
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import fast_float32
from mechdrift.probes.rendering import Renderer
from mechdrift.records import MechdriftError
from mechdrift.records.progress import tell
from mechdrift.runs import Run, folder_lock, placed

NAMES = (*WHOLE, *STEPS)


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
        check_before(run, plan, ("pair",) if step == "pilot" else (), step)
        with run.locked(), fast_float32():
            run_unfinished_stages(run, pair, plan, [stage for stage in stages_of(config) if stage.name == step])
        return run.folder
    return _run_shard(run, pair, plan, STEPS[step], shard)


def _run_shard(run: Run, pair: Pair, plan: AuditPlan, step: Step, shard: Shard) -> Path:
    place, key = place_of(run.folder, step.name, shard), key_of(run, plan, step, shard)
    check_others(run.folder, key)
    if (place / SEAL).exists():
        check_key(place, key)
        return place
    work = _work_of(place)
    work.mkdir(parents=True, exist_ok=True)
    with folder_lock(work, "shard"), fast_float32():
        tell(f"{run.folder.name}, {step.name}, shard {shard}")
        _mark_thoughts(run, pair, plan, step)
        part = step.read(_working_copy(run, step, work), pair, plan, shard, work)
        save_part(replace(part, facts={**part.facts, "weights": weights_in(pair)}), place, key)
    with suppress(OSError):  # another process may just look into it
        shutil.rmtree(work)
    return place


def lend(finished: Path, folder: Path, step: str, shard: Shard, pair: Pair, dtype: str) -> bool:
    """Give a shard the answers of a finished part of another run that asked the same model the same questions, before
    it begins. True where it took them: the weights and all versions are the same, and it has no answers yet.

    `finished` is the other part, `folder` the run folder of the shard, `dtype` the number format of its answers.
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
