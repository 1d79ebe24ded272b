"""In which weights does the change originate? The recipient gets the donor's parameters, block by block, module by
module.

    effect = readout(recipient with the donor's parameters in one place) - readout(recipient)

A patch copies an activation, and an activation carries everything that happened below it: it shows what *passes
through* a cell. A graft copies parameters, whose input stays the recipient's own activations: the change that it makes
*originates* there. (So a graft of a layer's MLP is a patch of its `mlp_out` whose input is the recipient's.) Grafting
from the instruct model asks which block restores the parent's behaviour by itself; grafting into the instruct model,
which block breaks it by itself. Where several blocks act together, none does so alone; therefore there are both
directions, and `windows`:

    each      one block                        to_next   a block and those before the next wanted one
    up_to     blocks 0 … l                     from      blocks l … L-1

With `shares` the parameters are interpolated, W = (1 - share) W_recipient + share W_donor. The part of the gap that all
blocks together (`up_to` the last) do not close lies outside of them: in the embedding, the final norm or the
unembedding.

**Method.** A graft of block l changes nothing below l, and above l the recipient is itself. So block l runs once with
the donor's parameters on the recipient's own input, and the result is an ordinary patch of `resid_post` at every
position, which the replay engine carries to the readout for all layers in one staircase. For a window `from` l, grafted
blocks carry the recipient's input of block l up. A model that cannot be replayed gets a forward pass per cell.

Grafts between models: "stitching" and "cross-model" layer swaps, e.g. Bansal et al. 2021,
https://arxiv.org/abs/2106.07682; swapping fine-tuned into base parameters: Panigrahi et al. 2023 (skill localisation),
https://arxiv.org/abs/2302.06600.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from mechdrift.activations.batching import forward
from mechdrift.activations.prompts import Answers
from mechdrift.activations.readouts import Readout, readout_states
from mechdrift.activations.recording import layer_numbers
from mechdrift.hooks import record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.patching.cells import Cells, Group
from mechdrift.patching.checks import choose_engine, rounding_of
from mechdrift.patching.passes import PromptBatch, check_finite_batch, read_batch
from mechdrift.patching.plan import GridPlan, plan_grid
from mechdrift.patching.replay import ForwardTrace, run_model, sweep_layers
from mechdrift.patching.swaps import Weights, keep_weights, swapped
from mechdrift.records import MechdriftError, PatchGrid, ProbeSet, Side, ThinkMode, exactly, several

WINDOWS = ("each", "to_next", "up_to", "from")


def graft(
    pair: Pair,
    probes: ProbeSet,
    *,
    donor: Side = "instruct",
    recipient: Side = "reasoning",
    modules: str | Sequence[str] = "layer",
    layers: int | Sequence[int] | None = None,
    windows: str = "each",
    shares: float | Sequence[float] = (1.0,),
    think: ThinkMode = "off",
    answers: Answers | None = None,
    readout: Readout | None = None,
    engine: str = "auto",
) -> PatchGrid:
    """In which weights does the change originate? The effect of the donor's parameters, place by place.

    The recipient is run with the donor's parameters in one place, on its own activations. The effect is the readout
    with the graft minus the readout without it, in log-odds (nats).

    Args:
        pair: the two models.
        probes: what is asked.
        donor: the side whose parameters are taken. `"instruct"` asks what restores the parent's behaviour by
            itself, `"reasoning"` what breaks it by itself.
        recipient: the side that receives them.
        modules: one or several of `"layer"` (the whole block), `"attn"`, `"mlp"`, `"norms"` (all norms of the
            block), `"q"`, `"k"`, `"v"`, `"o"`, `"gate"`, `"up"`, `"down"`, or `"qkv"` where it is one matrix.
        layers: indices of blocks, from 0; by default all.
        windows: `"each"` block by itself, `"to_next"` (a block and those before the next wanted one), all blocks
            `"up_to"` it, or all `"from"` it on.
        shares: the shares of the donor's weights that are tried: W = (1 - share) W_recipient + share W_donor.
        think: as in `patch`.
        answers: as in `patch`.
        readout: as in `patch`.
        engine: as in `patch`.

    Returns:
        A `PatchGrid` with site `weights`: `.effect` `[prompt, layer, module]` in log-odds. Its `roles` name the
        modules, `mlp@0.5` where several shares were asked for.

    Raises:
        MechdriftError: for modules that the model does not have, for weights that are kept on disk, and when
            grafting the recipient with its own parameters changes something.

    Source:
        Model stitching: Bansal et al. 2021, https://arxiv.org/abs/2106.07682; skill localisation: Panigrahi et al.
        2023, https://arxiv.org/abs/2302.06600.

    Example:
        >>> weights = md.graft(pair, probes.where("trigger"), modules=("attn", "mlp"))
        >>> weights.effect.shape  # prompt, layer, module
        (8, 4, 2)
        >>> means = weights.frame.groupby(["layer", "role"]).effect.mean()
    """
    names, shares = tuple(dict.fromkeys(several(modules))), tuple(dict.fromkeys(several(shares)))
    if windows not in WINDOWS:
        raise MechdriftError(f"unknown windows {windows!r}: use one of {', '.join(WINDOWS)}.")
    if not shares or not np.isfinite(shares).all():
        raise MechdriftError(f"shares should be finite numbers, one or more; they are {shares}.")
    plan = GraftPlan(
        grid=plan_grid(pair, probes, donor=donor, recipient=recipient, think=think, answers=answers, readout=readout),
        modules=names,
        layers=layers,
        windows=windows,
        shares=shares,
    )
    with tempfile.TemporaryDirectory() as folder:
        loaded = pair.open(donor)
        after = donor_readouts(plan, loaded)
        weights = keep_weights(loaded, names, None if pair.keeps(loaded) else Path(folder))
        del loaded
        return graft_recipient(plan, pair.open(recipient), weights, after, engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraftPlan:
    """A grid of grafts before any model is opened: what both models read (`grid`), and what is grafted."""

    grid: GridPlan
    modules: tuple[str, ...] = ("layer",)
    layers: int | Sequence[int] | None = None
    windows: str = "each"
    shares: tuple[float, ...] = (1.0,)


def donor_readouts(plan: GraftPlan, loaded: LanguageModel) -> Float[np.ndarray, " prompt"]:
    """The donor's own readout of every prompt."""
    rendered = plan.grid.given
    return read_batch(loaded, plan.grid.readout, rendered, readout_states(loaded, rendered))


