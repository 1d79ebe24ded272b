"""What one audit asks: everything that its configuration names, looked up. Also what a stage of an audit is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from mechdrift.audits.config import FIXED_FAMILIES, PRESETS, Audit, Size
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.labels import RULES
from mechdrift.pairs.catalogue import EMBEDDED_PAIRS
from mechdrift.pairs.chat import SETTINGS
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.pair_files import PairFile, is_pair_file
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES, MechdriftError, ProbeSet, Side, ThinkMode
from mechdrift.runs import Run

WAVES = 4
Families = Sequence[Sequence[str]]
"""A set's families, wave by wave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waves:
    """What an audit in waves may ask: whole probe sets by dimension, and their families wave by wave."""

    sets: Mapping[str, ProbeSet]
    families: Mapping[str, Families]

    @property
    def count(self) -> int:
        """How many waves the dimension with the most waves has."""
        return max(map(len, self.families.values()))

    def part(self, name: str, wave: int) -> ProbeSet:
        """The items of one dimension and wave (counted from 0); none after the dimension's last wave."""
        return self.sets[name].of_families([*chain.from_iterable(self.families[name][wave : wave + 1])])

    def until(self, asked: Mapping[str, int]) -> dict[str, ProbeSet]:
        """The items of the first waves of each dimension; `asked` says how many."""
        return {
            name: self.sets[name].of_families([*chain.from_iterable(self.families[name][:waves])])
            for name, waves in asked.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """One audit's configuration with its probe sets, by dimension, its size, its judge of refusals, and how each model
    is asked.

    `sets` are the items that are asked. In an audit in `waves` they are those of the first wave, until `as_asked`
    gives those of all waves that were asked.
    """

    config: Audit
    sets: Mapping[str, ProbeSet]
    size: Size
    modes: Mapping[Side, ThinkMode]
    refusal_judge: RefusalJudge = RULES
    waves: Waves | None = None

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
    size, waves = PRESETS[config.preset], None
    if is_until_decided(config, pair):
        waves = plan_waves(config, size)
        sets = waves.until(dict.fromkeys(waves.sets, 1))
    else:
        sets = sample_sets(config, size)
    return AuditPlan(
        config=config,
        sets=sets,
        size=size,
        modes=think_modes(pair.child_thinks),
        refusal_judge=refusal_judge,
        waves=waves,
    )


def is_until_decided(config: Audit, pair: Pair) -> bool:
    """Whether a pair is asked until every dimension is decided: as the user says, and by default for every pair except
    the embedded ones."""
    return pair.name not in EMBEDDED_PAIRS if config.until_decided is None else config.until_decided


def sample_sets(config: Audit, size: Size) -> dict[str, ProbeSet]:
    """The items of the fixed design, by dimension: drawn from the families that the embedded pairs' table rests on."""
    return {
        name: load_probes(name).first_families(FIXED_FAMILIES).sample(size.pairs, config.seed)
        for name in config.ordered_dimensions
    }


def plan_waves(config: Audit, size: Size) -> Waves:
    """All families of each dimension, in random order and four waves of equal size, or one family a wave where there
    are fewer."""
    sets = {name: load_probes(name).sample(size.most or size.pairs, config.seed) for name in config.ordered_dimensions}
    return Waves(sets=sets, families={name: in_waves(probes.families, config.seed) for name, probes in sets.items()})


def in_waves(families: Sequence[str], seed: int) -> Families:
    """Families in waves; the same for the same families and seed."""
    order = np.random.default_rng(seed).permutation(list(families))
    return [wave.tolist() for wave in np.array_split(order, min(WAVES, len(order)))]


def as_asked(plan: AuditPlan, run: Run) -> AuditPlan:
    """The plan with the items that a run asked, once its waves have ended."""
    asked = run.manifest.get("waves", {}).get("asked")
    return plan if plan.waves is None or asked is None else replace(plan, sets=plan.waves.until(asked))


def counts_of(sets: Mapping[str, ProbeSet]) -> dict[str, dict[str, int]]:
    """How large the sets are, for the manifest."""
    return {
        name: {"n": len(probes), "families": len(probes.families), "sampled_from": len(load_probes(name))}
        for name, probes in sets.items()
    }


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
