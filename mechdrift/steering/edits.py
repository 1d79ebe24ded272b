"""Edits of the residual stream along one direction: take it out, add it, at run time or in the weights.

With r a unit vector, x the residual stream or something written to it, and v a vector with a length of its own:

    ablate         x - r (r . x)    the stream never holds r: at every block's input, attention output and MLP output
    steer          x + strength v   at the input of one block or several
    orthogonalise  W - r (r^T W)    a copy of the model none of whose writing matrices (embedding, attention output
                   projection, MLP
                                    down projection, and their biases) can write r: ablation without hooks, to save and
                                    to share

`ablate` and `steer` return *edits*, functions for places in the model, and `edit` makes them act. Two `edit` blocks,
one within the other, add up; neither changes a tensor in place. Prefill and decoding with a cache are edited alike, so
they work while generating:

    with md.edit(md.ablate(loaded, r)):
        ...                                         # loaded.model runs without r
    with md.edit(md.steer(loaded, v, layer=12, strength=2.0, where="written")):
        ...                                         # only tokens that the model writes itself are moved, not the
                                                    prompt's

Which vector: `[d_model]` for all; `[row, d_model]` for each row of the batch its own, so that many directions are tried
in one pass; or a dict of layers, each with either. Which tokens: all; `"written"`, those decoded one at a time after
the prompt; or a mask, `role_mask(rendered, batch, ("think",))` for the tokens of some roles.

**Why the two forms are one.** The stream is a sum of what embedding, attention and MLPs write. If each of those is
projected, every sum of them is, and what a block reads in either form is the same: `ablate` at all three sites is
exact, not an approximation. Where an architecture puts a norm between attention or MLP and the stream (Gemma 2 and 3,
OLMo 2), the norm's scale depends on what was removed before it: no edit of weights equals ablation there, and
`orthogonalise` says so instead.

Arditi et al. 2024, https://arxiv.org/abs/2406.11717 (ablation, addition, weight orthogonalisation).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mechdrift.activations.batching import Batch
from mechdrift.hooks import HookPoint, record
from mechdrift.pairs.loading import GREETING, LanguageModel
from mechdrift.pairs.structure import Structure, find_structure
from mechdrift.probes.roles import role_span
from mechdrift.records import MechdriftError, Rendered

WRITES = ("resid_pre", "attn_out", "mlp_out")
LEFT_OVER = {
    torch.float64: 1e-6,
    torch.float32: 1e-4,
    torch.bfloat16: 0.05,
    torch.float16: 0.01,
}  # share of the stream along r

Vector = Float[Tensor, "*row d_model"]
Vectors = Vector | Mapping[int, Vector]
Where = Bool[Tensor, "row pos"] | Literal["written"] | None
Edits = dict[HookPoint, Callable[[Tensor], Tensor]]


def ablate(
    loaded: LanguageModel,
    direction: Vectors,
    *,
    sites: Sequence[str] = WRITES,
    layers: Sequence[int] | None = None,
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
            exist.

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
        for site in sites
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
    layers = (layer,) if isinstance(layer, int) else layer
    return {
        loaded.structure.hook_point(site, number): partial(_add, strength * _finite(own), where)
        for number, own in _by_layer(loaded, vector, layers).items()
    }


def role_mask(rendered: Sequence[Rendered], batch: Batch, roles: Sequence[str]) -> Bool[Tensor, "row pos"]:
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
        for start, stop in (role_span(prompt, role) for role in roles):
            mask[row, offset + start : offset + stop] = True
    return mask


def _by_layer(loaded: LanguageModel, vectors: Vectors, layers: Sequence[int] | None) -> dict[int, Vector]:
    if isinstance(vectors, Mapping):
        chosen = {layer: vector for layer, vector in vectors.items() if layers is None or layer in layers}
    else:
        chosen = dict.fromkeys(range(loaded.n_layers) if layers is None else layers, vectors)
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
    """The vector divided by its length, in float64; raises where there is no direction."""
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
    """`x` without its part along the direction. `x` is `[row pos d_model]`, which the mask may contradict
    (`_chosen`)."""
    exact = _exact(x)
    along = _over(direction, exact)
    share = torch.matmul(exact, along.mT) * _chosen(where, x)
    return torch.addcmul(exact, share, along, value=-1).to(x.dtype)


def _add(vector: Vector, where: Where, x: Tensor) -> Tensor:
    exact = _exact(x)
    return (exact + _over(vector, exact) * _chosen(where, x)).to(x.dtype)


def _exact(x: Tensor) -> Tensor:
    """The tensor in float32 at least: in bfloat16 a remainder of r would stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _over(vector: Vector, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row_or_1 1 d_model"]:
    """The vector of every row, or one for all, on the tensor's device and of its dtype."""
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
    if isinstance(where, str):  # a cache holds what came before; a pass over several tokens is the prompt's
        return int(x.shape[1] == 1)
    if where.shape != x.shape[:2]:
        raise MechdriftError(
            f"the mask has the shape {list(where.shape)}, the batch {list(x.shape[:2])}: make it from the same batch."
        )
    return where.to(x.device)[..., None]


# The weight form.


@torch.no_grad()
def orthogonalise(loaded: LanguageModel, direction: Float[Tensor, " d_model"]) -> LanguageModel:
    """A copy of a model whose weights cannot write a direction: W - r (r^T W) in everything that writes to the stream.

    Its logits are those of `ablate` at run time, without hooks, so it can be saved and shared. A tied unembedding
    is untied and stays as it was.

    Args:
        loaded: one model, `pair.open(side)`.
        direction: `[d_model]`; its length does not matter.

    Returns:
        A `LanguageModel`; `.model` is the Hugging Face model.

    Raises:
        MechdriftError: where no such copy exists: a norm stands between attention or MLP and the stream (Gemma 2
            and 3, OLMo 2), or the model writes to its stream in other ways.

    Source:
        Arditi et al. 2024, https://arxiv.org/abs/2406.11717 (weight orthogonalisation).

    Example:
        >>> copy = md.orthogonalise(pair.open("instruct"), dirs.instruct[2, -1])
        >>> copy.model is pair.open("instruct").model
        False
    """
    _check_that_weights_write(loaded)
    r = unit(direction)
    model = deepcopy(loaded.model)
    copy = replace(loaded, model=model, structure=find_structure(model, loaded.source.layout))
    _untie(copy)
    for module in _writers(copy):
        _remove(module, r)
    rest, limit = _left_over(copy, r), LEFT_OVER[model.dtype]
    if rest > limit:
        raise MechdriftError(
            f"{type(model).__name__} also writes to its residual stream by other ways than its embedding, attention "
            f"and MLP weights ({rest:.0%} of it lies along the direction after they were edited): use ablate."
        )
    return copy


def _untie(loaded: LanguageModel) -> None:
    """Give an unembedding that shares the embedding's weights its own copy of them."""
    unembed, shared = loaded.structure.unembed, loaded.model.get_input_embeddings().get_parameter("weight")
    if unembed.get_parameter("weight") is shared:
        unembed.weight = nn.Parameter(shared.clone(), requires_grad=False)
        loaded.model.config.get_text_config().tie_word_embeddings = loaded.model.config.tie_word_embeddings = False


def _check_that_weights_write(loaded: LanguageModel) -> None:
    """Raise unless attention and MLP add their output to the stream as it is, and the weights are at hand."""
    if any(parameter.device.type == "meta" for parameter in loaded.model.parameters()):
        raise MechdriftError(
            "weights that are kept on disk cannot be edited: load the model without device_map, or use ablate."
        )
    for site in ("attn_out", "mlp_out"):
        point = loaded.structure.hook_point(site, 0)
        if point != loaded.structure.hook_point(f"{site.removesuffix('_out')}.hook_out", 0):
            raise MechdriftError(
                f"{type(loaded.model).__name__} normalises what its attention and MLP write, after their last weights: "
                "no edit of weights equals ablation there, so use ablate."
            )


def _writers(loaded: LanguageModel) -> Iterator[nn.Module]:
    """The modules whose output is added to the residual stream: embeddings, attention output and MLP down
    projections."""
    structure = loaded.structure
    for name in ("embed", "pos_embed"):
        if name in structure.components:
            yield loaded.model.get_submodule(structure.components[name].name)
    for layer in range(loaded.n_layers):
        for part, last in (("attn", "o"), ("mlp", "out")):
            yield _last_module(structure, layer, part, last)


def _last_module(structure: Structure, layer: int, part: str, last: str) -> nn.Module:
    try:
        return structure.hook_point(f"{part}.{last}.hook_out", layer).module
    except MechdriftError as error:
        raise MechdriftError(
            f"layer {layer} has no single matrix that writes its {part} output, as in a mixture of experts: use ablate."
        ) from error


def _remove(module: nn.Module, r: Float[Tensor, " d_model"]) -> None:
    """Take r out of all that a module can write. An embedding's rows and a Conv1D's columns are outputs, a linear
    layer's rows are."""
    weights = dict(module.named_parameters(recurse=False))
    weight = weights["weight"].double()
    r = r.to(weight.device)
    if isinstance(module, nn.Embedding | Conv1D):
        weight -= torch.outer(weight @ r, r)
    else:
        weight -= torch.outer(r, r @ weight)
    weights["weight"].copy_(weight)
    if "bias" in weights:
        bias = weights["bias"].double()
        weights["bias"].copy_(bias - r * (r @ bias))


def _left_over(loaded: LanguageModel, r: Float[Tensor, " d_model"]) -> float:
    """The largest share of the residual stream that still lies along r, over the blocks and the tokens of a
    greeting."""
    ids = torch.tensor([loaded.tokenizer.encode(GREETING)], device=loaded.device)
    sites = [(site, layer) for layer in range(loaded.n_layers) for site in ("resid_pre", "resid_post")]
    points = {place: loaded.structure.hook_point(*place) for place in sites}
    with record(points, keep=lambda x: ((x.double() @ r.to(x.device)).abs() / x.double().norm(dim=-1)).max()) as shares:
        loaded.model.base_model(ids, use_cache=False)
    return max(share.item() for share in shares.values())
