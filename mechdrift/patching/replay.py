"""Exact patch sweeps at the cost of a few forward passes: one staircase for all cells, and nothing computed twice.

A patch at layer l and position p changes nothing before p and nothing below l. So this engine

1. runs the recipient once and keeps each block's input and arguments, and each attention's keys, values and mask;
2. climbs the layers once. At layer l the copies patched there join: each holds the recipient's residual from its first
   patched position to the end of its prompt, and while block l runs, the same hooks that would patch a full pass put
   the donor's values in, at any site. All copies so far, of all prompts and roles, are concatenated in one long row, so
   that no position is padded, and every matrix of the block is multiplied once per layer;
3. separates the copies in the attention alone (`shared_prefix`);
4. returns the last position of every copy, before it is unembedded.

The blocks are the model's own modules with their own recorded arguments, and attention is replaced through
transformers' own interface: there is no code per model family. The numbers are those of one full forward pass per cell
(a test proves it for each family). With L layers, prompts of T tokens and a patch at position p, the work is
(L+1)/2L · (T-p)/T of that.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechdrift.activations.batching import Batch, forward
from mechdrift.hooks import Attention, HookPoint, edit, record, record_calls, replace_attention
from mechdrift.pairs.loading import LanguageModel
from mechdrift.patching.cells import Cells, Donated, Group
from mechdrift.patching.shared_prefix import Attended, SharedPrefix

TOKENS_AT_ONCE = 1536  # bounds the staircase's memory: larger ones are split, which changes no number


class NotReplayable(Exception):
    """This model does something between its blocks or in its attention that a replay cannot see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardTrace:
    """One forward pass, kept for replay. `residual[layer]` is a block's input, `hidden` the output of the final
    norm."""

    loaded: LanguageModel
    batch: Batch
    residual: tuple[Float[Tensor, "prompt pos d_model"], ...]
    hidden: Float[Tensor, "prompt pos d_model"]
    arguments: tuple[dict[str, Any], ...]
    attended: tuple[Attended, ...]
    recorded: Mapping[int, Float[Tensor, "prompt pos width"]]

    @property
    def n_layers(self) -> int:
        return len(self.arguments)

    @property
    def width(self) -> int:
        return self.batch.ids.shape[1]


@torch.inference_mode()
def run_model(
    loaded: LanguageModel, batch: Batch, points: Mapping[int, HookPoint] = MappingProxyType({})
) -> ForwardTrace:
    """Run a padded batch and keep what a replay needs, and in `recorded` the values at `points`, by layer.

    Raises `NotReplayable` where the attention of a block was not seen.
    """
    attended: list[Attended] = []

    def watch(
        own: Attention, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
    ):
        attended.append(Attended(keys=key, values=value, mask=mask))
        return own(module, query, key, value, mask, **kwargs)

    blocks = dict(enumerate(loaded.structure.blocks))
    with replace_attention(loaded.model, watch), record_calls(blocks) as calls, record(points) as recorded:
        hidden = forward(loaded, batch)
    if len(attended) != loaded.n_layers:
        raise NotReplayable(f"{len(attended)} attentions were seen in {loaded.n_layers} blocks")
    arguments = tuple(_by_name(block, calls[layer]) for layer, block in blocks.items())
    return ForwardTrace(
        loaded=loaded,
        batch=batch,
        hidden=hidden,
        attended=tuple(attended),
        recorded=recorded,
        residual=tuple(given.pop("hidden_states") for given in arguments),
        arguments=arguments,
    )


def _by_name(block: nn.Module, call: tuple[tuple, dict[str, Any]]) -> dict[str, Any]:
    """All that a block was called with, by name; some models pass their mask by its place alone. What comes first is
    called `hidden_states`."""
    args, kwargs = call
    names = ("hidden_states", *list(inspect.signature(block.forward).parameters)[1:])
    return dict(zip(names, args, strict=False)) | kwargs


@torch.inference_mode()
def sweep_layers(
    run: ForwardTrace, groups: Sequence[Group], cells: Cells, donated: Donated
) -> Float[Tensor, "group layer head d_model"]:
    """The final state at the last position, for each group patched at each of the layers (and heads) of `cells`."""
    finals = torch.empty(len(groups), len(cells.layers), cells.heads_at_once, run.loaded.structure.d_model).to(
        run.hidden
    )
    sizes = [group.suffix * cells.heads_at_once for group in groups]
    for some, layers in _parts(sizes, len(cells.layers)):
        finals[some, layers] = _climb(run, groups[some], replace(cells, layers=cells.layers[layers]), donated)
    return finals


