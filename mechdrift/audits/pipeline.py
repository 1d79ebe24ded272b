"""The whole pipeline on one screen: what did the reasoning conversion do to this pair's alignment, and where inside?

    pair (-> pilot) (-> waves) -> answers -> scores -> drift -> readouts -> patch -> kl -> report

Each stage (`stages`) reads the run folder and writes to it; a stage that is finished, with its files intact, is not run
again. So a killed audit goes on at the unfinished stage (within answers: at the last batch), and after damage to a
file only its own stage and the later ones are run again. Answers that an outside judge failed on are judged when the
same audit is started again.
"""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mechdrift.audits.config import PRESETS, Audit, Size
from mechdrift.audits.plan import (
    AuditPlan,
    Stage,
    analysis_dtype,
    as_asked,
    generation_dtype,
    is_until_decided,
    load_from,
    plan_audit,
)
from mechdrift.audits.power import power_line
from mechdrift.audits.stages.answers import ask_judge_again, is_judging_unfinished
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.work import proportions
from mechdrift.behaviour.backends.choosing import check_servers
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.judges.keeping import check_judge
from mechdrift.behaviour.labels import RULES
from mechdrift.pairs.loading import fingerprint, resolve_device
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation, fast_float32
from mechdrift.pairs.templates import day_of
from mechdrift.records import SIDES, MechdriftError
from mechdrift.records.progress import all_left, tell, whole
from mechdrift.report.page import write_report
from mechdrift.runs import Run, open_run, version_of

__all__ = ["PRESETS", "Audit", "Size", "audit", "load_from"]

MODELS = ("pair", "instruct", "reasoning", "adapter", "null_model", "revision")
IDENTITY = (*MODELS, "preset", "dimensions", "seed")  # options that make another run where they differ
SHOWN = ("scores", "drift")  # stages after which the page is drawn: what the models did, and what moved inside them
SHOWN_AFTER = 60.0  # seconds of work: a quicker audit is at its end before anybody has read the page
PACKAGES = ("mechdrift", "torch", "transformers", "transformer-lens")


def audit(config: Audit = Audit(), pair: Pair | None = None) -> Run:  # noqa: B008 - a frozen default
    """What did the reasoning conversion do to this pair's alignment, and where inside? Runs every stage and writes the
    page.

    An unfinished run of the same configuration continues at the unfinished stage.

    Args:
        config: what to audit and how thoroughly: an `Audit`. Without it, the embedded pair with the standard
            preset.
        pair: models of your own that are in memory (`Pair.from_models`), instead of those that the configuration
            names. Their weights then belong to what must be the same when the audit goes on.

    Returns:
        A `Run`: the folder with tables, tensors, `report.html` and `figures/`.

    Raises:
        MechdriftError: for models that cannot be compared, for a folder that holds another run, and when a
            self-test fails.

    Source:
        The stages, in order: `mechdrift.audits.stages`; each method has a page in the documentation.

    Example:
        >>> asked = {"preset": "quick", "dimensions": ("safety",), "think": 32, "until_decided": False}
        >>> config = md.Audit(instruct=parent, reasoning=child, **asked)
        >>> run = md.audit(config)
        >>> (run.folder / "report.html").exists()
        True
    """
    if pair is not None and (config.instruct or config.reasoning or config.adapter or config.null_model):
        raise MechdriftError("give either pair= or models in the configuration (instruct, reasoning, ...), not both.")
    refusal_judge = load_judge(config.judge) if config.judge else RULES
    pair = load_from(config) if pair is None else pair
    config = replace(config, until_decided=is_until_decided(config, pair))
    run = open_audit(config, pair, refusal_judge)
    plan = plan_audit(config, pair, refusal_judge)
    if "answers" not in run.finished:
        check_servers(pair, config.engine_of, is_begun=any(run.folder.glob("answers-*.partial.jsonl")))
    if plan.waves is not None and not run.finished:
        tell(power_line(plan.waves))
    with run.locked(), fast_float32():
        layers = pair.config("instruct").get_text_config(decoder=True).num_hidden_layers
        run_unfinished_stages(run, pair, plan, stages_of(config), proportions(plan, layers))
    run.report()
    return run


