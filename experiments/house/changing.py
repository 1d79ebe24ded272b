"""What is changed inside models: patches, grafts, attribution, steering, edits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from build import Inputs, Numbers, module


def measure_patching(found: Numbers, given: Inputs, cases: Mapping[str, dict[str, Any]]) -> None:
    import mechdrift as md

    for name, how in cases.items():
        grid = md.patch(given.pair, given.probes, **_with_answers(given, how))
        where = f"{given.setting}, {name}"
        for field in ("effect", "recipient_readout", "donor_readout", "recovery"):
            found.add("patching", f"patch: {field}", getattr(grid, field), where)
        found.add("patching", "patch: roles and engine", [*grid.roles, grid.engine], where)


def _with_answers(given: Inputs, how: Mapping[str, Any]) -> dict[str, Any]:
    think = how.get("think", "off")
    return dict(how) | ({"answers": given.answers} if think in ("own", "donor") else {})


def patch_cases(along: torch.Tensor) -> dict[str, dict[str, Any]]:
    """Every way to patch, by name."""
    few = {"roles": ("user", "template_tail[-1]")}
    return {
        "resid_pre": {"roles": ("user", "template_tail[0]", "template_tail[-1]")},
        "resid_pre, into the parent": {"donor": "reasoning", "recipient": "instruct", **few},
        "attn_out": {"site": "attn_out", **few},
        "mlp_out": {"site": "mlp_out", **few},
        "z by head": {"site": "z", "heads": "all", "roles": ("template_tail[-1]",)},
        "up_to": {"windows": "up_to", "roles": ("all",)},
        "from": {"windows": "from", "roles": ("all",)},
        "along": {"along": along, **few},
        "across": {"across": along, **few},
        "twin": {"source": "twin", **few},
        "unrelated": {"source": "unrelated", "roles": ("template_tail[-1]",)},
        "random": {"source": "random", **few},
        "own thinking": {"think": "own", "roles": ("think[quarters]", "think_close")},
        "donor's thinking": {"think": "donor", "donor": "reasoning", "recipient": "instruct", **few},
        "forward": {"engine": "forward", "layers": (1, 2), **few},
    }


def measure_grids(found: Numbers, given: Inputs) -> None:
    """What is made of grids: inference, both ways, increments, summaries."""
    import mechdrift as md

    ways = (("instruct", "reasoning"), ("reasoning", "instruct"))
    grids = [md.patch(given.pair, given.probes, donor=a, recipient=b, roles=("all",)) for a, b in ways]
    inference = grids[0].inference(draws=200)
    for name in ("frame", "peak", "centre"):
        found.add("patching", f"inference: {name}", getattr(inference, name), given.setting)
    found.add("patching", "increments", grids[0].increments().effect, given.setting)
    found.add("patching", "grid's frame", grids[0].frame, given.setting)
    found.add("patching", "both_ways", md.both_ways(*grids), given.setting)
    checked = pd.Series({"reliable": True, "auroc": 0.9, "low": 0.8, "high": 0.95})
    summary = module("summaries").summarise_both_ways(grids, checked, seed=0)
    found.add("patching", "summarise_both_ways", summary, given.setting)


def measure_attribution(found: Numbers, given: Inputs) -> None:
    import mechdrift as md

    cases = {
        "first order": {"roles": ("user", "template_tail[-1]")},
        "integrated": {"roles": ("template_tail[-1]",), "steps": 3},
        "z by head": {"site": "z", "heads": "all", "roles": ("template_tail[-1]",)},
        "verified": {"site": "mlp_out", "roles": ("user", "template_tail[0]"), "verify": 3},
    }
    for name, how in cases.items():
        grid, where = md.attribute(given.pair, given.probes, **how), f"{given.setting}, {name}"
        found.add("patching", "attribute: effect", grid.effect, where)
        found.add("patching", "attribute: readouts", grid.recipient_readout, where)
        if grid.verification is not None:
            found.add("patching", "attribute: verification", grid.verification.frame, where)
            found.add("patching", "attribute: missed at most", grid.verification.missed_at_most, where)


def measure_grafts(found: Numbers, given: Inputs) -> None:
    import mechdrift as md

    cases: dict[str, dict[str, Any]] = {
        "layers": {"modules": "layer"},
        "up_to": {"modules": ("layer", "mlp"), "windows": "up_to"},
        "from": {"windows": "from"},
        "to_next": {"windows": "to_next", "layers": (0, 2)},
        "modules": {"modules": ("attn", "mlp", "norms")},
        "shares": {"modules": ("mlp",), "shares": (0.25, 0.5, 1.0)},
        "forward": {"modules": ("attn",), "engine": "forward"},
        "into the parent": {"donor": "reasoning", "recipient": "instruct"},
    }
    for name, how in cases.items():
        grid, where = md.graft(given.pair, given.probes, **how), f"{given.setting}, {name}"
        found.add("patching", "graft: effect", grid.effect, where)
        found.add("patching", "graft: readouts", np.stack([grid.recipient_readout, grid.donor_readout]), where)


def measure_decomposition(found: Numbers, given: Inputs) -> None:
    import mechdrift as md

    parts = md.decompose(given.pair, given.probes, answers=given.answers, roles=("user", "think_close"))
    for name in ("activations", "thinking", "both", "interaction"):
        found.add("patching", f"decompose: {name}", getattr(parts, name), given.setting)
    found.add("patching", "decompose: table", parts.frame, given.setting)


# Steering and edits


def measure_steering(found: Numbers, given: Inputs, directions: Any) -> None:
    import mechdrift as md

    chosen = md.select_direction(given.pair, directions, pairs=6)
    found.add("steering", "select_direction: vectors", chosen.vectors, given.setting)
    found.add("steering", "select_direction", chosen.frame, given.setting)
    kept = ("layer", "role", "baseline_trigger", "baseline_neutral")
    found.add("steering", "select_direction: chosen", [str(chosen.facts[name]) for name in kept], given.setting)
    found.add("steering", "select_direction: families", [str(chosen.families)], given.setting)
    curves = md.steer_back(given.pair, directions, chosen, strengths=(0.5, 2.0), controls=2, pairs=6, tasks=4)
    found.add("steering", "steer_back", curves.frame, given.setting)
    found.add("steering", "steer_back: recovery", curves.recovery, given.setting)
    masked = md.steer_back(given.pair, directions, chosen, strengths=(1.0,), controls=1, pairs=6, roles=("user",))
    found.add("steering", "steer_back", masked.frame, f"{given.setting}, user's tokens")


def measure_sweeps(found: Numbers, given: Inputs, directions: Any) -> None:
    sweeps, selection = module("sweeps"), module("selection")
    loaded, rendered = given.pair.open("reasoning"), given.rendered()
    vectors = directions.instruct[:, -1]
    found.add("steering", "ablated_states", sweeps.ablated_states(loaded, rendered, vectors[1:]), given.setting)
    additions = [sweeps.Addition(layer=layer, vector=2 * vectors[layer]) for layer in (1, 2, 2)]
    for roles in (None, ("user",)):
        states = sweeps.steered_states(loaded, rendered, additions, roles)
        found.add("steering", "steered_states", states, f"{given.setting}, {roles}")
    readout = given.readout
    first = sweeps.first_order(loaded, rendered, directions.instruct, directions.layers, readout.log_odds)
    found.add("steering", "first_order", {"added": first.added, "ablated": first.ablated}, given.setting)
    readouts = module("readouts")
    before, after = (readouts.readout_logits(given.pair.open(side), rendered) for side in ("instruct", "reasoning"))
    found.add("steering", "next_token_kl", selection.next_token_kl(before, after), given.setting)


@torch.inference_mode()
def measure_edits(found: Numbers, given: Inputs, directions: Any) -> None:
    import mechdrift as md

    loaded, rendered = given.pair.open("instruct"), given.thought
    vector = directions.instruct[2, -1]
    batch = module("batching").pad([prompt.ids for prompt in rendered], 0)
    mask = md.role_mask(rendered, batch, ("think", "answer[0]"))
    found.add("edits", "role_mask", mask, given.setting)
    edits = {
        "nothing": {},
        "ablate": md.ablate(loaded, vector),
        "ablate at two layers": md.ablate(loaded, {1: vector, 2: directions.instruct[1, -1]}),
        "ablate the thinking": md.ablate(loaded, vector, where=mask),
        "steer": md.steer(loaded, vector, layer=1, strength=3.0),
        "steer the thinking": md.steer(loaded, vector, layer=(1, 3), strength=-2.0, where=mask),
        "steer at mlp_out": md.steer(loaded, vector, layer=2, site="mlp_out"),
    }
    for name, made in edits.items():
        with md.edit(made):
            found.add("edits", "logits", _logits(loaded, batch, rendered), f"{given.setting}, {name}")
    if given.setting == "llama":  # the others norm what they write, or have their weights elsewhere
        copy = md.orthogonalise(loaded, vector)
        found.add("edits", "orthogonalise: logits", _logits(copy, batch, rendered), given.setting)
        found.add("edits", "orthogonalise: weights", copy.model.model.embed_tokens.weight, given.setting)


def _logits(loaded: Any, batch: Any, rendered: Sequence[Any]) -> torch.Tensor:
    """The logits at the end of each prompt."""
    logits = loaded.model(**batch.forward_arguments(loaded.device), use_cache=False).logits
    return torch.stack([row[len(prompt.ids) - 1] for row, prompt in zip(logits, rendered, strict=True)])