def graft_recipient(
    plan: GraftPlan,
    loaded: LanguageModel,
    weights: "Sequence[Weights | Path]",
    after: Float[np.ndarray, " prompt"],
    engine: str = "auto",
) -> PatchGrid:
    """The grid: the recipient with the donor's `weights` (from `keep_weights`) in every place; `after` comes from
    `donor_readouts`."""
    grid, names = plan.grid, plan.modules
    chosen = tuple(sorted(layer_numbers(loaded, plan.layers)))
    for layer in chosen:
        loaded.structure.hook_point("resid_post", layer)  # raises where there is no such layer
    work = _Grafts(
        loaded=loaded,
        given=weights,
        names=names,
        shares=plan.shares,
        layers=chosen,
        windows=plan.windows,
        readout=grid.readout,
        fast=choose_engine(loaded, engine) == "replay",
    )
    effect = np.empty((len(grid.probes), len(chosen), len(names), len(work.shares)))
    before, error = np.empty(len(grid.probes)), 0.0
    for rows, batch in grid.each_batch("Grafting", loaded):
        started = work.start(batch, grid.recipient)
        before[rows] = work.read(batch, started.hidden)
        if batch is grid.batches[0]:
            error = work.check_identity(batch, started)
        effect[rows] = work.run(batch, started) - before[rows][:, None, None, None]
    return grid.measured(
        site="weights",
        layers=chosen,
        roles=tuple(
            f"{name}@{exactly(share)}" if len(plan.shares) > 1 else name for name in names for share in work.shares
        ),
        effect=rearrange(effect, "prompt layer module share -> prompt layer (module share)"),
        recipient_readout=before,
        donor_readout=after,
        identity_error=error,
        windows=plan.windows,
        engine="replay" if work.fast else "forward",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    """A batch that went through the recipient: the output of the final norm, of each block, and, where the model can be
    replayed, the trace for that."""

    hidden: Float[Tensor, "prompt pos d_model"]
    outputs: Mapping[int, Float[Tensor, "prompt pos d_model"]]
    run: ForwardTrace | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grafts:
    """One recipient, the donor's parameters, and the cells to graft."""

    loaded: LanguageModel
    given: "Sequence[Weights | Path]"
    names: tuple[str, ...]
    shares: tuple[float, ...]
    layers: tuple[int, ...]
    windows: str
    readout: Readout
    fast: bool

    @torch.inference_mode()
    def start(self, batch: PromptBatch, side: Side) -> _Started:
        loaded = self.loaded
        points = {layer: loaded.structure.hook_point("resid_post", layer) for layer in range(loaded.n_layers)}
        if self.fast:
            run = run_model(loaded, batch.batch, points)
            hidden, outputs = run.hidden, run.recorded
        else:
            with record(points) as outputs:
                hidden, run = self._forward(batch), None
        check_finite_batch({**outputs, loaded.n_layers - 1: hidden}, side, batch)
        return _Started(hidden=hidden, outputs=outputs, run=run)

    @torch.inference_mode()
    def run(self, batch: PromptBatch, started: _Started) -> Float[np.ndarray, "prompt layer module share"]:
        """The readouts of all cells."""
        cells = [[self._profile(batch, started, name, share) for share in self.shares] for name in self.names]
        return rearrange(np.array(cells), "module share prompt layer -> prompt layer module share")

    def _profile(
        self, batch: PromptBatch, started: _Started, name: str, share: float
    ) -> Float[np.ndarray, "prompt layer"]:
        """One module's cells. Layers whose parameters are the same in both models are not run."""
        readouts = np.repeat(self.read(batch, started.hidden)[:, None], len(self.layers), axis=1)
        differing = {layer for layer in range(self.loaded.n_layers) if self._differ(layer, name)} if share else set()
        some = [i for i, layer in enumerate(self.layers) if differing & set(self.window(layer))]
        if some and started.run is not None:
            finals = self._replayed(batch, started.run, tuple(self.layers[i] for i in some), name, share)
            readouts[:, some] = read_batch(self.loaded, self.readout, batch.rendered, finals)
        elif some:
            for i in some:
                with self._grafted(self.window(self.layers[i]), name, share):
                    readouts[:, i] = self.read(batch, self._forward(batch))
        return readouts

    def _replayed(
        self, batch: PromptBatch, run: ForwardTrace, layers: tuple[int, ...], name: str, share: float
    ) -> Float[Tensor, "prompt layer d_model"]:
        groups = [
            Group(prompt=row, start=offset, stop=offset + len(prompt.ids), end=offset + len(prompt.ids))
            for row, (prompt, offset) in enumerate(zip(batch.rendered, batch.batch.offsets, strict=True))
        ]
        if self.windows == "from":  # the recipient's own input of each block, carried up by the donor's blocks
            with self._grafted(range(self.loaded.n_layers), name, share):
                own = lambda layer, group: run.residual[layer][group.prompt, group.start : group.stop]  # noqa: E731
                return sweep_layers(run, groups, Cells(site="resid_pre", layers=layers), own)[:, :, 0]
        # The output of each window's last block is the input of the recipient's next block.
        tops: dict[int, Tensor] = {}
        for layer in layers:
            window, state = self.window(layer), run.residual[self.window(layer)[0]]
            if self.windows == "up_to" and tops:  # continue from the window before
                below = max(tops)
                window, state = range(below + 1, layer + 1), tops[below]
            tops[window[-1]] = self._carried(run, state, window, name, share)
        cells = Cells(site="resid_post", layers=tuple(tops))
        return sweep_layers(run, groups, cells, lambda at, group: tops[at][group.prompt, group.start : group.stop])[
            :, :, 0
        ]

    def _carried(
        self,
        run: ForwardTrace,
        state: Float[Tensor, "prompt pos d_model"],
        window: Sequence[int],
        name: str,
        share: float,
    ) -> Float[Tensor, "prompt pos d_model"]:
        """The input of a window of blocks, taken through them with the donor's parameters in place."""
        for layer in window:
            with self._grafted((layer,), name, share):
                out = self.loaded.structure.blocks[layer](state, **run.arguments[layer])
            state = out[0] if isinstance(out, tuple) else out
        return state

    def window(self, layer: int) -> Sequence[int]:
        """The layers that are grafted together in the cell of one layer."""
        if self.windows == "to_next":
            return range(layer, min((other for other in self.layers if other > layer), default=self.loaded.n_layers))
        return {"each": (layer,), "up_to": range(layer + 1), "from": range(layer, self.loaded.n_layers)}[self.windows]

    @contextmanager
    def _grafted(self, layers: Sequence[int], name: str, share: float) -> Iterator[None]:
        with ExitStack() as swaps:
            for layer in layers:
                swaps.enter_context(swapped(self.loaded.structure.blocks[layer], self._weights(layer, name), share))
            yield

    def _weights(self, layer: int, name: str) -> Weights:
        stored = self.given[layer]
        stored = load_file(stored) if isinstance(stored, Path) else stored
        return {key: stored[key] for key in self.loaded.structure.parameters(layer, name)}

    def _differ(self, layer: int, name: str) -> bool:
        own = dict(self.loaded.structure.blocks[layer].named_parameters())
        given = self._weights(layer, name)
        return not all(torch.equal(own[key].cpu(), theirs.to(own[key].dtype).cpu()) for key, theirs in given.items())

    def _forward(self, batch: PromptBatch) -> Float[Tensor, "prompt pos d_model"]:
        return forward(self.loaded, batch.batch)

    def read(self, batch: PromptBatch, hidden: Float[Tensor, "prompt pos d_model"]) -> Float[np.ndarray, " prompt"]:
        return read_batch(self.loaded, self.readout, batch.rendered, batch.last(hidden))

    @torch.inference_mode()
    def check_identity(self, batch: PromptBatch, started: _Started) -> float:
        """The largest change of a readout when blocks are run by themselves with their own parameters; raises where it
        exceeds rounding."""
        if started.run is None:
            return 0.0
        finals = self._replayed(batch, started.run, (self.layers[len(self.layers) // 2],), self.names[0], 0.0)
        own = self.read(batch, started.hidden)[:, None]
        change = np.abs(read_batch(self.loaded, self.readout, batch.rendered, finals) - own)
        if not change.max() <= rounding_of(self.loaded):
            raise MechdriftError(
                f"identity self-test failed: {self.loaded.source.name} grafted with its own parameters changes the "
                f"readout by {change.max():.1e} log-odds, so no grid is computed: use patch instead."
            )
        return float(change.max())
