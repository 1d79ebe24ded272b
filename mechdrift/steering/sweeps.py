"""Many interventions on the same prompts in few batched passes: the final states after each, `[setting, prompt,
d_model]`.

A *setting* is one thing to try: a direction to ablate, or a vector to add at a layer. The plain way is one forward pass
per setting and prompt. Two facts make it cheaper, and change no number:

    ablated_states   Rows of a batch are settings times prompts, each row with its own direction. Ablation acts from the
                     embedding on, so settings share nothing. But all prompts begin alike (system prompt, headers): each
                     setting runs these tokens once, and its prompts continue from their keys and values.
    steered_states   A vector added at layer l changes nothing below l. The prompts are run once, and then all settings
                     climb the layers once more, each joining at its own layer (the staircase of `patching.replay`): a
                     setting at layer l of L costs 1 - l/L of a pass.

Only the state at the readout position is kept: the last token before the answer, after the closed think block where
there is one.

`first_order` goes further and gives up exactness: one forward and one backward pass of the prompts say how much the
readout R would change, to first order, under *every* addition and ablation at once:

    adding w at layer l      sum over tokens of dR/dx_l . w
    ablating r everywhere    - sum over tokens and writes s (embedding, attention, MLP) of (dR/ds . r) (r . s)

On SmolLM2-135M with 168 candidates these estimates rank as the exact numbers do: Spearman .98 (adding) and .79
(ablating).
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from mechdrift.activations.batching import (
    Batch,
    ForwardBatch,
    check_padding,
    forward_batches,
    input_device,
    pad_id,
    padded_batches,
)
from mechdrift.hooks import edit, record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.structure import with_cache
from mechdrift.patching.cells import Cells, Group
from mechdrift.patching.replay import run_model, sweep_layers
from mechdrift.records import Rendered
from mechdrift.records.progress import progress
from mechdrift.steering.edits import WRITES, ablate, role_mask

TOKENS_AT_ONCE = 1024  # rows times tokens of one pass
PROMPTS_AT_ONCE = 8
# Tokens of one pass whose intermediate values are kept: 1.4 MB per token in a model of 135 million parameters.
TOKENS_WITH_GRADIENTS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A vector to add to the input of a layer, already multiplied by its strength."""

    layer: int
    vector: Float[Tensor, " d_model"]


