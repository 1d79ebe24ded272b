"""Stage `readouts`: one number per prompt in both models, compared with judged answers; and mediation.

Files: `readouts.parquet`, `readout_validation.parquet`, `passage.parquet` (through what the change of the readout is
mediated, see `summaries.summarise_mediation`; the name is that of older runs).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.readouts import measure, unembed
from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.parts import Part, in_order
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.audits.summaries import summarise_mediation
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Side, ThinkMode
from mechdrift.runs import Run

CELL_COLUMNS = ["item", "dimension", "family", "cell", "readout"]


def validate_readouts(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Readouts of both models, with an empty think block and in the model's own think mode, validated against the
    model's judged answers.

    With an empty block one readout serves both models, because patch grids compare them; else each model has its own.
    """
    return join_readouts(run, plan, [read_readouts(run, pair, plan)])


def read_readouts(run: Run, pair: Pair, plan: AuditPlan) -> Part:
    """Values, their validation, and the cells of the mediation."""
    off, own = run.tensors("readout_states"), run.tensors("own_states")
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    # The reasoning model first: it is still open where the stage before ran in the same process.
    parts = {side: measure_side(pair, plan, answers, side, off, own) for side in reversed(SIDES)}
    values, checks, cells = ([row for side in SIDES for row in parts[side][place]] for place in range(3))
    tables = {"readouts": pd.concat(values, ignore_index=True), "checks": pd.DataFrame(checks)}
    return Part(tables=tables | {"cells": pd.concat(cells, ignore_index=True)})


def join_readouts(run: Run, plan: AuditPlan, parts: Sequence[Part]) -> Facts:
    """The tables of all dimensions, model after model."""
    names = list(plan.sets)
    run.write_table("readouts", in_order(parts, "readouts", names, by=SIDES))
    run.write_table("readout_validation", in_order(parts, "checks", names, by=SIDES))
    cells = in_order(parts, "cells", names).reindex(columns=CELL_COLUMNS)
    run.write_table("passage", summarise_mediation(cells, plan.seed))
    return {}


def measure_side(
    pair: Pair,
    plan: AuditPlan,
    answers: RunAnswers,
    side: Side,
    off: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> tuple[list[pd.DataFrame], list[dict[str, Any]], list[pd.DataFrame]]:
    """One model's readouts, their validation, and its cells of the mediation, for all dimensions. `off` and `own` hold
    what it unembeds after an empty think block and as it is used."""
    loaded = pair.open(side)
    values, checks, cells = [], [], []
    for name in plan.sets:
        for think, states in (("off", off), (plan.modes[side], own)):
            logits = unembed(loaded, states[f"{name}.{side}"])
            measured, check = validate_readout(answers, name, side, think, logits, plan.seed)
            values.append(measured)
            checks.append(check)
        thought = own[f"{name}.instruct.donor" if side == "instruct" else f"{name}.reasoning"]
        cells += [
            mediation_cell(answers, name, side, think, unembed(loaded, kept))
            for think, kept in (("off", off[f"{name}.{side}"]), ("own", thought))
        ]
    return values, checks, cells


def validate_readout(
    answers: RunAnswers, name: str, side: Side, think: ThinkMode, logits: Float[Tensor, "prompt vocab"], seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One set's readouts in one model and think mode, and how well they follow what that model was judged to do."""
    probes = answers.sets[name]
    readout = answers.readout(name, SIDES if think == "off" else (side,))
    ids = [item.id for item in probes]
    values = pd.DataFrame(
        {
            "item": ids,
            "dimension": name,
            "contrast": [item.contrast for item in probes],
            "side": side,
            "think": think,
            "readout": measure(readout, logits, ids),
        }
    )
    found = answers.validate(name, side, logits, seed)
    trigger, plain = readout.words(answers.renderer)
    return values, {
        "dimension": name,
        "side": side,
        "think": think,
        "auroc": found.auroc,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "n_behaving": found.n_behaving,
        "reliable": found.reliable,
        "aligned_tokens": trigger,
        "misaligned_tokens": plain,
    }


def mediation_cell(
    answers: RunAnswers, name: str, side: Side, think: ThinkMode, logits: Float[Tensor, "prompt vocab"]
) -> pd.DataFrame:
    """One cell of {either model's weights} x {empty think block, the reasoning model's thinking}: the readouts of the
    trigger items about which it finished thinking. One readout serves all four cells."""
    probes, thought = answers.sets[name], answers.rows(name, "reasoning")
    values = measure(answers.readout(name), logits, [item.id for item in probes])
    rows = [
        {"item": item.id, "dimension": name, "family": item.family, "cell": f"{side} {think}", "readout": value}
        for item, value in zip(probes, values, strict=True)
        if item.is_trigger and thought.closed[item.id] and len(thought.thinking_ids[item.id])
    ]
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def less_reliable_side(validation: pd.DataFrame, name: str) -> pd.Series:
    """The validation of the model whose readout follows judged behaviour less well. Gaps and patches are read in both
    models, so they are only as reliable as the readout of that model."""
    return validation.loc[name].sort_values(["reliable", "auroc"], na_position="first").iloc[0]


STAGE = Stage(
    name="readouts",
    what="readouts are validated against the answers",
    files=("readouts.parquet", "readout_validation.parquet", "passage.parquet"),
    run=validate_readouts,
)
