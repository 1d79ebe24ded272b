"""Edits of the residual stream along one direction: remove it, or add it, while the model runs.

With a unit vector r, the residual stream (or something written to it) x, and a vector v of any length:

    ablate   x - r (r . x)    at every block's input, attention output and MLP output, so that the stream never holds r
    steer    x + strength v   at the input of one block or several

Both return *edits*, functions for places in the model, and `md.edit` applies them. Two nested `edit` blocks add up;
neither changes a tensor in place. Prefill and decoding with a cache are edited alike, so edits work while generating:

    with md.edit(md.ablate(loaded, r)):
        ...                                         # loaded.model runs without r
    with md.edit(md.steer(loaded, v, layer=12, strength=2.0, where="written")):
        ...                                         # tokens that the model writes are moved, those of the prompt not

A vector is `[d_model]` for all rows; or `[row, d_model]`, one for each row of the batch, so that many directions are
tried in one pass; or a dict of layers with either. `where` chooses the tokens: all; `"written"`, those decoded one at a
time after the prompt; or a mask, such as `role_mask(rendered, batch, ("think",))` for the tokens of some roles.

`weights.orthogonalise` does the same as `ablate` in the weights.

Arditi et al. 2024, https://arxiv.org/abs/2406.11717 (ablation, addition).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechdrift.activations.batching import Batch
from mechdrift.activations.recording import layer_numbers, site_names
from mechdrift.hooks import HookPoint
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.roles import role_span
from mechdrift.records import MechdriftError, Rendered, several

WRITES = ("resid_pre", "attn_out", "mlp_out")
Vector = Float[Tensor, "*row d_model"]
Vectors = Vector | Mapping[int, Vector]
Where = Bool[Tensor, "row pos"] | Literal["written"] | None
Edits = dict[HookPoint, Callable[[Tensor], Tensor]]


def ablate(
    loaded: LanguageModel,
    direction: Vectors,
    *,
    sites: str | Sequence[str] = WRITES,
    layers: int | Sequence[int] | None = None,
    where: Where = None,
) -> Edits:
    """Edits that take a direction out of the residual stream: x - r (r . x) at everything that is written to it.

    Args:
        loaded: one model, `pair.open(side)`.
        direction: `[d_model]`, or `[row, d_model]` for each row of the batch its own, or a dict of layers with
            either. Its length does not matter.
        sites: where the stream is edited; by default at every block's input, attention output and MLP output.
        layers: by default all; a dict of layers ablates in those only.
        where: which tokens: all by default, `"written"` (those that the model writes itself), or a mask from
            `role_mask`.

    Returns:
        Edits for `md.edit`.

    Raises:
        MechdriftError: for a direction that is zero, not finite or of another width, and for layers that do not
            exist or have no vector in a dict.

    Source:
        Arditi et al. 2024, https://arxiv.org/abs/2406.11717.

    Example:
        >>> with md.edit(md.ablate(pair.open("instruct"), dirs.instruct[2, -1])):
        ...     without = md.generate(pair, probes, "instruct", budget=md.Budget(answer=4), dtype="float32")
        >>> len(without.frame) == len(probes)
        True
    """
    return {
        loaded.structure.hook_point(site, layer): partial(_project, unit(vector), where)
        for layer, vector in _by_layer(loaded, direction, layers).items()
        for site in site_names(sites)
    }


def steer(
    loaded: LanguageModel,
    vector: Vectors,
    layer: int | Sequence[int] | None = None,
    strength: float = 1.0,
    *,
    site: str = "resid_pre",
    where: Where = None,
) -> Edits:
    """Edits that add `strength * vector` to the residual stream at the input of one block, or of several.

    Args:
        loaded: one model, `pair.open(side)`.
        vector: `[d_model]`, or `[row, d_model]` for each row of the batch its own, or a dict of layers with either.
            Its length counts: `chosen.vector` is the class difference.
        layer: one or several; not needed with a dict of layers.
        strength: in units of the vector's own length.
        site: where it is added.
        where: which tokens: all by default, `"written"` (those that the model writes itself), or a mask from
            `role_mask`.

    Returns:
        Edits for `md.edit`.

    Raises:
        MechdriftError: when no layer is given, for layers that do not exist, and for vectors that do not fit.

    Source:
        Arditi et al. 2024, https://arxiv.org/abs/2406.11717 (activation addition).

    Example:
        >>> with md.edit(md.steer(pair.open("reasoning"), dirs.instruct[2, -1], layer=2, strength=2.0)):
        ...     steered = md.generate(pair, probes, "reasoning", budget=md.Budget(think=4, answer=4), dtype="float32")
        >>> len(steered.frame) == len(probes)
        True
    """
    if layer is None and not isinstance(vector, Mapping):
        raise MechdriftError(
            "steer needs to know where: give layer=, one or several, or a dict of layers with their vectors."
        )
    if not math.isfinite(strength):
        raise MechdriftError(f"the strength should be a finite number; it is {strength}.")
    return {
        loaded.structure.hook_point(site, number): partial(_add, strength * _finite(own), where)
        for number, own in _by_layer(loaded, vector, layer).items()
    }


def role_mask(rendered: Sequence[Rendered], batch: Batch, roles: str | Sequence[str]) -> Bool[Tensor, "row pos"]:
    """Which tokens of a padded batch have one of the roles? A mask for `where=` of `ablate` and `steer`.

    Args:
        rendered: the prompts of the batch, with the spans of their roles.
        batch: the same prompts as padded token ids.
        roles: role columns such as `think`, `answer[0]` or `think[q4]`.

    Returns:
        Booleans, `[row, pos]`.

    Raises:
        MechdriftError: for a role that a prompt does not have.

    Source:
        Roles are derived from token ids: `mechdrift.probes.rendering`.

    Example:
        >>> from mechdrift.activations.batching import pad
        >>> from mechdrift.activations.prompts import render_probes
        >>> rendered = render_probes(pair, probes, "off", None)
        >>> batch = pad([prompt.ids for prompt in rendered], pad_id=0)
        >>> md.role_mask(rendered, batch, ("think_close",)).any(dim=1).all().item()
        True
    """
    mask = torch.zeros(batch.ids.shape, dtype=torch.bool)
    for row, (prompt, offset) in enumerate(zip(rendered, batch.offsets, strict=True)):
        for start, stop in (role_span(prompt, role) for role in several(roles)):
            mask[row, offset + start : offset + stop] = True
    return mask


def _by_layer(loaded: LanguageModel, vectors: Vectors, layers: int | Sequence[int] | None) -> dict[int, Vector]:
    if isinstance(vectors, Mapping):
        wanted = list(vectors) if layers is None else layer_numbers(loaded, layers)
        if lacking := [layer for layer in wanted if layer not in vectors]:
            raise MechdriftError(f"there is no vector for layer {lacking[0]}: the dict holds {sorted(vectors)}.")
        chosen = {layer: vectors[layer] for layer in wanted}
    else:
        chosen = dict.fromkeys(layer_numbers(loaded, layers), vectors)
    width = loaded.structure.d_model
    for vector in chosen.values():
        if vector.dim() not in (1, 2) or vector.shape[-1] != width:
            raise MechdriftError(
                f"a vector of shape {list(vector.shape)} does not fit this model: give [{width}], or [rows, "
                f"{width}] for a batch of rows."
            )
    if not chosen:
        raise MechdriftError("there is nothing to edit: give at least one layer.")
    return chosen


def unit(vector: Vector) -> Vector:
    """The vector divided by its length, in float64; raises for a vector of zeros."""
    length = _finite(vector).double().norm(dim=-1, keepdim=True)
    if not length.all():
        raise MechdriftError(
            "a vector of zeros has no direction: choose a layer and role where the two classes differ."
        )
    return vector.double() / length


def _finite(vector: Vector) -> Vector:
    if not vector.isfinite().all():
        raise MechdriftError("a vector holds NaN or infinite numbers: find the direction again, in float32.")
    return vector


def _project(direction: Vector, where: Where, x: Tensor) -> Tensor:
    """`x` without its part along the direction, at the tokens of `where`."""
    exact = _exact(x)
    along = _over(direction, exact)
    share = torch.matmul(exact, along.mT) * _chosen(where, x)
    return torch.addcmul(exact, share, along, value=-1).to(x.dtype)


def _add(vector: Vector, where: Where, x: Tensor) -> Tensor:
    exact = _exact(x)
    return (exact + _over(vector, exact) * _chosen(where, x)).to(x.dtype)


def _exact(x: Tensor) -> Tensor:
    """The tensor in float32 or better: in bfloat16, a part of r would remain."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _over(vector: Vector, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row_or_1 1 d_model"]:
    """The vectors of the rows, or one for all, on the tensor's device and in its number format."""
    rows = vector.to(x).view(-1, 1, vector.shape[-1])
    if len(rows) not in (1, len(x)):
        raise MechdriftError(
            f"{len(rows)} vectors were given for a batch of {len(x)} rows: give one for each, or one for all."
        )
    return rows


def _chosen(where: Where, x: Tensor) -> Tensor | int:
    """What to multiply an edit by: 1 where it acts, 0 elsewhere."""
    if where is None:
        return 1
    if isinstance(where, str):  # "written": a pass over one token decodes, a pass over several reads the prompt
        return int(x.shape[1] == 1)
    if where.shape != x.shape[:2]:
        raise MechdriftError(
            f"the mask has the shape {list(where.shape)}, the batch {list(x.shape[:2])}: make it from the same batch."
        )
    return where.to(x.device)[..., None]
