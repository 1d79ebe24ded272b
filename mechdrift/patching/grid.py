"""Where does the change act? Copy the donor's activations into the recipient, cell by cell, on the same tokens.

For each layer and role, the recipient is run with its residual stream replaced by the donor's at that role's positions, and the
readout at the first answer position is compared with the unpatched one:

    effect = readout(recipient with cell from donor) - readout(recipient)
    recovery = mean effect / mean (readout(donor) - readout(recipient))

instruct → reasoning shows what restores the parent's behaviour, reasoning → instruct what breaks it. Residual patches show what
*passes through* a cell; that a layer lights up does not say the change *originates* there. The tokens are the same for both models
(the reasoning model's rendering), so nothing has to be aligned. Steps: record the donor; run the recipient; check that patching
the recipient with its own activations changes nothing; sweep.

Cross-model activation patching: Prakash et al. 2024, https://arxiv.org/abs/2402.14811 (there on attention heads).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.capture import Batch, not_finite, pad, role_columns, role_span
from mechdrift.hooks import record
from mechdrift.pairs import LanguageModel, Pair
from mechdrift.patching.cells import Cells, Donated, Group
from mechdrift.patching.forward import forward_layers
from mechdrift.patching.replay import run_model, sweep_layers
from mechdrift.probes import Renderer, render_items
from mechdrift.progress import progress
from mechdrift.readouts import Readout, make_readout, read_states
from mechdrift.records import ROUNDING, MechdriftError, PatchGrid, ProbeSet, Rendered, Side, ThinkMode

DEFAULT_ROLES = ("user", "template_tail", "think_open", "think_close")
PROMPTS_PER_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _PromptBatch:
    """Prompts of similar length, left-padded, with the columns that each role occupies in each of them."""

    rendered: tuple[Rendered, ...]
    batch: Batch

    def groups(self, roles: Sequence[str]) -> list[Group]:
        """One per prompt and role, the roles of a prompt after each other."""
        return [
            Group(prompt=row, start=offset + start, stop=offset + stop)
            for row, (prompt, offset) in enumerate(zip(self.rendered, self.batch.offsets, strict=True))
            for role in roles
            for start, stop in [role_span(prompt, role)]
        ]


def patch(
    pair: Pair,
    probes: ProbeSet,
    *,
    donor: Side = "instruct",
    recipient: Side = "reasoning",
    site: str = "resid_pre",
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
    think: ThinkMode = "off",
    readout: Readout | None = None,
    engine: str = "auto",
) -> PatchGrid:
    """Effect of every (layer, role) cell on the recipient's readout, `[prompt, layer, role]` in log-odds.

    `probes` may hold trigger and neutral items. `engine`: `replay` (exact and fast), `forward` (one full pass per cell), or `auto`.
    Raises `MechdriftError` when a model patched with itself changes.
    """
    renderer = Renderer(pair.tokenizer("reasoning"))
    readout = readout or make_readout(renderer, probes)
    rendered = render_items(renderer, probes.items, think)
    columns = role_columns(rendered, roles)
    batches = list(_batches(rendered, pair.tokenizer("reasoning").pad_token_id or 0))
    if engine not in ("auto", "replay", "forward"):
        raise MechdriftError(f"unknown engine {engine!r}: use 'auto', 'replay' or 'forward'.")
    wanted = tuple(sorted(set(layers))) if layers is not None else tuple(range(pair.open(donor).n_layers))
    cells = Cells(site=site, layers=wanted)
    given = [_run_donor(pair.open(donor), donor, batch, cells, columns, readout) for batch in batches]
    sweep = _Sweep(loaded=pair.open(recipient), side=recipient, cells=cells, columns=columns, readout=readout, fast=engine != "forward")
    effect = np.empty((len(probes), len(wanted), len(columns)))
    before, after = np.empty(len(probes)), np.empty(len(probes))
    index = {item.id: row for row, item in enumerate(probes)}
    identity_error = 0.0
    with progress(f"Patching {probes.name}, {donor} into {recipient}", len(probes)) as advance:
        for batch, (donated, theirs) in zip(batches, given, strict=True):
            rows = [index[prompt.item_id] for prompt in batch.rendered]
            started = sweep.start(batch, keep_own=batch is batches[0])
            if batch is batches[0]:
                identity_error = sweep.test_identity(started)
            before[rows] = sweep.read(batch, started.final)
            effect[rows] = sweep.run(started, donated)[:, :, :, 0].swapaxes(1, 2)
            after[rows] = theirs
            advance(len(rows))
    return PatchGrid(
        dimension=probes.dimension, donor=donor, recipient=recipient, site=site, think=think, layers=wanted, roles=columns,
        items=probes.items, effect=effect, recipient_readout=before, donor_readout=after, identity_error=identity_error,
    )  # fmt: skip


def _batches(rendered: Sequence[Rendered], pad_id: int) -> Iterator[_PromptBatch]:
    ordered = sorted(rendered, key=lambda prompt: len(prompt.ids))
    for start in range(0, len(ordered), PROMPTS_PER_BATCH):
        part = tuple(ordered[start : start + PROMPTS_PER_BATCH])
        yield _PromptBatch(rendered=part, batch=pad([prompt.ids for prompt in part], pad_id, side="left"))


@torch.inference_mode()
def _run_donor(
    loaded: LanguageModel, side: Side, batch: _PromptBatch, cells: Cells, columns: Sequence[str], readout: Readout
) -> tuple[Donated, Float[np.ndarray, " prompt"]]:
    """The donor's activations from the first patched column on, on the CPU, and its readouts."""
    first = min(group.start for group in batch.groups(columns))
    points = {layer: loaded.structure.hook_point(cells.site, layer) for layer in cells.patched_layers(loaded.n_layers)}
    with record(points) as seen:
        hidden = loaded.model.base_model(**batch.batch.forward_arguments(loaded.device), use_cache=False).last_hidden_state
    _check_finite({**seen, loaded.n_layers - 1: hidden}, side, batch)
    kept = {layer: tensor[:, first:].cpu() for layer, tensor in seen.items()}
    readouts = [read_states(loaded, readout, state, prompt.item_id) for state, prompt in zip(hidden[:, -1], batch.rendered, strict=True)]
    return lambda layer, group: kept[layer][group.prompt, group.start - first : group.stop - first], np.array(readouts)


