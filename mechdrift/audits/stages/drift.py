"""Stage `drift`: the directions of each dimension inside both models, how far they turned, and what they do.

drift, cones     directions compared per layer and role, and how sure each is
thinking         projections along the reasoning model's thinking
dimensions       the dimensions' directions against each other
selection        which direction of the instruct model acts, of the dimension `STEERED`
steering         what adding it does to the reasoning model
directions, readout_states      tensors; the same passes keep what is unembedded at the readout position
"""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from mechdrift.activations.capture import collect
from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.behaviour.labels import plain_set
from mechdrift.directions.dimensions import compare_dimensions
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import at_roles, direction_cones, find_directions
from mechdrift.directions.thinking import READOUT_ROLE, thinking_table
from mechdrift.pairs.pair import Pair, give_back_memory
from mechdrift.probes.benchmarks.loading import subset
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_plain
from mechdrift.records import SIDES, Activations, Completions, Directions, ProbeSet, Side
from mechdrift.runs import Run
from mechdrift.steering.curves import steer_back
from mechdrift.steering.selection import select_direction

TABLES = ("drift", "cones", "thinking", "dimensions", "selection", "steering")
ROLES = ("template_tail", "think_close[-1]")  # and `answer`, where there are answers
LEAST_FAMILIES = 4  # with answers, to compare directions there: two in each half of a split
STEERED = "safety"  # the dimension whose direction is tried for what it does
CANDIDATES = 12  # of them, the most promising by a first-order estimate
HARMLESS = 12  # everyday requests, on which the price of taking a direction out is measured
STRENGTHS = (0.5, 1.0, 2.0)


def compare_inside(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Directions and their drift, dimension by dimension."""
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    directions, states, at_readout = {}, {}, []
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for name, probes in plan.sets.items():
        activations, kept = record(pair, probes, answers.completions(name, "instruct"))
        found = find_directions(activations, seed=plan.seed)
        drift = compare_directions(found, seed=plan.seed).frame
        tables["drift"].append(drift)
        tables["cones"].append(direction_cones(found, seed=plan.seed))
        some, thoughts = probes.sample(plan.size.thinking, plan.seed), answers.completions(name, "reasoning")
        tables["thinking"].append(thinking_table(pair, some, thoughts, found, drift, seed=plan.seed))
        at_readout.append(at_roles(found, READOUT_ROLE))
        if name == STEERED and plan.size.steered:
            selection, steering = steer(pair, plan, answers, found)
            tables["selection"].append(selection)
            tables["steering"].append(steering)
        directions |= {f"{name}.{side}": found.of(side) for side in SIDES}
        states |= {f"{name}.{side}": kept[side] for side in SIDES}
        give_back_memory()
    several = len(at_readout) > 1
    tables["dimensions"].append(
        compare_dimensions(at_readout, seed=plan.seed) if several else pd.DataFrame({"first": []})
    )
    for name, parts in tables.items():
        run.write_table(name, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"layer": []}))
    run.write_tensors("directions", directions)
    run.write_tensors("readout_states", states)
    return {}


def steer(pair: Pair, plan: AuditPlan, answers: RunAnswers, found: Directions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Which of the instruct model's directions does something, and what adding it does to the reasoning model."""
    asked = {
        "pairs": plan.size.steered,
        "readout": answers.readout(found.dimension),
        "seed": plan.seed,
        "harmless": subset(plain_set(load_plain()), HARMLESS, plan.seed),
    }
    chosen = select_direction(pair, found, screen=CANDIDATES, **asked)
    limits = {
        name: getattr(chosen, name)
        for name in ("baseline_trigger", "baseline_neutral", "kl_at_most", "n_trigger", "n_neutral")
    }
    used = [(row.layer, row.role) == chosen.closest for row in chosen.frame.itertuples()]
    selection = chosen.frame.assign(dimension=found.dimension, reason=chosen.reason, used=used, **limits)
    if chosen.closest is None:
        return selection, pd.DataFrame({"layer": []})
    curves = steer_back(pair, found, chosen, strengths=STRENGTHS, **asked)
    return selection, curves.frame.assign(dimension=found.dimension, eligible=chosen.layer is not None)


def record(pair: Pair, probes: ProbeSet, answers: Completions) -> tuple[Activations, Mapping[Side, Tensor]]:
    """Activations at the roles that directions are compared at, and readout states of all items, in the set's order.

    Twin pairs without two answers have no role `answer`: they are left out, or, where too few families remain, the role
    is.
    """
    complete = with_answers(probes, answers)
    if len(complete.families) < LEAST_FAMILIES:
        recorded = collect(pair, probes, roles=ROLES, readout=True)
        return recorded, dict(recorded.readout)
    recorded = collect(pair, complete, roles=(*ROLES, "answer"), answers=answers, readout=True)
    missing = replace(probes, items=tuple(item for item in probes if item not in complete.items))
    if not missing.items:
        return recorded, dict(recorded.readout)
    others = collect(pair, missing, roles=("think_close[-1]",), layers=(0,), readout=True)
    place = {item.id: i for i, item in enumerate((*complete, *missing))}
    order = [place[item.id] for item in probes]
    return recorded, {side: torch.cat([recorded.readout[side], others.readout[side]])[order] for side in SIDES}


def with_answers(probes: ProbeSet, answers: Completions) -> ProbeSet:
    """Twin pairs of which both have a non-empty answer."""
    empty = {row.item_id for row in answers if not row.answer_ids}
    keep = tuple(item for item in probes if item.id not in empty and item.twin not in empty)
    return replace(probes, items=keep)


STAGE = Stage(
    name="drift",
    files=(*(f"{name}.parquet" for name in TABLES), "directions.safetensors", "readout_states.safetensors"),
    run=compare_inside,
)
