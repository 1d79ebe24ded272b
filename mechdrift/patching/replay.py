"""Exact patch sweeps at the cost of a few forward passes: prefix reuse and the layer staircase.

A patch of the residual stream at layer l and position p changes nothing before p and nothing below l. So, for all cells of one
role, this engine

1. runs the recipient once and keeps each block's input, keyword arguments, and keys and values;
2. climbs the layers once. At layer l the copies patched there join the batch, each starting at the role's first position with
   the recipient's own residual, the donor's put in its place; all copies made so far go through block l together, with
   the recipient's keys and values standing in for the positions before;
3. unembeds the last position of every copy.

The blocks are the model's own modules, called with their own recorded arguments cut to the suffix, and a small object in place of
the cache that returns prefix plus new keys and values. So there is no code per model family. The numbers are those of one full
forward pass per cell (a test proves it for each family); the work is about L/2 · (T-p)/T of one pass per prompt and layer.

A batch is left-padded: the ends of all prompts stand in the same columns, and so do the roles after the user's text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from mechdrift.capture import Batch
from mechdrift.hooks import record_calls
from mechdrift.pairs import LanguageModel

ROWS_TIMES_TOKENS = 6144  # bounds the staircase's memory; it is split over prompts, which changes no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One recipient forward pass, kept for replay. `residual[layer]` is that block's input, `final` what is unembedded."""

    loaded: LanguageModel
    residual: tuple[Float[Tensor, "prompt pos d_model"], ...]
    final: Float[Tensor, "prompt d_model"]
    arguments: tuple[dict[str, Any], ...]
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    mask: Bool[Tensor, "prompt pos"]

    @property
    def n_layers(self) -> int:
        return len(self.arguments)


class _PrefixCache:
    """Stands in for a key-value cache: returns the recipient's prefix followed by the new keys and values."""

    def __init__(self, prefix: tuple[Tensor, Tensor]):
        self.prefix = prefix

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.prefix[0], keys], dim=2), torch.cat([self.prefix[1], values], dim=2)

    def get_seq_length(self, layer: int = 0) -> int:
        return self.prefix[0].shape[2]


@torch.inference_mode()
def run_recipient(loaded: LanguageModel, batch: Batch) -> Recipient:
    """Run the recipient over a left-padded batch and keep what a replay needs."""
    cache = DynamicCache()
    blocks = dict(enumerate(loaded.structure.blocks))
    device = loaded.device
    with record_calls(blocks) as calls:
        hidden = loaded.model.base_model(
            input_ids=batch.ids.to(device), position_ids=batch.positions.to(device), attention_mask=batch.mask.to(device),
            past_key_values=cache, use_cache=True,
        ).last_hidden_state  # fmt: skip
    return Recipient(
        loaded=loaded,
        residual=tuple(_hidden(calls[layer]) for layer in blocks),
        final=hidden[:, -1],
        arguments=tuple(calls[layer][1] for layer in blocks),
        keys_values=tuple((cache.layers[layer].keys, cache.layers[layer].values) for layer in blocks),
        mask=batch.mask.bool().to(device),
    )


def _hidden(call: tuple[tuple, dict[str, Any]]) -> Tensor:
    args, kwargs = call
    return args[0] if args else kwargs["hidden_states"]


@torch.inference_mode()
def sweep_layers(
    recipient: Recipient,
    start: int,
    patched: Callable[[int, Int[Tensor, " prompt"]], Float[Tensor, "prompt suffix d_model"]],
    layers: tuple[int, ...],
) -> Float[Tensor, "prompt layer d_model"]:
    """Final-norm residual at the last position of every prompt, for a patch at each of `layers`, which ascend.

    `patched(layer, prompts)` gives the residual entering block `layer` at columns `start:` with the patch in place.
    """
    prompts, width = recipient.mask.shape
    suffix = width - start
    at_once = max(1, ROWS_TIMES_TOKENS // (suffix * len(layers)))
    parts = [
        _climb(recipient, start, patched, layers, torch.arange(first, min(first + at_once, prompts)))
        for first in range(0, prompts, at_once)
    ]
    return torch.cat(parts)


def _climb(recipient: Recipient, start: int, patched: Callable, layers: tuple[int, ...], prompts: Tensor) -> Tensor:
    """One staircase: at each layer the newly patched copies join, and all copies go through the block together."""
    rows = torch.empty(0, dtype=torch.long)
    hidden: Tensor | None = None
    for layer in range(min(layers), recipient.n_layers):
        if layer in layers:
            new = patched(layer, prompts)
            hidden = new if hidden is None else torch.cat([hidden, new])
            rows = torch.cat([rows, prompts])
        assert hidden is not None
        hidden = run_block(recipient, layer, start, rows, hidden)
    assert hidden is not None
    final = recipient.loaded.structure.final_norm(hidden[:, -1])
    return final.view(len(layers), len(prompts), -1).transpose(0, 1)


def run_block(
    recipient: Recipient, layer: int, start: int, rows: Int[Tensor, " row"], hidden: Float[Tensor, "row suffix d_model"]
) -> Float[Tensor, "row suffix d_model"]:
    """Block `layer` over the suffix `start:` of copies of the prompts `rows`, the recipient's keys and values before it."""
    keys, values = recipient.keys_values[layer]
    cache = _PrefixCache((keys[rows, :, :start], values[rows, :, :start]))
    arguments = {name: _cut(name, value, start, rows, recipient) for name, value in recipient.arguments[layer].items()}
    arguments.pop("hidden_states", None)
    cache_name = "past_key_values" if "past_key_values" in arguments else "layer_past"
    arguments |= {cache_name: cache, "use_cache": True}
    if arguments.get("attention_mask") is None:
        arguments["attention_mask"] = causal_mask(recipient.mask[rows], start)
    out = recipient.loaded.structure.blocks[layer](hidden, **arguments)
    return out[0] if isinstance(out, tuple) else out


def causal_mask(mask: Bool[Tensor, "row pos"], start: int) -> Bool[Tensor, "row 1 suffix pos"]:
    """Which positions each suffix position sees: itself and the real ones before it."""
    width = mask.shape[1]
    seen = torch.ones(width, width, dtype=torch.bool, device=mask.device).tril()[start:]
    return seen[None, None] & mask[:, None, None]


def _cut(name: str, value: Any, start: int, rows: Tensor, recipient: Recipient) -> Any:
    """A recorded keyword argument, cut to the suffix and repeated for the copies; what has no positions passes through."""
    width = recipient.mask.shape[1]
    if isinstance(value, tuple) and value and all(isinstance(part, Tensor) for part in value):
        return tuple(_cut(name, part, start, rows, recipient) for part in value)
    if not isinstance(value, Tensor):
        return value
    if name == "attention_mask" and value.dim() == 4:
        return _pick(value, rows)[:, :, start:, :width]
    if value.dim() >= 2 and value.shape[1] == width:
        return _pick(value, rows)[:, start:]
    if value.dim() == 1 and value.shape[0] == width:
        return value[start:]
    return value


def _pick(value: Tensor, rows: Tensor) -> Tensor:
    return value if value.shape[0] == 1 else value[rows]