def _check_finite(seen: Mapping[int, Tensor], side: Side, batch: _PromptBatch) -> None:
    """Raise, naming the place, when a real token's activation is NaN or infinite."""
    for layer, values in seen.items():
        if bool(values.sum().isfinite()):  # cheap; an infinite sum of finite values is looked at more closely
            continue
        bad = (~values.isfinite()).flatten(2).any(dim=2).cpu() & batch.batch.mask.bool()
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            prompt, position = batch.rendered[row], position - batch.batch.offsets[row]
            role = next(role for role, (start, stop) in prompt.roles.items() if start <= position < stop)
            raise not_finite(side, layer, role, prompt.item_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    """A batch that went through the unpatched recipient. `own` holds its activations at the patched site, if asked for."""

    batch: _PromptBatch
    final: Float[Tensor, "prompt d_model"]
    own: Mapping[int, Float[Tensor, "prompt pos width"]]
    patched: Callable[[Sequence[Group], Cells, Donated], Float[Tensor, "group layer head d_model"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sweep:
    """One recipient and the cells to patch in it."""

    loaded: LanguageModel
    side: Side
    cells: Cells
    columns: tuple[str, ...]
    readout: Readout
    fast: bool

    @torch.inference_mode()
    def start(self, batch: _PromptBatch, keep_own: bool) -> _Started:
        loaded, layers = self.loaded, self.cells.patched_layers(self.loaded.n_layers) if keep_own else ()
        points = {layer: loaded.structure.hook_point(self.cells.site, layer) for layer in layers}
        if self.fast:
            run = run_model(loaded, batch.batch, points)
            hidden, own, patched = run.hidden, run.recorded, partial(sweep_layers, run)
        else:
            with record(points) as own:
                hidden = loaded.model.base_model(**batch.batch.forward_arguments(loaded.device), use_cache=False).last_hidden_state
            patched = partial(forward_layers, loaded, batch.batch)
        _check_finite({**own, loaded.n_layers - 1: hidden}, self.side, batch)
        return _Started(batch=batch, final=hidden[:, -1], own=own, patched=patched)

    def run(self, started: _Started, donated: Donated) -> Float[np.ndarray, "prompt role layer head"]:
        """The effects of all cells on one batch of prompts."""
        finals = started.patched(started.batch.groups(self.columns), self.cells, donated)
        after = self.read(started.batch, finals.unflatten(0, (-1, len(self.columns))))
        return after - self.read(started.batch, started.final)[:, None, None, None]

    def read(self, batch: _PromptBatch, states: Float[Tensor, "prompt *cell d_model"]) -> Float[np.ndarray, "prompt *cell"]:
        """The readouts of states that the unembedding would read."""
        return np.stack([read_states(self.loaded, self.readout, s, p.item_id) for s, p in zip(states, batch.rendered, strict=True)])

    def test_identity(self, started: _Started) -> float:
        """A recipient patched with its own activations must not change; returns the largest change, raises if it is real.

        Every role and the first, middle and last layer on one prompt, a third of the roles at each of the layers: a fault of the
        machinery shows there, at little cost.
        """
        layers, worst, where = self.cells.layers, 0.0, ""
        before = self.read(started.batch, started.final)[0]
        for offset, layer in enumerate((layers[-1], layers[len(layers) // 2], layers[0])):
            columns = self.columns[offset % len(self.columns) :: 3]
            groups = [g for g in started.batch.groups(columns) if g.prompt == 0]
            own = started.patched(groups, replace(self.cells, layers=(layer,)), lambda at, g: started.own[at][g.prompt, g.start : g.stop])
            change = np.abs(read_states(self.loaded, self.readout, own, started.batch.rendered[0].item_id) - before).max(axis=(1, 2))
            if not change.max() <= worst:
                worst, where = float(change.max()), f"layer {layer}, role {columns[int(change.argmax())]}"
        if not worst <= ROUNDING:
            raise MechdriftError(
                f"identity self-test failed: patching {self.loaded.source.name} with itself at {where}, "
                f"changes the readout by {worst:.1e}; no grid is computed."
            )
        return worst
