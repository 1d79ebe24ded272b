"""What each cell does: pull the files that it reads, do its step, and push the files that it wrote.

A process that does several cells keeps the pair of the last one open. Where the next cell has a model in common with
it, such as the parent of many checkpoints, that model stays loaded. Questions that it answered beside one checkpoint
are not asked again beside the next.
"""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mechdrift.audits.config import Audit
from mechdrift.audits.merging import merge
from mechdrift.audits.parts import SEAL, Shard, place_of, read_seal
from mechdrift.audits.pipeline import audit
from mechdrift.audits.plan import generation_dtype, load_from
from mechdrift.audits.shards import lend, run_step
from mechdrift.audits.steps import STEPS, WHOLE
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, MechdriftError
from mechdrift.studies.cells import JOIN, Cell
from mechdrift.studies.storage import Store
from mechdrift.studies.study import PlannedAudit, Study

OPENS = ("pair", "instruct", "reasoning", "adapter", "null_model", "revision", "device", "device_map", "dtype", "chat")
RUN = ("run.json", "*.parquet", "*.safetensors", "*.jsonl")


@dataclass
class Hands:
    """Does cells of one study on one device, and keeps the last pair."""

    study: Study
    store: Store
    device: str = "auto"
    last: tuple[tuple[Any, ...], Pair] | None = None

    def do(self, cell: Cell) -> dict[str, Any]:
        """Pull what the cell reads, do its step, push what it wrote. Returns facts for the ledger."""
        store, kind = self.store, cell.step.partition(":")[0].partition("-")[0]
        planned = audit_of(self.study, cell)
        config = planned.config(out=store.path(cell.run))
        config = replace(config, device=self.device if config.device == "auto" else config.device)
        if cell.step in STEPS:
            return self._shard(cell, config)
        store.pull(_whole_run(cell))
        if kind in ("stress", "repair"):
            out = f"{cell.run}.{cell.step.replace(':', '-')}"
            _run_command([*command_of(cell.step, config), "--out", str(store.path(out))])
            store.push(out)
        elif cell.step == "audit":
            audit(config)
        elif cell.step in WHOLE:
            run_step(config, cell.step, pair=self.pair(config))
        else:
            self._join(cell, config)
        store.push(cell.run)
        return {}

    def _shard(self, cell: Cell, config: Audit) -> dict[str, Any]:
        store, step, shard = self.store, STEPS[cell.step], Shard.parse(cell.shard)
        parts = f"{cell.run}.parts"
        store.pull([f"{cell.run}/{name}" for name in ("run.json", *step.needs)])
        store.pull([f"{parts}/{step.name}-*/part.json", *(f"{parts}/{name}-*/*" for name in step.after)])
        lent = self._lend(cell, config, shard)
        place = run_step(config, cell.step, shard, pair=self.pair(config))
        store.push(f"{parts}/{place.name}")
        return {"tokens": 0 if lent else read_seal(place)["facts"].get("written", 0)}

    def _lend(self, cell: Cell, config: Audit, shard: Shard) -> bool:
        """Take over the parent's answers from the audit of another child of the study, because many checkpoints ask it
        the same. True where there were such answers. Measured budgets belong to one run, so there the parent is asked
        again."""
        if cell.step != "ask-instruct" or config.budget.is_auto:
            return False
        for other in self.study.audits():
            if other.name == cell.run or _of_parent(other.config()) != _of_parent(audit_of(self.study, cell).config()):
                continue
            part = place_of(Path(other.name), cell.step, shard).as_posix()
            self.store.pull([f"{part}/*"])
            if (self.store.path(part) / SEAL).exists():
                pair, dtype = self.pair(config), generation_dtype(config)
                return lend(self.store.path(part), self.store.path(cell.run), cell.step, shard, pair, dtype)
        return False

    def _join(self, cell: Cell, config: Audit) -> None:
        stage = cell.step.removeprefix(f"{JOIN}-")
        run, missing = merge(self.store.path(cell.run), config, self.pair(config))
        if stage not in run.finished:
            raise MechdriftError(f"{cell.run} cannot be joined: {missing[0]} is missing.")

    def pair(self, config: Audit) -> Pair:
        """The pair of an audit: the last one where it is the same, else a new one that shares the models that both
        have."""
        named = tuple(getattr(config, name) for name in OPENS)
        if self.last is not None and self.last[0] == named:
            return self.last[1]
        pair = load_from(config)
        if self.last is not None:
            before = self.last[1]
            for side in SIDES:
                if pair.source(side) == before.source(side):
                    pair = pair.sharing(before, side)
                else:
                    before.models[side].loaded.clear()
        self.last = (named, pair)
        return pair


def _of_parent(config: Audit) -> Audit:
    """The part of a configuration that the parent's answers depend on: all but the child."""
    return replace(config, reasoning=None, adapter=None, null_model=None, out=None)


def audit_of(study: Study, cell: Cell) -> PlannedAudit:
    """The audit that a cell belongs to."""
    pair = next((pair for pair in study.pairs if pair.name == cell.pair), None)
    if pair is None:
        raise MechdriftError(f"the study file has no pair {cell.pair!r:.60} any more: plan the study again.")
    return PlannedAudit(study=study, pair=pair, checkpoint=cell.checkpoint, preset=cell.preset, seed=cell.seed)


def _whole_run(cell: Cell) -> list[str]:
    """Patterns of the files that a cell reads which works in the run folder itself."""
    patterns = [f"{cell.run}/{name}" for name in RUN]
    if cell.step.startswith(JOIN):
        stage = cell.step.removeprefix(f"{JOIN}-")
        stages = ("kl", "drift") if stage == "drift" else (stage,)
        steps = [step.name for step in STEPS.values() if step.stage in stages]
        patterns += [f"{cell.run}.parts/{name}-*/*" for name in steps]
    return patterns


def command_of(step: str, config: Audit) -> list[str]:
    """The command line of a stress test of an audit's pair, or of the price list of a repair of its run."""
    kind, _, name = step.partition(":")
    if kind == "repair":
        return ["repair", str(config.out), "--methods", name, "--seed", str(config.seed)]
    options = ("instruct", "reasoning", "adapter", "revision", "think", "answer", "device", "seed")
    said = {option: getattr(config, option) for option in options}
    words = [word for option, value in said.items() if value is not None for word in (f"--{option}", str(value))]
    pair = [] if config.instruct else [config.pair]
    return ["stress", *pair, *words, "--probes", *config.ordered_dimensions, "--modes", name]


def _run_command(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "mechdrift.cli", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("mechdrift: ")
        raise MechdriftError(f"mechdrift {words[0]} ended with {done.returncode}: {last}")
