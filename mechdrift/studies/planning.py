"""The plan of a study: one cell per unit of work, in the order in which they depend on each other.

    pair ─► (pilot) ─► ask-reasoning ×n, ask-instruct ×n ─► states ×m ─► join
         ─► kl ×m, drift ×m ─► join ─► readouts ×m ─► join ─► patch ×m ─► join, with the page
         ─► stress and repair, a cell per mode or method

`n` is the number of the study's shards; `m` is the same number, but at most the number of dimensions. Cells that ask
open one model; cells that read open both, one after the other. An audit that asks in waves is one cell, `audit`,
because each wave waits for the one before.

A cell's id is a hash of its run and what it does, so that it stays the same when the study grows.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mechdrift.audits.parts import Shard
from mechdrift.audits.steps import STEPS
from mechdrift.records.progress import tell
from mechdrift.studies.cells import JOIN, Cell
from mechdrift.studies.estimates import Costs, costs_of, known_costs
from mechdrift.studies.study import PlannedAudit, Study

ROUNDS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("answers", (("ask-reasoning", "ask-instruct"), ("states-reasoning", "states-instruct"))),
    ("drift", (("kl", "drift"),)),
    ("readouts", (("readouts",),)),
    ("patch", (("patch",),)),
)


def plan_cells(study: Study, *, estimate: bool = True) -> list[Cell]:
    """Into which units of work does a study divide? Its cells, in an order in which each follows those that it needs.

    Args:
        study: what `read_study` read.
        estimate: whether to look at the models' configurations and tokenizers for tokens and memory, once per pair and
            preset.

    Returns:
        A `Cell` per shard and step of each audit, with the ids of the cells that must be done before (`after`), the
        tokens read and written at most (`tokens`) and the memory in bytes (`memory`); `.line` is the cell as a line of
        JSON.

    Raises:
        MechdriftError: for an option of the audits that does not fit. Models that are not on this machine are no error:
            a line on standard error says why their tokens and memory are not known.

    Source:
        Idempotent tasks over one shared store: MapReduce (Dean and Ghemawat 2004).

    Example:
        >>> cells = plan_cells(read_study("study.toml"))  # doctest: +SKIP
    """
    costs: dict[tuple[str, ...], Costs] = {}
    unknown: dict[str, str] = {}
    cells: list[Cell] = []
    for audit in study.audits():
        same = (audit.pair.name, audit.checkpoint, audit.preset)
        if same not in costs:
            costs[same] = known_costs(audit.config()) if estimate else Costs()
            if costs[same].why:
                unknown.setdefault(audit.pair.name, costs[same].why)
        cells += cells_of(audit, costs[same])
    for name, why in unknown.items():
        tell(f"{name}: tokens and memory are not known here: {why}")
    return cells


def cells_of(audit: PlannedAudit, costs: Costs) -> Iterator[Cell]:
    """The cells of one audit."""
    config = audit.config()
    common = {
        "run": audit.name,
        "pair": audit.pair.name,
        "checkpoint": audit.checkpoint,
        "preset": audit.preset,
        "seed": audit.seed,
    }
    if config.until_decided:
        last = _cell(common, "audit", model=_models(audit), cost=costs_of(costs, "audit", 1))
        yield last
    else:
        before: tuple[str, ...] = ()
        whole = ("pair", "pilot") if config.budget.is_auto else ("pair",)
        for step in whole:
            cell = _cell(common, step, after=before, model=_models(audit), cost=costs_of(costs, step, 1))
            yield cell
            before = (cell.id,)
        last = cell
        for stage, groups in ROUNDS:
            done: list[str] = []
            for group in groups:
                parts = [cell for step in group for cell in _shards(audit, common, step, before, costs)]
                yield from parts
                before = tuple(cell.id for cell in parts)
                done += before
            last = _cell(common, f"{JOIN}-{stage}", after=tuple(done), device="cpu")
            yield last
            before = (last.id,)
    for kind, names in (("stress", audit.study.stress), ("repair", audit.study.repairs)):
        for name in names:
            yield _cell(common, f"{kind}:{name}", after=(last.id,), model=_models(audit))


def _shards(
    audit: PlannedAudit, common: Mapping[str, str], step: str, before: tuple[str, ...], costs: Costs
) -> Iterator[Cell]:
    by_question, dimensions = STEPS[step].by_question, audit.config().ordered_dimensions
    count = audit.study.shards if by_question else min(audit.study.shards, len(dimensions))
    for number in range(1, count + 1):
        shard = Shard(number=number, count=count)
        mine = tuple(dimensions if by_question else shard.of(dimensions))
        share = 1 / count if by_question else len(mine) / len(dimensions)
        model = _model(audit, STEPS[step].sides)
        cost = costs_of(costs, step, share)
        yield _cell(common, step, after=before, model=model, cost=cost, shard=str(shard), dimensions=mine)


def _cell(common: Mapping[str, Any], step: str, cost: Mapping[str, Any] | None = None, **rest: Any) -> Cell:
    named = f"{common['run']} {step} {rest.get('shard', '1/1')}"
    return Cell(id=hashlib.sha256(named.encode()).hexdigest()[:12], step=step, **common, **rest, **(cost or {}))


def _model(audit: PlannedAudit, sides: Sequence[str]) -> str:
    """The name of what a step opens: the model itself for one side, else the pair."""
    models = audit.pair.models
    if len(sides) > 1 or "pair" in models:
        return _models(audit) + (f" {sides[0]}" if len(sides) == 1 else "")
    if sides[0] == "instruct":
        return models["instruct"]
    return audit.checkpoint or models.get("reasoning") or models["adapter"]


def _models(audit: PlannedAudit) -> str:
    models = audit.pair.models
    return models.get("pair") or f"{models['instruct']} and {_model(audit, ('reasoning',))}"
