"""The whole pipeline on one screen: what did the reasoning conversion do to this pair's alignment, and where inside?

    pair -> answers -> scores -> drift -> readouts -> patch -> kl -> report

Each stage (`stages`) reads the run folder and writes to it; a stage that is finished, with its files intact, is not run
again. So a killed audit goes on at the unfinished stage (within answers: at the last batch), and a damaged file brings
back only its own stage and what follows from it.
"""

import platform
import time
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mechdrift.audits.config import PRESETS, Audit, Size
from mechdrift.audits.stages import Stages, modes_of
from mechdrift.behaviour.judges.external import RefusalJudge, load_judge
from mechdrift.behaviour.labels import RULES
from mechdrift.pairs.loading import fingerprint
from mechdrift.pairs.pair import Pair, load_pair
from mechdrift.pairs.precision import default_dtype_for_generation, fast_float32
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, MechdriftError
from mechdrift.runs import Run, open_run

__all__ = ["PRESETS", "Audit", "Size", "audit", "load_from"]

PACKAGES = ("mechdrift", "torch", "transformers", "transformer-lens")


def audit(config: Audit = Audit()) -> Run:  # noqa: B008 - a frozen default
    """Audit a pair and write its run folder and report; goes on with an unfinished run of the same configuration."""
    refusal_judge = load_judge(config.judge) if config.judge else RULES
    pair = load_from(config)
    run = _open(config, pair, refusal_judge)
    size = PRESETS[config.preset]
    sets = {name: load_probes(name).sample(size.pairs, config.seed) for name in config.ordered_dimensions}
    work = Stages(
        config=config, pair=pair, run=run, sets=sets, size=size, refusal_judge=refusal_judge, modes=modes_of(pair.route)
    )
    with run.locked(), fast_float32():
        go_on(work)
        run.report()
    return run


def go_on(work: Stages) -> None:
    """Run the stages that are not finished, and those whose files are damaged with what follows from them."""
    run, stages = work.run, work.all()
    names = [name for name, _, _ in stages]
    for damaged in (name for name in run.damaged_stages() if name in names):
        run.forget(
            names[names.index(damaged) :]
        )  # forgotten on disk, so that a kill while they are made again is no harm
    if "pair" in run.finished and set(names) - set(run.finished):
        _check_weights(run, work.pair)
    for name, files, stage in stages:
        if name not in run.finished:
            start = time.perf_counter()
            facts = stage()
            run.finish(name, time.perf_counter() - start, files, **facts)


def _check_weights(run: Run, pair: Pair) -> None:
    """Raise when an unfinished run was begun with other weights, of the same names."""
    begun = run.manifest["pair"]["fingerprints"]
    for side in SIDES:
        if fingerprint(pair.open(side).model) != begun[side]:
            raise MechdriftError(
                f"{run.folder} was begun with other weights of {pair.source(side).name}: give another folder with "
                "--out or delete this one."
            )


def load_from(config: Audit) -> Pair:
    if config.instruct is None:
        if config.reasoning or config.adapter or config.control:
            raise MechdriftError(
                "--reasoning, --adapter and --control need --instruct: the model that they were trained from."
            )
        return load_pair(config.pair, device=config.device)
    return load_pair(
        instruct=config.instruct,
        reasoning=config.reasoning,
        adapter=config.adapter,
        control=config.control,
        revision=config.revision,
        device=config.device,
        device_map=config.device_map,
        trust_remote_code=config.trust_remote_code,
    )


def _open(config: Audit, pair: Pair, refusal_judge: RefusalJudge) -> Run:
    """The run folder of this configuration. What changes a number is its identity; where it is stored and runs is
    not."""
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    settings |= {"pair": pair.name, "dimensions": list(config.ordered_dimensions), "out": str(config.out or "")}
    settings |= {"judge": str(config.judge or "")}
    identity = {
        key: settings[key]
        for key in ("pair", "instruct", "reasoning", "adapter", "control", "revision", "preset", "dimensions", "seed")
    }
    identity |= {"judge": refusal_judge.name, "sampling": str(config.sampling)}
    identity |= {"generation dtype": default_dtype_for_generation(), "size": asdict(PRESETS[config.preset])}
    manifest = {
        "config": settings,
        "budgets": asdict(PRESETS[config.preset].budget),
        "self_tests": {},
    } | software()
    return open_run(config.out or Path("runs") / pair.name, identity, manifest)


def software() -> dict[str, dict[str, str]]:
    """Versions and number formats, for a manifest."""
    return {
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "dtypes": {"generation": default_dtype_for_generation(), "analysis": "float32"},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
