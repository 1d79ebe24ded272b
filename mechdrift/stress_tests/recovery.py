"""What brings the readout back that an attack took: the plain run's activations, or the direction.

    patch   the child under the attack, with one activation of its own plain run put in at one layer and role. Where
            the readout comes back, the attack's effect passes. (The causal test of `patching`, with the plain run of
            the same model as the donor.)
    undo    the readout while the direction is added at its layer, at every token, in units of the instruct model's
            class difference

    recovery = (readout changed - readout attacked) / (readout plain - readout attacked), on means over triggers

The readout is the log-odds of opening an answer as a trigger calls for (`activations.readouts`), after the thinking.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import ForwardBatch
from mechdrift.activations.readouts import Readout, measure, readout_logits, readout_states, unembed
from mechdrift.activations.recording import record_roles
from mechdrift.directions.thinking import READOUT_ROLE
from mechdrift.hooks import edit
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.roles import role_span
from mechdrift.records import Directions, Rendered
from mechdrift.steering.edits import steer
from mechdrift.stress_tests.teacher_forced import BothPrompts

PATCHED = ("user", "template_tail[-1]", "think[-1]", READOUT_ROLE)


def _before_answers(runs: BothPrompts) -> tuple[list[Rendered], list[Rendered]]:
    """The triggers' prompts up to where the answer is decided, plain and attacked."""
    chosen = [place for place, item in enumerate(runs.probes) if item.is_trigger]
    plain, attack = ([prompts[place].before_answer for place in chosen] for prompts in (runs.plain, runs.attack))
    return plain, attack


def _read(loaded: LanguageModel, prompts: Sequence[Rendered], readout: Readout) -> float:
    logits = readout_logits(loaded, prompts)
    return float(measure(readout, logits, [prompt.item_id for prompt in prompts]).mean())


def patched(loaded: LanguageModel, runs: BothPrompts, layers: Sequence[int]) -> pd.DataFrame:
    """Recovery per layer and role: the plain run's activation put into the attacked run at that role's last token."""
    plain, attack = _before_answers(runs)
    has = set.intersection(*(set(prompt.roles) for prompt in (*plain, *attack)))
    roles = [role for role in PATCHED if role.partition("[")[0] in has]
    lasts = [role if "[" in role else f"{role}[-1]" for role in roles]
    donor = record_roles(loaded, plain, "resid_pre", tuple(layers), lasts).roles
    before, after = _read(loaded, attack, runs.readout), _read(loaded, plain, runs.readout)
    rows = []
    for place, layer in enumerate(layers):
        for column, role in enumerate(lasts):
            value = _read_patched(loaded, attack, runs.readout, layer, role, donor[:, place, column])
            rows.append({"layer": layer, "role": role, **_recovery(value, before, after)})
    return pd.DataFrame(rows)


def _read_patched(
    loaded: LanguageModel,
    prompts: Sequence[Rendered],
    readout: Readout,
    layer: int,
    role: str,
    vectors: Float[Tensor, "prompt d_model"],
) -> float:
    states = readout_states(loaded, prompts, partial(_patch_of, layer, role, vectors))
    return float(measure(readout, unembed(loaded, states), [prompt.item_id for prompt in prompts]).mean())


def _patch_of(
    layer: int, role: str, vectors: Float[Tensor, "prompt d_model"], each: ForwardBatch
) -> AbstractContextManager[None]:
    """Inside the block, each prompt of a batch has its vector at a role's position of one layer."""
    point = each.loaded.structure.hook_point("resid_pre", layer)
    positions = [
        offset + role_span(prompt, role)[0] for prompt, offset in zip(each.prompts, each.batch.offsets, strict=True)
    ]
    return edit({point: partial(_put, torch.tensor(positions), vectors[each.places])})


def _put(
    positions: Tensor, vectors: Float[Tensor, "prompt d_model"], stream: Float[Tensor, "prompt pos d_model"]
) -> Tensor:
    new = stream.clone()
    new[torch.arange(len(positions)), positions] = vectors.to(stream)
    return new


def undone(
    loaded: LanguageModel, runs: BothPrompts, directions: Directions, layer: int, strengths: Sequence[float]
) -> pd.DataFrame:
    """Recovery per strength, while the direction is added at its layer, at every token."""
    plain, attack = _before_answers(runs)
    place = directions.layers.index(layer), directions.roles.index(READOUT_ROLE)
    unit = directions.instruct[place]
    recorded = directions.activations
    along = recorded.instruct[:, place[0], place[1]] @ unit
    size = along[recorded.is_trigger].mean() - along[~recorded.is_trigger].mean()
    before, after = _read(loaded, attack, runs.readout), _read(loaded, plain, runs.readout)
    rows = []
    for strength in strengths:
        with edit(steer(loaded, unit * size, layer=layer, strength=strength)):
            value = _read(loaded, attack, runs.readout)
        rows.append({"strength": strength, **_recovery(value, before, after)})
    return pd.DataFrame(rows)


def _recovery(value: float, before: float, after: float) -> dict[str, float]:
    """The effect in log-odds, and as a share of what the attack took."""
    gap = after - before
    return {"effect": value - before, "recovery": (value - before) / gap if gap else np.nan}