def _parts(sizes: Sequence[int], n_layers: int) -> Iterator[tuple[slice, slice]]:
    """Slices of groups and of layers whose copies have at most `TOKENS_AT_ONCE` tokens together (or are those of one
    group and layer)."""
    first = 0
    while first < len(sizes):
        stop, tokens = first + 1, sizes[first] * n_layers
        while stop < len(sizes) and tokens + sizes[stop] * n_layers <= TOKENS_AT_ONCE:
            tokens += sizes[stop] * n_layers
            stop += 1
        step = min(n_layers, max(1, TOKENS_AT_ONCE // sizes[first])) if stop == first + 1 else n_layers
        yield from ((slice(first, stop), slice(layer, layer + step)) for layer in range(0, n_layers, step))
        first = stop


def _climb(
    run: ForwardTrace, groups: Sequence[Group], cells: Cells, donated: Donated
) -> Float[Tensor, "group layer head d_model"]:
    """One staircase: at each layer the newly patched copies join, and all copies go through the block together.

    Each group's copies are ordered by layer, then by head. For the windows `up_to`, the first copies are a trunk that
    is patched in every layer; the copy of layer l branches off after block l.
    """
    heads, trunk = cells.heads_at_once, cells.windows == "up_to"
    copies = [run.residual[0].new_empty(0, group.suffix, run.loaded.structure.d_model) for group in groups]
    for layer in range(0 if trunk else cells.layers[0], run.n_layers):
        if layer == 0 if trunk else layer in cells.layers:
            own = [run.residual[layer][group.prompt, group.start : group.end].expand(heads, -1, -1) for group in groups]
            copies = [torch.cat(pair) for pair in zip(copies, own, strict=True)]
        count = len(copies[0])
        patched = {
            "each": range(count - heads, count) if layer in cells.layers else range(0),
            "from": range(count),
            "up_to": range(heads),
        }
        copies = run_block(run, layer, groups, copies, cells, donated, patched[cells.windows])
        if trunk and layer in cells.layers:
            copies = [torch.cat([copy, copy[:heads]]) for copy in copies]
    final = run.loaded.structure.final_norm(torch.stack([copy[heads * trunk :, -1] for copy in copies]))
    return final.unflatten(1, (-1, heads))


def run_block(
    run: ForwardTrace,
    layer: int,
    groups: Sequence[Group],
    copies: Sequence[Float[Tensor, "copy _ d_model"]],
    cells: Cells,
    donated: Donated,
    patched: range,
) -> list[Float[Tensor, "copy _ d_model"]]:
    """Run block `layer` over all copies, concatenated in one row; the `patched` copies of each group get the donor's
    values."""
    count = len(copies[0])
    prompts, columns = _places(run, groups, count)
    arguments = {name: _pick(value, prompts, columns, run) for name, value in run.arguments[layer].items()}
    edits = {}
    if patched:
        edits = cells.edits(run.loaded.structure, layer, _putter(layer, groups, count, cells, donated, patched))
    offsets = run.batch.offsets
    attention = SharedPrefix(offsets=offsets, attended=run.attended[layer], groups=groups, count=count)
    with (
        replace_attention(run.loaded.model, attention),
        edit(edits),
    ):
        out = run.loaded.structure.blocks[layer](torch.cat([copy.flatten(0, 1) for copy in copies])[None], **arguments)
    parts = (out[0] if isinstance(out, tuple) else out)[0].split([count * group.suffix for group in groups])
    return [part.unflatten(0, (count, -1)) for part in parts]


def _putter(
    layer: int, groups: Sequence[Group], count: int, cells: Cells, donated: Donated, patched: range
) -> Callable[[Tensor], Tensor]:
    """A function that puts the donor's values into the row, for the `patched` copies of each group."""
    tokens, values, base = [], [], 0
    for group in groups:
        span = torch.arange(group.stop - group.start)
        tokens.append((base + torch.tensor(patched)[:, None] * group.suffix + span).flatten())
        values.append(donated(layer, group).repeat(len(patched), 1))
        base += count * group.suffix
    heads = torch.cat([torch.tensor(patched).repeat_interleave(g.stop - g.start) for g in groups]) % cells.heads_at_once
    return partial(_put, cells, layer, torch.cat(tokens), torch.cat(values), heads)


def _put(
    cells: Cells,
    layer: int,
    at: Int[Tensor, " place"],
    values: Float[Tensor, "place width"],
    heads: Int[Tensor, " place"],
    own: Float[Tensor, "1 token width"],
) -> Float[Tensor, "1 token width"]:
    """The row with the donor's values at some of its tokens."""
    new, index = own.clone(), at.to(own.device)
    new[0, index] = cells.mixed(own[0, index], values.to(own), layer, heads)
    return new


def _places(
    run: ForwardTrace, groups: Sequence[Group], count: int
) -> tuple[Int[Tensor, " token"], Int[Tensor, " token"]]:
    """For every token in the row, its prompt in the batch and its position there."""
    columns = [torch.arange(group.start, group.end).repeat(count) for group in groups]
    prompts = torch.tensor([group.prompt for group in groups]).repeat_interleave(
        torch.tensor([len(part) for part in columns])
    )
    return prompts.to(run.hidden.device), torch.cat(columns).to(run.hidden.device)


def _pick(value: Any, prompts: Tensor, columns: Tensor, run: ForwardTrace) -> Any:
    """A recorded keyword argument, picked for the tokens of the row. Values without positions pass unchanged."""
    if isinstance(value, tuple) and value and all(isinstance(part, Tensor) for part in value):
        return tuple(_pick(part, prompts, columns, run) for part in value)
    if not isinstance(value, Tensor) or value.dim() == 4:  # a mask, of which `SharedPrefix` has its own part
        return value
    if value.dim() >= 2 and value.shape[1] == run.width:
        return value[prompts if value.shape[0] > 1 else 0, columns][None]
    return value[columns] if value.dim() == 1 and value.shape[0] == run.width else value
