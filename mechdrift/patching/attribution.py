"""All cells at once, to first order: the donor's difference times the readout's gradient. This is a screen, to be
checked by exact patches.

    effect ~ sum over the cell's positions of (a_donor - a_recipient) . d readout / d a,
             with the gradient at the recipient's activations

One pass of the donor, one of the recipient and one backward pass estimate every cell of a site, however many there are:
attribution patching (Nanda 2023; Syed et al. 2023, https://arxiv.org/abs/2310.10348). It is exact where the readout is
linear in the activation. So it is good for small differences and late layers, and wrong where a norm or an attention
saturates (Kramár et al. 2024, AtP*, https://arxiv.org/abs/2403.00745). Two options help:

    steps=m     integrated gradients: the gradient is averaged over m midpoints of the straight path from the
                recipient's activations to the donor's, at one layer, at all wanted positions together. The estimates of
                a layer then add up to the exact effect of patching all of these positions, up to the discretisation of
                the path. It takes m passes for every layer.
    verify=k    the k largest cells are patched exactly, and as many of the rest, drawn at random. The first show how
                good the screen is, the second what it may have missed: cells outside the top whose exact effect is
                larger than the smallest exact effect in the top.

The replay engine makes exact grids nearly as cheap (`grid`). Attribution is for thousands of heads and positions, and
for large models.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import scipy
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from mechdrift.activations.batching import forward
from mechdrift.activations.prompts import Answers
from mechdrift.activations.readouts import Readout
from mechdrift.hooks import edit, record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.patching.cells import Cells, Donated, Group
from mechdrift.patching.grid import PatchPlan, patch, plan_patch, run_donors
from mechdrift.patching.passes import DonorPass, PromptBatch, check_finite_batch
from mechdrift.records import MechdriftError, PatchGrid, ProbeSet, Side, ThinkMode, Verification

# Prompts in one batch. The backward pass keeps 1.4 MB per token in a model of 135 million parameters.
PROMPTS_WITH_GRADIENTS = 4


def attribute(
    pair: Pair,
    probes: ProbeSet,
    *,
    donor: Side = "instruct",
    recipient: Side = "reasoning",
    site: str = "resid_pre",
    roles: Sequence[str] | str | None = None,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | str | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    source: str = "same",
    readout: Readout | None = None,
    steps: int = 1,
    verify: int = 0,
    seed: int = 0,
) -> PatchGrid:
    """Which of very many cells are worth an exact patch? First-order estimates of what `patch` measures.

    The estimate is the donor's difference times the gradient of the readout at the recipient's activations. It is
    exact where the readout is linear in the activation, and wrong where a norm or an attention saturates.

    Args:
        pair: the two models.
        probes: what is asked.
        donor: the side whose activations are copied.
        recipient: the side that is patched.
        site: as in `patch`.
        roles: as in `patch`.
        layers: as in `patch`.
        heads: as in `patch`.
        think: as in `patch`.
        answers: as in `patch`.
        source: `"same"`, `"twin"` or `"unrelated"`, as in `patch`.
        readout: as in `patch`.
        steps: above 1, the gradient is averaged over this many midpoints of the straight path between the two
            activations (integrated gradients), at one pass per layer and step.
        verify: this many of the largest cells are patched exactly, and as many others drawn at random; see the grid's
            `verification`.
        seed: of that draw.

    Returns:
        A `PatchGrid` whose `engine` names the estimate: `.effect` `[prompt, layer, role]` in log-odds.

    Raises:
        MechdriftError: when the model lacks what was asked for, when a role does not occur in every prompt, or when
            a self-test fails (tokens, replay, identity, last block; see `mechdrift.patching.checks`).

    Source:
        Nanda 2023; Syed et al. 2023, https://arxiv.org/abs/2310.10348; Kramár et al. 2024,
        https://arxiv.org/abs/2403.00745.

    Example:
        >>> screen = md.attribute(pair, probes.where("trigger"), roles=("think_close[-1]",), verify=2)
        >>> screen.effect.shape  # prompt, layer, role
        (8, 4, 1)
        >>> agreement = screen.verification.rank_correlation  # Spearman's, of estimates and exact patches
    """
    _check_options(steps, verify, source)
    plan = plan_patch(
        pair,
        probes,
        donor=donor,
        recipient=recipient,
        site=site,
        roles=roles,
        layers=layers,
        heads=heads,
        think=think,
        answers=answers,
        source=source,
        readout=readout,
        per_batch=PROMPTS_WITH_GRADIENTS,
    )
    given = run_donors(plan, pair.open(donor))
    grid = _estimate_recipient(plan, pair.open(recipient), given, steps)
    if not verify:
        return grid
    exact = partial(
        patch,
        pair,
        probes,
        donor=donor,
        recipient=recipient,
        site=site,
        think=think,
        answers=answers,
        source=source,
        readout=plan.grid.readout,
    )
    return replace(grid, verification=_verify(grid, verify, seed, exact))


def _check_options(steps: int, verify: int, source: str) -> None:
    if steps < 1 or verify < 0:
        raise MechdriftError(f"steps should be 1 or more and verify 0 or more; they are {steps} and {verify}.")
    if source == "random":
        raise MechdriftError("a random difference has a first-order effect only by chance: use patch for this placebo.")


def _estimate_recipient(plan: PatchPlan, loaded: LanguageModel, given: Iterable[DonorPass], steps: int) -> PatchGrid:
    """The grid of estimates, from what `run_donors` gave, batch by batch."""
    grid, cells, columns = plan.grid, plan.cells(loaded), plan.grid.columns
    count = len(grid.probes)
    effect = np.empty((count, len(cells.layers), len(columns), cells.heads_at_once))
    before, after = np.empty(count), np.empty(count)
    for (rows, batch), theirs in zip(grid.each_batch("Attributing", loaded), given, strict=True):
        after[rows] = theirs.readouts
        before[rows], effect[rows] = _estimate(
            loaded, grid.recipient, batch, cells, columns, grid.readout, theirs.donated, steps
        )
    return grid.measured(
        site=plan.site,
        layers=cells.layers,
        roles=cells.names(columns),
        effect=rearrange(effect, "prompt layer role head -> prompt layer (role head)"),
        recipient_readout=before,
        donor_readout=after,
        identity_error=0.0,
        engine="first order" if steps == 1 else f"integrated gradients, {steps} steps",
    )


def _estimate(
    loaded: LanguageModel,
    side: Side,
    batch: PromptBatch,
    cells: Cells,
    columns: Sequence[str],
    readout: Readout,
    donated: Donated,
    steps: int,
) -> tuple[Float[np.ndarray, " prompt"], Float[np.ndarray, "prompt layer role head"]]:
    """The recipient's readouts, and every cell's estimate."""
    groups = batch.groups(columns)
    before, own, gradients = _gradients(loaded, batch, cells, readout, side)
    differences = {layer: _differences(own[layer], groups, layer, donated) for layer in cells.layers}
    if steps > 1:
        gradients = {
            layer: _along_the_path(loaded, batch, cells, readout, layer, own[layer], groups, differences[layer], steps)
            for layer in cells.layers
        }
    effect = np.empty((len(groups), len(cells.layers), cells.heads_at_once))
    heads = list(cells.heads)
    for place, layer in enumerate(cells.layers):
        for row, (group, difference) in enumerate(zip(groups, differences[layer], strict=True)):
            products = (difference * gradients[layer][group.prompt, group.start : group.stop]).double().sum(dim=0)
            effect[row, place] = (
                reduce(products, "(head d_head) -> head", "sum", head=cells.n_heads)[heads] if heads else products.sum()
            )
    shape = "(prompt role) layer head -> prompt layer role head"
    return before, rearrange(effect, shape, prompt=len(batch.rendered))


def _differences(
    own: Tensor, groups: Sequence[Group], layer: int, donated: Donated
) -> list[Float[Tensor, "span width"]]:
    return [donated(layer, group).to(own) - own[group.prompt, group.start : group.stop] for group in groups]


def _gradients(
    loaded: LanguageModel, batch: PromptBatch, cells: Cells, readout: Readout, side: Side
) -> tuple[Float[np.ndarray, " prompt"], dict[int, Tensor], dict[int, Tensor]]:
    """Readouts, and at the patched site of every layer the recipient's values and the gradient of the prompts' summed
    readout.

    Prompts do not see each other, so the gradient of the sum holds each prompt's own.
    """
    points = {layer: loaded.structure.hook_point(cells.site, layer) for layer in cells.layers}
    first = loaded.structure.hook_point("resid_pre", 0)
    with edit({first: lambda x: x.detach().requires_grad_()}), record(points) as seen, torch.enable_grad():
        readouts = _read(loaded, batch, readout)
        gradients = torch.autograd.grad(readouts.sum(), [seen[layer] for layer in cells.layers])
    own = {layer: seen[layer].detach() for layer in cells.layers}
    check_finite_batch(own, side, batch)
    return readouts.detach().double().cpu().numpy(), own, dict(zip(cells.layers, gradients, strict=True))


def _along_the_path(
    loaded: LanguageModel,
    batch: PromptBatch,
    cells: Cells,
    readout: Readout,
    layer: int,
    own: Tensor,
    groups: Sequence[Group],
    differences: Sequence[Tensor],
    steps: int,
) -> Tensor:
    """The gradient at one layer, averaged over midpoints between the recipient's values and the donor's at all patched
    positions."""
    point = loaded.structure.hook_point(cells.site, layer)
    full = torch.zeros_like(own)
    for group, difference in zip(groups, differences, strict=True):
        full[group.prompt, group.start : group.stop] = difference
    total = torch.zeros_like(own)
    for step in range(steps):
        at = (own + (step + 0.5) / steps * full).requires_grad_()
        with edit({point: lambda _, at=at: at}), torch.enable_grad():
            total += torch.autograd.grad(_read(loaded, batch, readout).sum(), at)[0]
    return total / steps


def _read(loaded: LanguageModel, batch: PromptBatch, readout: Readout) -> Float[Tensor, " prompt"]:
    """The readouts as tensors through which gradients flow."""
    logits = loaded.structure.logits(batch.last(forward(loaded, batch.batch))).float()
    return torch.stack(
        [readout.log_odds(row, prompt.item_id) for row, prompt in zip(logits, batch.rendered, strict=True)]
    )


def _verify(grid: PatchGrid, count: int, seed: int, exact_grid: Callable[..., PatchGrid]) -> Verification:
    """Patch the largest cells, and as many others, exactly: `exact_grid` is `patch` with all but the cells given."""
    estimate = grid.effect.mean(axis=0)
    order = np.argsort(-np.abs(estimate), axis=None)
    top, rest = order[:count], order[count:]
    drawn = np.random.default_rng(seed).permutation(rest)[:count]
    places = [np.unravel_index(cell, estimate.shape) for cell in (*top, *drawn)]
    exact = _exact(grid, places, exact_grid)
    frame = pd.DataFrame(
        {
            "layer": [grid.layers[layer] for layer, _ in places],
            "role": [grid.roles[role] for _, role in places],
            "estimate": [estimate[place] for place in places],
            "exact": exact,
            "top": np.arange(len(places)) < len(top),
        }
    )
    smallest = frame[frame.top].exact.abs().min()
    missed: Bool[np.ndarray, " cell"] = (frame[~frame.top].exact.abs() > smallest).to_numpy()
    high = (
        scipy.stats.binomtest(int(missed.sum()), len(missed)).proportion_ci(method="exact").high if len(missed) else 0.0
    )
    return Verification(
        frame=frame,
        rank_correlation=float(scipy.stats.spearmanr(frame.estimate.abs(), frame.exact.abs()).statistic)
        if len(frame) > 2
        else np.nan,
        unscreened=len(rest),
        missed=float(missed.mean() * len(rest)) if len(missed) else 0.0,
        missed_at_most=float(high * len(rest)),
    )


def _exact(grid: PatchGrid, places: Sequence[tuple], exact_grid: Callable[..., PatchGrid]) -> list[float]:
    """Mean exact effects of cells, one grid for each role column."""
    found: dict[tuple[int, str], float] = {}
    wanted: dict[str, list[tuple[int, str]]] = {}
    for layer, role in places:
        name = grid.roles[role]
        wanted.setdefault(name.rpartition(".h")[0] or name, []).append((grid.layers[layer], name))
    for column, cells in wanted.items():
        heads = sorted({int(name.rpartition(".h")[2]) for _, name in cells if name != column})
        exact = exact_grid(
            roles=(column,), layers=sorted({layer for layer, _ in cells}), **({"heads": heads} if heads else {})
        )
        means = exact.effect.mean(axis=0)
        found |= {(layer, name): means[exact.layers.index(layer), exact.roles.index(name)] for layer, name in cells}
    return [float(found[grid.layers[layer], grid.roles[role]]) for layer, role in places]
