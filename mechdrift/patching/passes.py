"""The passes of a patch grid: the donor's, which keeps what is copied, and the recipient's, unpatched and patched.

The donor is run first and then released. Its activations wait on the CPU, so that one model in memory is enough.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechdrift.activations.batching import Batch, check_padding, forward, pad, padded_batches
from mechdrift.activations.readouts import Readout, read_states
from mechdrift.activations.recording import not_finite
from mechdrift.hooks import record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.patching.cells import Cells, Donated, Group
from mechdrift.patching.donors import randomised
from mechdrift.patching.naive import forward_layers
from mechdrift.patching.replay import run_model, sweep_layers
from mechdrift.probes.roles import role_span
from mechdrift.records import Rendered, Side

PROMPTS_PER_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedPrompts:
    """Prompts of similar length, padded."""

    rendered: tuple[Rendered, ...]
    batch: Batch

    def span(self, row: int, role: str) -> tuple[int, int]:
        """The positions that a role occupies in one padded prompt."""
        start, stop = role_span(self.rendered[row], role)
        return start + self.batch.offsets[row], stop + self.batch.offsets[row]

    def end(self, row: int) -> int:
        return self.batch.offsets[row] + len(self.rendered[row].ids)

    def last(self, hidden: Float[Tensor, "prompt pos d_model"]) -> Float[Tensor, "prompt d_model"]:
        """The states at the readout positions."""
        return hidden[torch.arange(len(self.rendered)), [self.end(row) - 1 for row in range(len(self.rendered))]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBatch(PaddedPrompts):
    """The recipient's prompts, and what the donor reads for each of them."""

    source: PaddedPrompts

    def groups(self, roles: Sequence[str]) -> list[Group]:
        """One group per prompt and role, prompt by prompt. Where one of the two roles is shorter, only as many of the
        last tokens are patched."""
        found = []
        for row in range(len(self.rendered)):
            for role in roles:
                (start, stop), (first, last) = self.span(row, role), self.source.span(row, role)
                width = min(stop - start, last - first)
                found.append(Group(prompt=row, start=stop - width, stop=stop, end=self.end(row), shift=last - stop))
        return found


