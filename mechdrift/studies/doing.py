"""What each cell does: bring what it reads, do it, and send what it wrote.

A process that does several cells keeps the pair of the last one. Where the next has a model in common with it, such as
the parent of many checkpoints, that model stays as it is.
"""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mechdrift.audits.config import Audit
from mechdrift.audits.merging import merge
from mechdrift.audits.parts import Shard, read_seal
from mechdrift.audits.pipeline import audit
from mechdrift.audits.plan import load_from
from mechdrift.audits.shards import STEPS, WHOLE, run_step
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
        """Bring what the cell reads, do it, and send what it wrote; returns facts for the ledger."""
        store, kind = self.store, cell.step.partition(":")[0].partition("-")[0]
        planned = audit_of(self.study, cell)
        config = planned.config(out=store.path(cell.run))
        config = replace(config, device=self.device if config.device == "auto" else config.device)
        if cell.step in STEPS:
            return self._shard(cell, config)
        store.pull(_whole_run(cell))
        if kind in ("stress", "repair"):
            _command(kind, cell.step.partition(":")[2], store.path(cell.run))
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
        place = run_step(config, cell.step, shard, pair=self.pair(config))
        store.push(f"{parts}/{place.name}")
        return {"tokens": read_seal(place)["facts"].get("written", 0)}

    def _join(self, cell: Cell, config: Audit) -> None:
        stage = cell.step.removeprefix(f"{JOIN}-")
        run, missing = merge(self.store.path(cell.run), config, self.pair(config))
        if stage not in run.finished:
            raise MechdriftError(f"{cell.run} cannot be joined: {missing[0]} is missing.")

    def pair(self, config: Audit) -> Pair:
        """The pair of an audit: the last one where it is the same, else a new one that shares what they have in
        common."""
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


def audit_of(study: Study, cell: Cell) -> PlannedAudit:
    """The audit that a cell belongs to."""
    pair = next((pair for pair in study.pairs if pair.name == cell.pair), None)
    if pair is None:
        raise MechdriftError(f"the study file has no pair {cell.pair!r:.60} any more: plan the study again.")
    return PlannedAudit(study=study, pair=pair, checkpoint=cell.checkpoint, preset=cell.preset, seed=cell.seed)


def _whole_run(cell: Cell) -> list[str]:
    """What a cell reads that works in the run folder itself."""
    patterns = [f"{cell.run}/{name}" for name in RUN]
    if cell.step.startswith(JOIN):
        stage = cell.step.removeprefix(f"{JOIN}-")
        stages = ("kl", "drift") if stage == "drift" else (stage,)
        steps = [step.name for step in STEPS.values() if step.stage in stages]
        patterns += [f"{cell.run}.parts/{name}-*/*" for name in steps]
    return patterns


def _command(kind: str, name: str, run: Path) -> None:
    """A stress test or a repair of a finished run, as a command of its own."""
    option = {"stress": "--modes", "repair": "--methods"}[kind]
    command = [sys.executable, "-m", "mechdrift.cli", kind, str(run), option, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise MechdriftError(f"mechdrift {kind} ended with {done.returncode}: {last[0].removeprefix('mechdrift: ')}")