@torch.inference_mode()
def ablated_states(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    directions: Float[Tensor, "setting d_model"],
    description: str = "Ablating",
) -> Float[Tensor, "setting prompt d_model"]:
    """The final states at each prompt's readout position with each direction ablated everywhere. The directions'
    lengths do not matter."""
    prompts = [prompt.before_answer for prompt in rendered]
    shared = _shared_start(prompts)
    settings = max(1, min(len(directions), TOKENS_AT_ONCE // max(1, shared)))
    out = torch.empty(len(directions), len(prompts), directions.shape[1])
    with progress(description, len(directions) * len(prompts)) as advance:
        for first in range(0, len(directions), settings):
            part = directions[first : first + settings]
            cache = _run_start(loaded, prompts[0].ids[:shared], part)
            at_once = max(1, TOKENS_AT_ONCE // len(part))
            rests = [prompt.ids[shared:] for prompt in prompts]
            for places, batch in padded_batches(rests, pad_id(loaded), tokens=at_once):
                out[first : first + len(part), places] = _continue_from(loaded, batch, shared, cache, part)
                advance(len(part) * len(places))
    return out


def _shared_start(prompts: Sequence[Rendered]) -> int:
    """The number of first tokens that all prompts share. Each prompt keeps at least one token of its own, to be run."""
    longest = min(len(prompt.ids) for prompt in prompts) - 1
    columns = zip(*(prompt.ids[:longest] for prompt in prompts), strict=True)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), longest)


def _run_start(loaded: LanguageModel, ids: Sequence[int], directions: Float[Tensor, "setting d_model"]) -> DynamicCache:
    """Keys and values of the shared tokens, one row per setting."""
    cache = DynamicCache()
    if ids:
        rows = torch.tensor([ids] * len(directions), device=input_device(loaded))
        with edit(ablate(loaded, directions)):
            loaded.decoder(rows, **with_cache(loaded.decoder, cache))
    return cache


def _continue_from(
    loaded: LanguageModel,
    batch: Batch,
    shared: int,
    cache: DynamicCache,
    directions: Float[Tensor, "setting d_model"],
) -> Float[Tensor, "setting prompt d_model"]:
    """The rest of some prompts under every setting, from the shared tokens' keys and values."""
    settings, count = len(directions), len(batch.ids)
    own = deepcopy(cache)
    if shared:
        own.batch_repeat_interleave(count)  # rows are setting by setting
    mask = torch.cat([torch.ones(count, shared, dtype=batch.mask.dtype), batch.mask], dim=1)
    arguments = {"input_ids": batch.ids, "position_ids": batch.positions + shared, "attention_mask": mask}
    arguments = {name: value.repeat(settings, 1).to(input_device(loaded)) for name, value in arguments.items()}
    with edit(ablate(loaded, directions.repeat_interleave(count, dim=0))):
        hidden = loaded.decoder(**arguments, **with_cache(loaded.decoder, own)).last_hidden_state
    last = (batch.mask.sum(dim=1) - 1).repeat(settings).to(hidden.device)
    states = hidden[torch.arange(len(hidden), device=hidden.device), last].float().cpu()
    return rearrange(states, "(setting prompt) d_model -> setting prompt d_model", setting=settings)


@torch.inference_mode()
def steered_states(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    additions: Sequence[Addition],
    roles: Sequence[str] | None = None,
    description: str = "Steering",
) -> Float[Tensor, "setting prompt d_model"]:
    """The final states at each prompt's readout position with each vector added, at all tokens or at those of some
    roles."""
    prompts = [prompt.before_answer for prompt in rendered]
    out = torch.empty(len(additions), len(prompts), loaded.structure.d_model)
    with progress(description, len(additions) * len(prompts)) as advance:
        for each in forward_batches(loaded, prompts, prompts=PROMPTS_AT_ONCE, side="left"):
            tokens = each.batch.mask.bool() if roles is None else role_mask(each.prompts, each.batch, roles)
            check_padding(loaded, each.batch)
            run = run_model(loaded, each.batch)
            groups = [
                Group(prompt=row, start=int(chosen.nonzero()[0]), stop=int(chosen.nonzero()[-1]) + 1, end=run.width)
                for row, chosen in enumerate(tokens)
            ]
            for climb in _climbs(additions):
                vectors = {additions[i].layer: additions[i].vector for i in climb}

                def steered(
                    layer: int, at: Group, vectors=vectors, run=run, tokens=tokens
                ) -> Float[Tensor, "span d_model"]:
                    own, here = (
                        run.residual[layer][at.prompt, at.start : at.stop],
                        tokens[at.prompt, at.start : at.stop, None],
                    )
                    return (own.float() + here.to(own.device) * vectors[layer].to(own.device).float()).to(own.dtype)

                states = sweep_layers(run, groups, Cells(site="resid_pre", layers=tuple(vectors)), steered)[:, :, 0]
                out[torch.tensor(climb)[:, None], torch.tensor(each.places)] = states.transpose(0, 1).float().cpu()
                advance(len(climb) * len(each.places))
    return out


def _climbs(additions: Sequence[Addition]) -> Iterator[list[int]]:
    """Indices of additions, grouped into staircases. The layers of a staircase ascend, and each occurs once."""
    waiting = sorted(range(len(additions)), key=lambda i: additions[i].layer)
    while waiting:
        climb: list[int] = []
        for index in waiting:
            if not climb or additions[index].layer > additions[climb[-1]].layer:
                climb.append(index)
        waiting = [index for index in waiting if index not in climb]
        yield climb


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOrder:
    """Estimated changes of each prompt's value under each candidate `[layer, role]`."""

    added: Float[Tensor, "prompt layer role"]
    ablated: Float[Tensor, "prompt layer role"]


def first_order(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    vectors: Float[Tensor, "layer role d_model"],
    layers: Sequence[int],
    value: Callable[[Float[Tensor, " vocab"], str], Float[Tensor, ""]],
) -> FirstOrder:
    """How much `value(logits, item_id)` at each readout position would change, to first order; see the module's
    text."""
    prompts = [prompt.before_answer for prompt in rendered]
    shape = len(prompts), *vectors.shape[:2]
    added, ablated = torch.zeros(shape), torch.zeros(shape)
    units = torch.nn.functional.normalize(vectors, dim=-1).flatten(0, 1)
    for each in forward_batches(loaded, prompts, tokens=TOKENS_WITH_GRADIENTS):
        for (site, layer), (seen, gradient) in _gradients(each, value).items():
            if site == "resid_pre" and layer in layers:
                index = list(layers).index(layer)
                added[each.places, index] = gradient.sum(dim=1) @ vectors[index].T
            if site != "resid_pre" or layer == 0:
                change = ((seen @ units.T) * (gradient @ units.T)).sum(dim=1)
                ablated[each.places] -= change.view(len(each.places), *shape[1:])
    return FirstOrder(added=added, ablated=ablated)


def _gradients(each: ForwardBatch, value: Callable) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """What each write adds to the stream, and the gradient of the prompts' summed values there; both in float32 on the
    CPU, and zero at padding."""
    loaded = each.loaded
    points = {
        (site, layer): loaded.structure.hook_point(site, layer) for layer in range(loaded.n_layers) for site in WRITES
    }
    with (
        edit({points["resid_pre", 0]: lambda x: x.detach().requires_grad_()}),
        record(points) as seen,
        torch.enable_grad(),
    ):
        hidden = each.run()
        states = torch.stack([hidden[row, prompt.readout_position] for row, prompt in enumerate(each.prompts)])
        logits = loaded.structure.logits(states).float()
        total = torch.stack(
            [value(row, prompt.item_id) for row, prompt in zip(logits, each.prompts, strict=True)]
        ).sum()
        gradients = torch.autograd.grad(total, [seen[place] for place in points])
    mask = each.batch.mask[..., None].float()
    return {
        place: (seen[place].detach().float().cpu() * mask, gradient.float().cpu() * mask)
        for place, gradient in zip(points, gradients, strict=True)
    }