def run_unfinished_stages(
    run: Run, pair: Pair, plan: AuditPlan, stages: Sequence[Stage], work: Mapping[str, float] = MappingProxyType({})
) -> None:
    """Run the stages that are not finished, and those whose files are damaged, with all later ones. `work` is the
    amount of work of each stage, in any unit; where it is given, the time left is printed."""
    names = [stage.name for stage in stages]
    for damaged in (name for name in run.damaged_stages() if name in names):
        # Forgotten on disk, so that a kill while they are made again does no harm.
        run.forget(names[names.index(damaged) :])
    if "answers" in run.finished:
        if ask_judge_again(run, plan):
            run.forget(names[names.index("answers") :])
    else:
        check_judge(plan.refusal_judge)
    # A kill may have come between the end of a stage and the removal of what it had kept.
    run.remove_partials(set(run.finished) - ({"answers"} if is_judging_unfinished(run.manifest) else set()))
    if "pair" in run.finished and set(names) - set(run.finished):
        _check_weights(run, pair)
    start = time.monotonic()
    waiting = [(number, stage) for number, stage in enumerate(stages, 1) if stage.name not in run.finished]
    with whole({stage.name: work[stage.name] for _, stage in waiting if stage.name in work}) as all_stages:
        for number, stage in waiting:
            all_stages.begin(stage.name)
            tell(f"{run.folder.name}, stage {number} of {len(stages)}, {stage.name}: {stage.what}{all_left()}")
            facts = stage.run(run, pair, as_asked(plan, run))
            seconds = all_stages.end()
            run.finish(stage.name, seconds, stage.files, keep=is_judging_unfinished(facts), **facts)
            if stage.name in SHOWN and (number, stage) != waiting[-1] and time.monotonic() - start > SHOWN_AFTER:
                tell(f"what is known so far stands in {write_report(run, is_running=True)}")


def _check_weights(run: Run, pair: Pair) -> None:
    """Raise when an unfinished run was begun with other weights under the same names."""
    begun = run.manifest["pair"]["fingerprints"]
    for side in SIDES:
        if fingerprint(pair.open(side).model) != begun[side]:
            raise MechdriftError(
                f"{run.folder} was begun with other weights of {pair.source(side).name}: give another folder with "
                "--out or delete this one."
            )


def open_audit(config: Audit, pair: Pair, refusal_judge: RefusalJudge) -> Run:
    """The run folder of this configuration. Its identity holds whatever changes a number, but not where the run is
    stored or computed."""
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    settings |= {"pair": pair.name, "dimensions": list(config.ordered_dimensions), "out": str(config.out or "")}
    settings |= {"judge": str(config.judge or ""), "layout": str(config.layout or ""), "chat": config.chat.said}
    settings |= {"pair_file": asdict(file) if (file := pair.file) else None}
    identity = {key: settings[key] for key in IDENTITY}
    identity |= {"judge": refusal_judge.name, "sampling": str(config.sampling)}
    dtypes = dtypes_of(config, pair)
    identity |= {
        "generation dtype": dtypes["generation"],
        "dtype": dtypes["analysis"],
        "size": asdict(PRESETS[config.preset]),
    }
    if pair.number_formats:  # a caller's own models have no name that identifies them
        identity |= {"weights": {side: fingerprint(pair.open(side).model) for side in SIDES}}
    identity |= {"pair_file": settings["pair_file"], "asked": asked_as(pair)}
    size = PRESETS[config.preset]
    identity["waves"] = {"margin": config.margin, "most": size.most or size.pairs} if config.until_decided else None
    # Runs of earlier versions, which had the preset's budget only, have no such entry.
    is_preset = config.budget == PRESETS[config.preset].budget
    identity["budget"] = None if is_preset else asdict(config.budget) | {"think_max": config.think_max}
    manifest = {
        "config": settings,
        "budgets": {} if config.budget.is_auto else asdict(config.budget),
        "self_tests": {},
    } | software()
    manifest["dtypes"] = dtypes
    return open_run(Path(config.out or Path("runs") / pair.name), identity, manifest)


def asked_as(pair: Pair) -> dict[str, dict[str, Any]] | None:
    """The system message, template and its arguments, markers and switch with which each model is asked, and the day
    that its template writes; None where there is none of these."""
    days = {side: day_of(pair.tokenizer(side)) for side in SIDES}
    said = {side: pair.source(side).chat.said | ({"day": day} if (day := days[side]) else {}) for side in SIDES}
    return said if any(set(settings) - {"apart"} for settings in said.values()) else None


def dtypes_of(config: Audit, pair: Pair) -> dict[str, str]:
    """The number formats in which a pair is asked and read inside, and the devices. A caller's own models keep the
    formats they were given in."""
    if pair.number_formats:
        given = " and ".join(dict.fromkeys(pair.number_formats.values()))
        devices = dict.fromkeys(str(pair.open(side).device) for side in SIDES)
        return {"generation": given, "analysis": given, "device": " and ".join(devices)}
    return {
        "generation": generation_dtype(config),
        "analysis": analysis_dtype(config),
        "device": config.device_map or resolve_device(config.device),
    }


def software() -> dict[str, dict[str, str]]:
    """Versions and number formats, for a manifest."""
    return {
        "versions": {name: version_of(name) for name in PACKAGES} | {"python": platform.python_version()},
        "dtypes": {"generation": default_dtype_for_generation(), "analysis": "float32"},
    }
