"""Stage `drift`: the directions of each dimension inside both models, how far they turned, and what they do.

    drift, cones     directions compared per layer and role, and the uncertainty of each
    thinking         projections along the reasoning model's thinking
    dimensions       the dimensions' directions against each other
    selection        which direction of the instruct model has an effect, in the dimension `STEERED`
    steering         what adding it does to the reasoning model
    directions, readout_states      tensors; the same passes keep what is unembedded at the readout position

Each model is opened once for all dimensions, the reasoning model twice:

    reasoning model    its activations, which then wait in the run folder
    instruct model     its activations, and with both the directions and their drift; its projections along the
                       thinking; which direction has an effect, and what removing it does
    reasoning model    its projections along the thinking; what adding the direction does
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechdrift.activations.capture import collect_side, join_sides
from mechdrift.activations.one_model import SideActivations
from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.parts import Part, in_order, tensors_of
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.behaviour.labels import everyday_set
from mechdrift.directions.cones import direction_cones
from mechdrift.directions.dimensions import compare_dimensions
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import at_roles, find_directions
from mechdrift.directions.thinking import READOUT_ROLE, TABLE_COLUMNS, ThinkingReading, plan_table, thinking_rows
from mechdrift.pairs.pair import Pair, give_back_memory
from mechdrift.probes.benchmarks.loading import subset
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_everyday
from mechdrift.records import SIDES, Activations, Completions, Directions, ProbeSet, Side
from mechdrift.runs import Run
from mechdrift.steering.curves import SteeringPlan, plan_steering, run_arm
from mechdrift.steering.selection import select_direction

TABLES = ("drift", "cones", "thinking", "dimensions", "selection", "steering")
KEPT = ("directions", "readout_states")
SITE = "resid_pre"
ROLES = ("template_tail", "think_close[-1]")  # and `answer`, where there are answers
LEAST_FAMILIES = 4  # families with answers that a comparison at `answer` needs: two in each half of a split
STEERED = "safety"  # the dimension whose direction is tried for what it does
CANDIDATES = 12  # directions that are tried, the most promising by a first-order estimate
HARMLESS = 12  # everyday requests, on which the price of removing a direction is measured
STRENGTHS = (0.5, 1.0, 2.0)


def compare_inside(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Directions of all dimensions in both models, their drift, and what they do."""
    return join_drift(run, plan, [read_drift(run, pair, plan)])


def read_drift(run: Run, pair: Pair, plan: AuditPlan) -> Part:
    """Everything that needs an open model, for the dimensions of the plan."""
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    with run.scratch() as folder:
        record_reasoning_model(pair, answers, folder)
        compared = {name: compare_dimension(pair, plan, answers, name, folder) for name in plan.sets}
    steered = compared[STEERED].steering if STEERED in compared else None
    tables = {
        "drift": [each.drift for each in compared.values()],
        "cones": [each.cones for each in compared.values()],
        "thinking": [part for each in compared.values() if len(part := thinking_part(pair, plan, each))],
        "selection": [steered.selection] if steered else [],
        "steering": [steering_part(pair, steered)] if steered else [],
    }
    return Part(
        tables={name: pd.concat(found, ignore_index=True) for name, found in tables.items() if found},
        tensors={
            f"{what}.{name}.{side}": getattr(each, what)[side]
            for name, each in compared.items()
            for what in KEPT
            for side in SIDES
        }
        | {key: value for name, each in compared.items() for key, value in to_tensors(name, each.at_readout).items()},
        facts={"at_readout": {name: described(each.at_readout) for name, each in compared.items()}},
    )


def join_drift(run: Run, plan: AuditPlan, parts: Sequence[Part]) -> Facts:
    """The tables of all dimensions, and the dimensions' directions against each other."""
    for name in TABLES:
        if name != "dimensions":
            run.write_table(name, in_order(parts, name, list(plan.sets)))
    tensors = tensors_of(parts)
    facts = {name: fact for part in parts for name, fact in part.facts.get("at_readout", {}).items()}
    at_readout = [from_tensors(plan.sets[name], facts[name], tensors) for name in plan.sets]
    several = len(at_readout) > 1
    dimensions = compare_dimensions(at_readout, seed=plan.seed) if several else pd.DataFrame({"first": []})
    run.write_table("dimensions", dimensions)
    for what in KEPT:
        run.write_tensors(
            what, {f"{name}.{side}": tensors[f"{what}.{name}.{side}"] for name in plan.sets for side in SIDES}
        )
    return {}


