"""What one audit asks, with everything looked up that the configuration only names; and what a stage of it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mechdrift.audits.config import PRESETS, Audit, Size
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.labels import RULES
from mechdrift.pairs.chat import SETTINGS
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.pair_files import PairFile, is_pair_file
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, MechdriftError, ProbeSet, Side, ThinkMode
from mechdrift.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """One audit's configuration with its probe sets, by dimension, its size, its judge of refusals, and how each model
    is asked."""

    config: Audit
    sets: Mapping[str, ProbeSet]
    size: Size
    modes: Mapping[Side, ThinkMode]
    refusal_judge: RefusalJudge = RULES

    @property
    def seed(self) -> int:
        return self.config.seed


Facts = dict[str, Any]
"""What a stage found that belongs in the manifest rather than in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of an audit that is run once: its name in run.json, what it does in words, the files it writes, and the
    function that writes them."""

    name: str
    what: str
    files: tuple[str, ...]
    run: Callable[[Run, Pair, AuditPlan], Facts]


def plan_audit(config: Audit, pair: Pair, refusal_judge: RefusalJudge = RULES) -> AuditPlan:
    """The plan of an audit of `pair`: the preset's size, and as many items of each dimension as it asks."""
    size = PRESETS[config.preset]
    return AuditPlan(
        config=config,
        sets=sample_sets(config, size),
        size=size,
        modes=think_modes(pair.child_thinks),
        refusal_judge=refusal_judge,
    )


def sample_sets(config: Audit, size: Size) -> dict[str, ProbeSet]:
    """The items that are asked, by dimension."""
    return {name: load_probes(name).sample(size.pairs, config.seed) for name in config.ordered_dimensions}


def think_modes(child_thinks: bool) -> dict[Side, ThinkMode]:
    """How each model of a pair is asked: the instruct model without thinking, a null model likewise, every other child
    with its own thinking."""
    return {"instruct": "none", "reasoning": "own" if child_thinks else "none"}


def load_from(config: Audit, file: PairFile | None = None) -> Pair:
    """The pair that a configuration names, asked as it says; `file` is what its pair file said, where that was read
    before."""
    said = {side: config.chat.of(side) for side in SIDES}
    chat: dict[str, Any] = {
        name: {side: said[side][name] for side in SIDES if name in said[side]} or None for name in SETTINGS
    }
    placed: dict[str, Any] = {
        "device": config.device,
        "dtype": analysis_dtype(config),
        "device_map": config.device_map,
        "trust_remote_code": config.trust_remote_code,
        "layout": config.layout,
    }
    if config.instruct is None:
        if config.reasoning or config.adapter or config.null_model:
            raise MechdriftError(
                "--reasoning, --adapter and --null-model need --instruct: the model that they were trained from."
            )
        if file is None and not is_pair_file(config.pair):
            return load_pair(config.pair, device=config.device, dtype=placed["dtype"], layout=config.layout, **chat)
        return load_pair(file or config.pair, revision=config.revision, **placed, **chat)
    return load_pair(
        instruct=config.instruct,
        reasoning=config.reasoning,
        adapter=config.adapter,
        null_model=config.null_model,
        revision=config.revision,
        **placed,
        **chat,
    )


def analysis_dtype(config: Audit) -> str:
    """The number format of everything that is measured inside."""
    return "float32" if config.dtype == "auto" else config.dtype


def generation_dtype(config: Audit) -> str:
    """The number format of what writes the answers."""
    if config.generation_dtype != "auto":
        return config.generation_dtype
    return default_dtype_for_generation(None if config.device_map else config.device)
