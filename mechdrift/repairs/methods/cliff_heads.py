"""Refusal-cliff heads: turn down the attention heads that suppress refusal at the end of thinking.

    c(head) = mean over triggers - mean over neutral twins of  (W_o z_head) · r,   at the end of the closed think block

z is what the head gives, r the parent's direction after the head's block. Heads with the most negative c write against
the judgement just where the answer is decided; 3 % of all heads, the paper's share, are multiplied by 1 - s while the
model thinks and answers. No head with c above zero is touched.

"Refusal falls off a cliff": https://arxiv.org/abs/2510.06036.
"""

import pandas as pd
import torch

from mechdrift.activations.one_model import collect_one
from mechdrift.directions.thinking import READOUT_ROLE, closed_twins
from mechdrift.records import MechdriftError
from mechdrift.repairs.editing import Editing, Place
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair

SHARE = 0.03


def turn_heads_down(evidence: Evidence, strength: float) -> Editing:
    contributions = head_contributions(evidence)
    count = max(1, round(SHARE * len(contributions)))
    chosen = contributions[contributions < 0].sort_values().index[:count]
    if not len(chosen):
        raise MechdriftError("no attention head writes against the parent's direction at the end of thinking.")
    loaded = evidence.pair.open("reasoning", "float32")
    places = []
    for layer in sorted({layer for layer, _ in chosen}):
        width = loaded.structure.hook_point("attn.o.hook_out", layer).module.get_parameter("weight").shape[1]
        factors = torch.ones(loaded.structure.n_heads, width // loaded.structure.n_heads)
        factors[[head for at, head in chosen if at == layer]] = 1 - strength
        places.append(Place(site="z", layer=layer, rule="scale", tensors={"factors": factors.flatten()}))
    return Editing(places=tuple(places), roles=("think", "answer"))


def head_contributions(evidence: Evidence) -> pd.Series:
    """c by layer and head, in units of the residual stream."""
    name, _ = evidence.steered
    assert evidence.answers is not None  # the method says that it needs them
    probes, _ = closed_twins(evidence.sets[name], evidence.answers.completions(name, "reasoning"))
    if {item.contrast for item in probes} != {"trigger", "neutral"}:
        raise MechdriftError(f"too few thoughts about {name} were closed to look at their end: give a larger budget.")
    answers = evidence.answers.completions(name, "reasoning").of(probes)
    loaded = evidence.pair.open("reasoning", "float32")
    heads = collect_one(loaded, probes, sites="z", roles=(READOUT_ROLE,), think="own", answers=answers).heads()
    is_trigger = torch.tensor([item.is_trigger for item in probes])
    difference = heads[is_trigger].mean(dim=0) - heads[~is_trigger].mean(dim=0)  # [layer, 1, head, d_head]
    found = {}
    for layer in range(loaded.n_layers):
        weight = (
            loaded.structure.hook_point("attn.o.hook_out", layer).module.get_parameter("weight").detach().float().cpu()
        )
        towards = (evidence.directions[name].instruct[layer, 0] @ weight).view(loaded.structure.n_heads, -1)
        found |= {(layer, head): float(c) for head, c in enumerate((difference[layer, 0] * towards).sum(dim=-1))}
    return pd.Series(found)


CLIFF_HEADS = Repair(
    name="cliff-heads",
    title="Refusal-cliff heads turned down",
    paper="https://arxiv.org/abs/2510.06036",
    about="Turns down the attention heads that write against the judgement at the end of thinking.",
    needs=("parent", "probes", "answers"),
    strengths=(0.5, 1.0),
    limits=(0.0, 2.0),
    dose="how far the heads are turned down",
    edit=turn_heads_down,
)