def prompt_batches(
    rendered: Sequence[Rendered],
    pad_id: int,
    source: Sequence[Rendered] | None = None,
    per_batch: int = PROMPTS_PER_BATCH,
) -> Iterator[PromptBatch]:
    """Batches of similar length, with the prompts of `source` in the same order; by default the prompts themselves."""
    given = list(rendered if source is None else source)
    for places, batch in padded_batches([prompt.ids for prompt in rendered], pad_id, prompts=per_batch, side="left"):
        theirs = tuple(given[i] for i in places)
        source = PaddedPrompts(rendered=theirs, batch=pad([prompt.ids for prompt in theirs], pad_id, side="left"))
        yield PromptBatch(rendered=tuple(rendered[i] for i in places), batch=batch, source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class DonorPass:
    """A batch's pass through the donor, on the CPU: the activations at the patched layers from position `first` on, the
    readouts, and the last block's output at the readout positions."""

    activations: Mapping[int, Float[Tensor, "prompt pos width"]]
    first: int
    readouts: Float[np.ndarray, " prompt"]
    last: Float[Tensor, "prompt d_model"]

    def donated(self, layer: int, group: Group) -> Float[Tensor, "span width"]:
        """The values that a group's positions take, as `cells.Donated` describes them."""
        start = group.start + group.shift - self.first
        return self.activations[layer][group.prompt, start : start + group.stop - group.start]

    def save(self, file: Path) -> Path:
        """Keep everything in a file, so that the passes of many grids need not be in memory at once."""
        tensors = {f"layer {layer}": values.contiguous() for layer, values in self.activations.items()}
        rest = {"readouts": torch.from_numpy(self.readouts), "last": self.last.contiguous()}
        save_file(tensors | rest, file, {"first": str(self.first)})
        return file

    @classmethod
    def load(cls, file: Path) -> "DonorPass":
        """What `save` wrote, bit for bit."""
        with safe_open(file, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
            first = int(stored.metadata()["first"])
        readouts, last = tensors.pop("readouts").numpy(), tensors.pop("last")
        activations = {int(name.removeprefix("layer ")): values for name, values in tensors.items()}
        return cls(activations=activations, first=first, readouts=readouts, last=last)


@torch.inference_mode()
def run_donor(
    loaded: LanguageModel, side: Side, batch: PromptBatch, cells: Cells, columns: Sequence[str], readout: Readout
) -> DonorPass:
    """Run the donor over its prompts and keep its activations from the first patched position on."""
    first, source = min(group.start + group.shift for group in batch.groups(columns)), batch.source
    points = {layer: loaded.structure.hook_point(cells.site, layer) for layer in cells.patched_layers(loaded.n_layers)}
    check_padding(loaded, source.batch)
    with record(points) as seen, record({0: loaded.structure.hook_point("resid_post", loaded.n_layers - 1)}) as post:
        hidden = forward(loaded, source.batch)
    check_finite_batch({**seen, loaded.n_layers - 1: hidden}, side, source)
    return DonorPass(
        activations={layer: tensor[:, first:].cpu() for layer, tensor in seen.items()},
        first=first,
        readouts=read_batch(loaded, readout, batch.rendered, source.last(hidden)),
        last=source.last(post[0]).cpu(),
    )


def read_batch(
    loaded: LanguageModel, readout: Readout, rendered: Sequence[Rendered], states: Float[Tensor, "prompt *cell d_model"]
) -> Float[np.ndarray, "prompt *cell"]:
    """The readouts of states that the unembedding would read."""
    return np.stack(
        [read_states(loaded, readout, rows, prompt.item_id) for rows, prompt in zip(states, rendered, strict=True)]
    )


def check_finite_batch(seen: Mapping[int, Tensor], side: Side, batch: PaddedPrompts) -> None:
    """Raise, naming the place, when a real token's activation is NaN or infinite."""
    for layer, values in seen.items():
        if bool(values.sum().isfinite()):  # cheap; finite values may have an infinite sum, so each is tested below
            continue
        bad = (~values.isfinite()).flatten(2).any(dim=2).cpu() & batch.batch.mask.bool()
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            prompt, position = batch.rendered[row], position - batch.batch.offsets[row]
            role = next(role for role, (start, stop) in prompt.roles.items() if start <= position < stop)
            raise not_finite(side, layer, role, prompt.item_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientPass:
    """A batch that went through the unpatched recipient. `own` holds its activations at the patched site."""

    batch: PromptBatch
    final: Float[Tensor, "prompt d_model"]
    own: Mapping[int, Float[Tensor, "prompt pos width"]]
    patched: Callable[[Sequence[Group], Cells, Donated], Float[Tensor, "group layer head d_model"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One recipient and the cells to patch in it."""

    loaded: LanguageModel
    side: Side
    cells: Cells
    columns: tuple[str, ...]
    readout: Readout
    fast: bool
    random: bool = False

    @torch.inference_mode()
    def start(self, batch: PromptBatch) -> RecipientPass:
        loaded, layers = self.loaded, self.cells.patched_layers(self.loaded.n_layers)
        points = {layer: loaded.structure.hook_point(self.cells.site, layer) for layer in layers}
        if self.fast:
            run = run_model(loaded, batch.batch, points)
            hidden, own, patched = run.hidden, run.recorded, partial(sweep_layers, run)
        else:
            with record(points) as own:
                hidden = forward(loaded, batch.batch)
            patched = partial(forward_layers, loaded, batch.batch)
        check_finite_batch({**own, loaded.n_layers - 1: hidden}, self.side, batch)
        return RecipientPass(batch=batch, final=batch.last(hidden), own=own, patched=patched)

    def run(self, started: RecipientPass, donated: Donated) -> Float[np.ndarray, "prompt role layer head"]:
        """The effects of all cells on one batch of prompts.

        Layers at which donor and recipient have the same activations, such as the first where they share embeddings,
        have no effect and are not run.
        """
        groups, cells = started.batch.groups(self.columns), self.cells
        if self.random:
            donated = partial(self._random, started, donated)
        effect = np.zeros((len(started.batch.rendered), len(self.columns), len(cells.layers), cells.heads_at_once))
        if some := [i for i, layer in enumerate(cells.layers) if self._differ(started, groups, donated, layer)]:
            finals = started.patched(groups, replace(cells, layers=tuple(cells.layers[i] for i in some)), donated)
            effect[:, :, some] = self.read(started.batch, finals.unflatten(0, (-1, len(self.columns))))
            effect[:, :, some] -= self.read(started.batch, started.final)[:, None, None, None]
        return effect

    def _random(
        self, started: RecipientPass, donated: Donated, layer: int, group: Group
    ) -> Float[Tensor, "span width"]:
        own = started.own[layer][group.prompt, group.start : group.stop].cpu()
        name = f"{started.batch.rendered[group.prompt].item_id} {layer} {group.start - group.end}"
        return randomised(own, donated(layer, group).to(own), self.cells.n_heads if self.cells.heads else 1, name)

    def _differ(self, started: RecipientPass, groups: Sequence[Group], donated: Donated, layer: int) -> bool:
        if layer not in started.own or self.cells.windows != "each":
            return True
        own = started.own[layer].cpu()
        return not all(
            torch.equal(own[group.prompt, group.start : group.stop], donated(layer, group)) for group in groups
        )

    def read(
        self, batch: PromptBatch, states: Float[Tensor, "prompt *cell d_model"]
    ) -> Float[np.ndarray, "prompt *cell"]:
        return read_batch(self.loaded, self.readout, batch.rendered, states)
