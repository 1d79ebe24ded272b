"""ProCon: train on the child's own reasoning while its projections on the parent's direction are pulled back.

    loss = cross-entropy of the child's own right answers + s · mean (p - q)²

p and q are the projections of child and parent at the readout position of seen triggers and twins, at the steered
layer, in units of the parent's class difference. The paper holds projections where they were while a model is tuned; a
child that was tuned already is brought back to where its parent's are.

https://arxiv.org/abs/2509.06795
"""

import torch

from mechdrift.activations.prompts import render_probes
from mechdrift.repairs.evidence import SITE, Evidence
from mechdrift.repairs.record import Repair
from mechdrift.repairs.training import Penalty, Recipe

HELD = 16  # prompts, half of them triggers


def hold_projections(evidence: Evidence, strength: float) -> Recipe:
    name, layer = evidence.steered
    directions = evidence.directions[name]
    place, items = directions.layers.index(layer), directions.activations.probes.items
    order = [*(n for n, item in enumerate(items) if item.is_trigger)][: HELD // 2]
    order += [*(n for n, item in enumerate(items) if not item.is_trigger)][: HELD // 2]
    unit = directions.instruct[place, 0]
    rendered = render_probes(evidence.pair, directions.activations.probes, "off", None)
    penalty = Penalty(
        prompts=tuple(rendered[n] for n in order),
        site=SITE,
        layer=layer,
        unit=unit,
        targets=torch.stack([directions.activations.instruct[n, place, 0] @ unit for n in order]),
        scale=float(directions.norm_instruct[place, 0]),
        weight=strength,
    )
    return Recipe(rows=evidence.own_tasks, penalty=penalty)


PROCON = Repair(
    name="procon",
    title="Projections held (ProCon)",
    paper="https://arxiv.org/abs/2509.06795",
    about="Trains on the child's own reasoning while its projections are pulled to the parent's.",
    needs=("parent", "probes", "answers", "gradients"),
    strengths=(1.0, 4.0),
    limits=(0.0, 100.0),
    dose="weight of the penalty",
    data=hold_projections,
)