# How the directions of one dimension are stored in a part, to be compared with those of other dimensions.

FIELDS = ("instruct", "reasoning", "norm_instruct", "norm_reasoning", "split_instruct", "split_reasoning")


def described(found: Directions) -> dict[str, Any]:
    """The fields of directions that are not tensors."""
    return {
        "method": found.method,
        "site": found.site,
        "layers": list(found.layers),
        "roles": list(found.roles),
        "think": found.activations.think,
        "items": [item.id for item in found.activations.probes],
    }


def to_tensors(name: str, found: Directions) -> dict[str, Tensor]:
    """The tensors of directions and of the activations that they were found in."""
    own = {f"at_readout.{name}.{field}": getattr(found, field) for field in FIELDS}
    return own | {f"recorded.{name}.{side}": found.activations.of(side) for side in SIDES}


def from_tensors(probes: ProbeSet, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Directions:
    """The directions of a set again, from `described` and `to_tensors`."""
    name, items, place = probes.dimension, {item.id: item for item in probes}, {}
    place |= {"site": facts["site"], "layers": tuple(facts["layers"]), "roles": tuple(facts["roles"])}
    activations = Activations(
        probes=replace(probes, items=tuple(items[item] for item in facts["items"])),
        think=facts["think"],
        **place,
        **{side: tensors[f"recorded.{name}.{side}"] for side in SIDES},
    )
    own = {field: tensors[f"at_readout.{name}.{field}"] for field in FIELDS}
    return Directions(dimension=name, method=facts["method"], activations=activations, **place, **own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """Which of the instruct model's directions has an effect (`selection`), and, if one has, what removing it did: the
    rows, and the measurements of the unedited model."""

    selection: pd.DataFrame
    plan: SteeringPlan | None = None
    ablated: tuple[pd.DataFrame, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One dimension, once both models were recorded and the instruct model was followed along the thinking."""

    drift: pd.DataFrame
    cones: pd.DataFrame
    at_readout: Directions
    directions: Mapping[Side, Tensor]
    readout_states: Mapping[Side, Tensor]
    reading: ThinkingReading | None
    projected: Float[np.ndarray, "prompt position"] | None
    steering: Steering | None


def compare_dimension(pair: Pair, plan: AuditPlan, answers: RunAnswers, name: str, folder: Path) -> Compared:
    """Everything that needs the instruct model, for one dimension."""
    activations, states = record_and_join(pair, answers, name, folder)
    found = find_directions(activations, seed=plan.seed)
    drift = compare_directions(found, seed=plan.seed).frame
    some = plan.sets[name].sample(plan.size.thinking, plan.seed)
    reading = plan_table(some, answers.completions(name, "reasoning"), found, drift)
    compared = Compared(
        drift=drift,
        cones=direction_cones(found, seed=plan.seed),
        at_readout=at_roles(found, READOUT_ROLE),
        directions={side: found.of(side) for side in SIDES},
        readout_states=states,
        reading=reading,
        projected=reading.project_side(pair, "instruct") if reading else None,
        steering=select_and_ablate(pair, plan, answers, found) if name == STEERED and plan.size.steered else None,
    )
    give_back_memory()
    return compared


def thinking_part(pair: Pair, plan: AuditPlan, compared: Compared) -> pd.DataFrame:
    """One dimension's rows along the thinking, with the reasoning model's own projections; none where too few items
    thought to an end."""
    reading, before = compared.reading, compared.projected
    if reading is None or before is None:
        return pd.DataFrame(columns=[*TABLE_COLUMNS])
    values = {"instruct": before, "reasoning": reading.project_side(pair, "reasoning")}
    return thinking_rows(reading.summarise(values, seed=plan.seed), compared.drift)


# What is recorded.


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One model's activations of the items that directions are found on, and the readout states of all items, in the
    set's order."""

    activations: SideActivations
    states: Float[Tensor, "prompt d_model"]


def record_reasoning_model(pair: Pair, answers: RunAnswers, folder: Path) -> None:
    """Write its activations and readout states, a file per dimension."""
    for name, probes in answers.sets.items():
        found = record(pair, "reasoning", probes, answers.completions(name, "instruct"))
        tensors = {"activations": found.activations.of(SITE).contiguous(), "states": found.states}
        save_file(tensors, folder / f"{name}.safetensors")


def record_and_join(
    pair: Pair, answers: RunAnswers, name: str, folder: Path
) -> tuple[Activations, Mapping[Side, Tensor]]:
    """One dimension in both models: the instruct model is recorded now, the reasoning model was before."""
    probes, given = answers.sets[name], answers.completions(name, "instruct")
    before, stored = record(pair, "instruct", probes, given), load_file(folder / f"{name}.safetensors")
    after = replace(before.activations, sites={SITE: stored["activations"]})
    complete, _ = items_to_compare(probes, given)
    activations = join_sides(complete, {"instruct": before.activations, "reasoning": after}, SITE)
    return activations, {"instruct": before.states, "reasoning": stored["states"]}


def record(pair: Pair, side: Side, probes: ProbeSet, answers: Completions) -> Recorded:
    """One model's activations at the roles that directions are compared at, on the instruct model's answers."""
    complete, roles = items_to_compare(probes, answers)
    given = answers if "answer" in roles else None
    recorded = collect_side(pair, complete, side, site=SITE, roles=roles, answers=given, readout=True)
    missing = replace(probes, items=tuple(item for item in probes if item not in complete.items))
    states = recorded.readout
    if missing.items:
        others = collect_side(pair, missing, side, site=SITE, roles=("think_close[-1]",), layers=(0,), readout=True)
        place = {item.id: i for i, item in enumerate((*complete, *missing))}
        states = torch.cat([states, others.readout])[[place[item.id] for item in probes]]
    return Recorded(activations=replace(recorded, readout=None), states=states)


def items_to_compare(probes: ProbeSet, answers: Completions) -> tuple[ProbeSet, tuple[str, ...]]:
    """The items that directions are found on, and the roles.

    Twin pairs without two answers have no role `answer`, so they are left out. Where too few families would remain, the
    role is left out instead.
    """
    empty = {row.item_id for row in answers if not row.answer_ids}
    kept = tuple(item for item in probes if item.id not in empty and item.twin not in empty)
    complete = replace(probes, items=kept)
    return (probes, ROLES) if len(complete.families) < LEAST_FAMILIES else (complete, (*ROLES, "answer"))


# What directions do.


def select_and_ablate(pair: Pair, plan: AuditPlan, answers: RunAnswers, found: Directions) -> Steering:
    """Which of the instruct model's directions has an effect, and what removing it does in that model."""
    asked = {
        "pairs": plan.size.steered,
        "readout": answers.readout(found.dimension),
        "seed": plan.seed,
        "harmless": subset(everyday_set(load_everyday()), HARMLESS, plan.seed),
    }
    chosen = select_direction(pair, found, screen=CANDIDATES, **asked)
    limits = {
        name: getattr(chosen, name)
        for name in ("baseline_trigger", "baseline_neutral", "kl_at_most", "n_trigger", "n_neutral")
    }
    used = [(row.layer, row.role) == chosen.closest for row in chosen.frame.itertuples()]
    selection = chosen.frame.assign(dimension=found.dimension, reason=chosen.reason, used=used, **limits)
    if chosen.closest is None:
        return Steering(selection=selection)
    steering = plan_steering(found, chosen, strengths=STRENGTHS, **asked)
    return Steering(selection=selection, plan=steering, ablated=run_arm(pair, steering, "ablate"))


def steering_part(pair: Pair, steered: Steering) -> pd.DataFrame:
    """The rows of both arms: what removing the direction did, and what adding it does to the reasoning model."""
    if steered.plan is None or steered.ablated is None:
        return pd.DataFrame({"layer": []})
    rows, reference = steered.ablated
    added, _ = run_arm(pair, steered.plan, "add", reference)
    selection = steered.plan.selection
    curves = pd.concat([rows, added], ignore_index=True)
    return curves.assign(dimension=selection.dimension, eligible=selection.layer is not None)


STAGE = Stage(
    name="drift",
    what="directions inside both models are compared",
    files=(*(f"{name}.parquet" for name in TABLES), "directions.safetensors", "readout_states.safetensors"),
    run=compare_inside,
)
