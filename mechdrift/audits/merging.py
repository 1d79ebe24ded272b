"""Join the parts of an audit (`shards`) into the run that one process would have written.

    1. for each stage   check that all parts of its steps are there, of this run, these versions and these weights;
                        then join them
    2. scores           are computed from the tables
    3. the page         is drawn when nothing is missing

No weights are loaded, and no part is removed: the same command again finds the stage finished.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mechdrift.audits.answers import config_of
from mechdrift.audits.config import Audit
from mechdrift.audits.parts import Part, Shard, finished_parts, first_missing, load_part, read_seal
from mechdrift.audits.pipeline import as_asked
from mechdrift.audits.plan import AuditPlan, Facts, Stage, is_until_decided, load_from, plan_audit
from mechdrift.audits.provenance import check_key, key_of
from mechdrift.audits.stages import answers, drift, kl, patch, readouts, scores
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.steps import STEPS, WHOLE, Step, answers_of
from mechdrift.behaviour.backends.written import check_engines
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.labels import RULES
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, MechdriftError
from mechdrift.runs import Run, load_run

JOINS = {"kl": kl.join_kl, "drift": drift.join_drift, "readouts": readouts.join_readouts, "patch": patch.join_patch}


def merge(folder: str | Path, config: Audit | None = None, pair: Pair | None = None) -> tuple[Run, tuple[str, ...]]:
    """Join the parts of a run, stage by stage, as far as they are there; draws the page when nothing is missing.

    Args:
        folder: the run folder, beside which the parts lie.
        config: the audit's configuration, where the caller has it; else what the run folder says.
        pair: the pair, where the caller has it.

    Returns:
        The run, and what is still missing, in words; empty when the run is whole.

    Raises:
        MechdriftError: where a part is damaged, or of another run, version or weights.

    Source:
        Shards are files and merging is a command, as in NeMo Evaluator, https://github.com/NVIDIA-NeMo/Evaluator.

    Example:
        >>> run, missing = merge("runs/mine")  # doctest: +SKIP
    """
    run = load_run(folder)
    run.check_is_audit()
    config, file = config_of(run) if config is None else (config, None)
    pair = load_from(config, file) if pair is None else pair
    config = replace(config, until_decided=is_until_decided(config, pair))
    plan = plan_audit(config, pair, load_judge(config.judge) if config.judge else RULES)
    with run.locked("merge"):
        for stage in stages_of(config):
            if stage.name not in run.finished and (missing := join_stage(run, pair, as_asked(plan, run), stage)):
                return run, missing
    run.report()
    return run, ()


def join_stage(run: Run, pair: Pair, plan: AuditPlan, stage: Stage) -> tuple[str, ...]:
    """Finish one stage from its parts. Returns what is missing, in words; nothing where the stage is finished."""
    start = time.perf_counter()
    if stage.name in WHOLE:
        return (f"the step {stage.name}",)
    if stage.name == scores.STAGE.name:
        facts = stage.run(run, pair, plan)
    else:
        steps = [step for step in STEPS.values() if step.stage == stage.name]
        found = {step.name: finished_parts(run.folder, step.name) for step in steps}
        if missing := tuple(f"shard {lacks} of {name}" for name in found if (lacks := first_missing(found[name]))):
            return missing
        for step in steps:
            check_parts(run, plan, step, found[step.name])
        facts = _joined(run, plan, stage, {name: [load_part(place) for place in found[name]] for name in found})
    keep = answers.is_judging_unfinished(facts)
    run.finish(stage.name, time.perf_counter() - start, stage.files, keep=keep, **facts)
    return ()


def _joined(run: Run, plan: AuditPlan, stage: Stage, parts: dict[str, list[Part]]) -> Facts:
    if stage.name != answers.STAGE.name:
        return JOINS[stage.name](run, plan, parts[stage.name])
    asked = {side: answers_of(parts[f"ask-{side}"], plan, side) for side in SIDES}
    check_engines({side: one.answers.engines for side, one in asked.items()})
    facts = answers.join_answers(run, plan, asked, [part for side in SIDES for part in parts[f"states-{side}"]])
    return facts | {"engines": {side: parts[f"ask-{side}"][0].facts["line"] for side in reversed(SIDES)}}


def check_parts(run: Run, plan: AuditPlan, step: Step, places: Sequence[Path]) -> None:
    """Raise where a part is of another run or version, or was made with other weights than the first."""
    weights: dict[str, str] = {}
    key = key_of(run, plan, step, Shard())  # only the shard's number differs between parts
    for place in places:
        check_key(place, key)
        for name, fingerprint in read_seal(place)["facts"].get("weights", {}).items():
            if weights.setdefault(name, fingerprint) != fingerprint:
                raise MechdriftError(
                    f"{place} was made with other weights of the {name} model than {places[0].name}: put the same on "
                    "all machines, delete it and run that shard again."
                )
