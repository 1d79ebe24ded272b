"""Where does the change act? Copy the donor's activations into the recipient, cell by cell, on the same tokens.

For each layer and role, the recipient is run with its residual stream replaced by the donor's at that role's positions,
and the readout at the first answer position is compared with the unpatched one:

    effect = readout(recipient with cell from donor) - readout(recipient)
    recovery = mean effect / mean (readout(donor) - readout(recipient))

instruct → reasoning shows what restores the parent's behaviour, reasoning → instruct what breaks it. Residual patches
show what *passes through* a cell. A large effect at a layer does not show that the change *originates* there; `grafts`
ask that. Both models read the same tokens (the reasoning model's rendering), so nothing has to be aligned. Steps:

    1. run the donor and keep its activations (`passes`)
    2. run the recipient
    3. check that patching it with its own activations changes nothing (`checks`)
    4. patch every cell (`replay`, or `naive` where replay is not exact)

Cross-model activation patching: Prakash et al. 2024, https://arxiv.org/abs/2402.14811 (there on attention heads).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mechdrift.activations.prompts import Answers
from mechdrift.activations.readouts import Readout
from mechdrift.activations.recording import layer_numbers
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.patching.cells import Cells
from mechdrift.patching.checks import check_identity, check_last_block, choose_engine
from mechdrift.patching.passes import DonorPass, Sweep, run_donor
from mechdrift.patching.plan import GridPlan, plan_grid
from mechdrift.records import MechdriftError, PatchGrid, ProbeSet, Side, ThinkMode, several


def patch(
    pair: Pair,
    probes: ProbeSet,
    *,
    donor: Side = "instruct",
    recipient: Side = "reasoning",
    site: str = "resid_pre",
    roles: Sequence[str] | str | None = None,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | str | None = None,
    windows: str = "each",
    along: Float[Tensor, "*layer d_model"] | None = None,
    across: Float[Tensor, "*layer d_model"] | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    source: str = "same",
    readout: Readout | None = None,
    engine: str = "auto",
) -> PatchGrid:
    """Through which layers and tokens does the change pass? The effect of every cell on the recipient's readout.

    The recipient is run with its activation in one cell (layer x role) replaced by the donor's on the same tokens.
    The effect is the readout with the patch minus the readout without it, in log-odds (nats).

    Args:
        pair: the two models.
        probes: what is asked. It may hold trigger and neutral items; then `.inference()` tests their difference.
        donor: the side whose activations are copied. `"instruct"` shows what restores the parent's behaviour
            (denoising), `"reasoning"` what breaks it (noising).
        recipient: the side that is patched.
        site: `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out`, `z`, or a component's hook name.
        roles: columns as in `collect`; a span is patched at all of its positions. `"all"` is the whole prompt,
            `"every_position"` gives one column per token, for prompts whose roles are equally long. By default the
            roles that all prompts have, with the thinking in quarters.
        layers: indices of blocks, from 0; by default all.
        heads: at site `z`, the numbers of single heads, or `"all"`. The role axis then holds `think_close[-1].h0`, ….
        windows: `"each"` layer by itself, all layers `"up_to"` it, or all `"from"` it on.
        along: a direction, `[d_model]` or `[layer, d_model]`: only that part of the difference is put in.
        across: the same, but only the rest of the difference is put in.
        think: what stands in the think block: `"none"`, `"off"` (an empty block), `"own"` or `"donor"` thinking.
        answers: the completions that hold the thinking, for `"own"` and `"donor"`: one model's, or both by side.
        source: whose values are copied: those of the `"same"` prompt, of its `"twin"`, or a placebo's
            (`"unrelated"`, `"random"`).
        readout: a calibrated readout; by default the openings written in the items.
        engine: `"replay"` (exact and fast), `"forward"` (one full pass per cell), or `"auto"`: replay, unless this
            model cannot be replayed exactly. The grid's `engine` says which one computed it.

    Returns:
        A `PatchGrid`: `.effect` `[prompt, layer, role]` in log-odds, `.recovery` `[layer, role]`, `.inference()`,
        and `.frame` with a row per item, layer and role (columns in the record's docstring).

    Raises:
        MechdriftError: when the model lacks what was asked for, when a role does not occur in every prompt, or when
            a self-test fails (tokens, replay, identity, last block; see `mechdrift.patching.checks`).

    Source:
        Cross-model activation patching: Prakash et al. 2024, https://arxiv.org/abs/2402.14811.

    Example:
        >>> grid = md.patch(pair, probes.where("trigger"), roles=("template_tail[-1]",))
        >>> grid.effect.shape  # prompt, layer, role
        (8, 4, 1)
        >>> best = grid.inference().frame.nlargest(3, "effect")  # band and family-wise p of the largest cells
    """
    plan = plan_patch(
        pair,
        probes,
        donor=donor,
        recipient=recipient,
        site=site,
        roles=roles,
        layers=layers,
        heads=heads,
        windows=windows,
        along=along,
        across=across,
        think=think,
        answers=answers,
        source=source,
        readout=readout,
    )
    given = run_donors(plan, pair.open(donor))
    return patch_recipient(plan, pair.open(recipient), given, engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPlan:
    """A grid of patches before any model is opened: what both models read (`grid`), and which cells are patched."""

    grid: GridPlan
    site: str
    layers: int | Sequence[int] | None
    heads: int | Sequence[int] | str | None
    windows: str
    along: Float[Tensor, "*layer d_model"] | None
    across: Float[Tensor, "*layer d_model"] | None

    def cells(self, loaded: LanguageModel) -> Cells:
        """The cells in one of the two models, which have the same depth and width."""
        return make_cells(loaded, self.site, self.layers, self.heads, self.windows, self.along, self.across)


def plan_patch(
    pair: Pair,
    probes: ProbeSet,
    *,
    donor: Side = "instruct",
    recipient: Side = "reasoning",
    site: str = "resid_pre",
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | str | None = None,
    windows: str = "each",
    along: Float[Tensor, "*layer d_model"] | None = None,
    across: Float[Tensor, "*layer d_model"] | None = None,
    **options: Any,
) -> PatchPlan:
    """The plan of `patch` with the same arguments; `options` are those of `plan_grid`.

    For many grids in a row: plan all, run the donor over all (`run_donors`), and only then open the recipient
    (`patch_recipient`), so that each model is loaded once.
    """
    return PatchPlan(
        grid=plan_grid(pair, probes, donor=donor, recipient=recipient, **options),
        site=site,
        layers=layers,
        heads=heads,
        windows=windows,
        along=along,
        across=across,
    )


def run_donors(plan: PatchPlan, loaded: LanguageModel) -> list[DonorPass]:
    """The donor's activations and readouts, one record per batch of the plan."""
    cells, grid = plan.cells(loaded), plan.grid
    return [run_donor(loaded, grid.donor, batch, cells, grid.columns, grid.readout) for batch in grid.batches]


def patch_recipient(
    plan: PatchPlan, loaded: LanguageModel, given: Iterable[DonorPass], engine: str = "auto"
) -> PatchGrid:
    """The grid: the recipient patched in every cell with the activations from `run_donors`, batch by batch, after the
    self-tests (`checks`)."""
    grid, cells, columns = plan.grid, plan.cells(loaded), plan.grid.columns
    engine = choose_engine(loaded, engine)
    sweep = Sweep(
        loaded=loaded,
        side=grid.recipient,
        cells=cells,
        columns=columns,
        readout=grid.readout,
        fast=engine == "replay",
        random=grid.source == "random",
    )
    count = len(grid.probes)
    effect = np.empty((count, len(columns), len(cells.layers), cells.heads_at_once))
    before, after, error = np.empty(count), np.empty(count), 0.0
    for (rows, batch), theirs in zip(grid.each_batch("Patching", loaded), given, strict=True):
        started = sweep.start(batch)
        if batch is grid.batches[0]:
            error = max(check_identity(sweep, started), check_last_block(sweep, started, theirs))
        before[rows], after[rows] = sweep.read(batch, started.final), theirs.readouts
        effect[rows] = sweep.run(started, theirs.donated)
    return grid.measured(
        site=plan.site,
        layers=cells.layers,
        roles=cells.names(columns),
        effect=rearrange(effect, "prompt role layer head -> prompt layer (role head)"),
        recipient_readout=before,
        donor_readout=after,
        identity_error=error,
        engine=engine,
        windows=plan.windows,
    )


def both_ways(restores: PatchGrid, breaks: PatchGrid, seed: int = 0) -> Bool[np.ndarray, "layer role"]:
    """Which cells carry the change in both directions: significant in either grid, each towards its donor?

    A cell that restores the parent's behaviour in the child and breaks it in the parent is where the two models
    differ. A cell that does only one of the two may be compensated by the rest of the model, or may be a lever that
    any strong push would move.

    Args:
        restores: the grid of one direction, such as `donor="instruct", recipient="reasoning"`.
        breaks: the grid of the other direction, over the same site, layers and roles.
        seed: of the sign flips.

    Returns:
        Booleans, `[layer, role]`.

    Raises:
        MechdriftError: when the two grids differ in site, layers or roles.

    Source:
        Family-wise tests: Westfall & Young 1993 (max-T); see `mechdrift.statistics.grids`.

    Example:
        >>> there = md.patch(pair, probes, roles=("think_close",))
        >>> back = md.patch(pair, probes, donor="reasoning", recipient="instruct", roles=("think_close",))
        >>> md.both_ways(there, back).shape  # layer, role
        (4, 1)
    """
    grids = (restores, breaks)
    if (restores.layers, restores.roles, restores.site) != (breaks.layers, breaks.roles, breaks.site):
        raise MechdriftError(
            "only grids over the same site, layers and roles can be compared, such as the two directions of one patch."
        )
    found = np.ones(restores.effect.shape[1:], dtype=bool)
    for grid in grids:
        cells = grid.inference(seed=seed).frame
        towards_donor = np.sign(cells.effect) == np.sign(grid.tested_gap)
        found &= (cells.significant & towards_donor).to_numpy().reshape(found.shape)
    return found


def make_cells(
    loaded: LanguageModel,
    site: str,
    layers: int | Sequence[int] | None,
    heads: int | Sequence[int] | str | None,
    windows: str = "each",
    along: Tensor | None = None,
    across: Tensor | None = None,
) -> Cells:
    """The wanted cells; raises for layers, heads or directions that this model does not have."""
    count = loaded.structure.n_heads
    if windows not in ("each", "up_to", "from"):
        raise MechdriftError(f"unknown windows {windows!r}: use 'each', 'up_to' or 'from'.")
    if heads is not None and site != "z":
        raise MechdriftError(f"heads are patched where they lie side by side: use site='z' with heads=, not {site!r}.")
    if isinstance(heads, str) and heads != "all":
        raise MechdriftError(f"unknown heads {heads!r}: give their numbers, or 'all'.")
    chosen = tuple(range(count)) if heads == "all" else () if heads is None else several(heads)
    if wrong := [head for head in chosen if not 0 <= head < count]:
        raise MechdriftError(f"there is no head {wrong[0]}: this model has the heads 0 to {count - 1}.")
    if along is not None and across is not None:
        raise MechdriftError("patch either along a direction or across it, not both.")
    return Cells(
        site=site,
        layers=tuple(sorted(layer_numbers(loaded, layers))),
        heads=chosen,
        n_heads=count,
        windows=windows,
        units=_units(loaded, site, across if along is None else along),
        part="along" if across is None else "across",
    )


def _units(loaded: LanguageModel, site: str, direction: Tensor | None) -> Float[Tensor, "layer d_model"] | None:
    if direction is None:
        return None
    shape = (loaded.n_layers, loaded.structure.d_model)
    if site == "z" or direction.shape not in (shape, shape[1:]):
        raise MechdriftError(
            f"a direction lies in the residual stream, [{shape[1]}] or [{shape[0]}, {shape[1]}] here; this one has the "
            f"shape {list(direction.shape)}, for site {site!r}."
        )
    return (direction / direction.norm(dim=-1, keepdim=True)).expand(shape)
