"""Patching by one full forward pass per cell: slow, and the reference for tests of the fast engine."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import Batch, forward
from mechdrift.hooks import edit
from mechdrift.pairs.loading import LanguageModel
from mechdrift.patching.cells import Cells, Donated, Group


@torch.inference_mode()
def forward_layers(
    loaded: LanguageModel, batch: Batch, groups: Sequence[Group], cells: Cells, donated: Donated
) -> Float[Tensor, "group layer head d_model"]:
    """The same results as `replay.sweep_layers`. Groups of different prompts run through the model together, groups of
    one prompt one after the other."""
    finals = torch.empty(
        len(groups), len(cells.layers), cells.heads_at_once, loaded.structure.d_model, device=loaded.device
    )
    for round_ in _rounds(groups):
        rows, last = [groups[i].prompt for i in round_], [groups[i].end - 1 for i in round_]
        for index, layer in enumerate(cells.layers):
            for head in range(cells.heads_at_once):
                edits = {}
                for at in cells.window(layer, loaded.n_layers):
                    edits |= cells.edits(
                        loaded.structure, at, partial(_put, at, [groups[i] for i in round_], cells, donated, head)
                    )
                with edit(edits):
                    final = forward(loaded, batch)
                finals[round_, index, head] = final[rows, last].to(finals)
    return finals


def _rounds(groups: Sequence[Group]) -> list[list[int]]:
    """Indices of groups, in rounds that hold at most one group of each prompt."""
    seen: dict[int, int] = {}
    rounds: list[list[int]] = []
    for index, group in enumerate(groups):
        number = seen[group.prompt] = seen.get(group.prompt, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(index)
    return rounds


def _put(
    layer: int,
    groups: Sequence[Group],
    cells: Cells,
    donated: Donated,
    head: int,
    own: Float[Tensor, "prompt pos width"],
) -> Float[Tensor, "prompt pos width"]:
    new = own.clone()
    for group in groups:
        rows = own[group.prompt, group.start : group.stop]
        heads = torch.full((len(rows),), head)
        new[group.prompt, group.start : group.stop] = cells.mixed(rows, donated(layer, group).to(own), layer, heads)
    return new
