"""Ablation in the weights: a copy of a model that cannot write a direction r to its residual stream.

    W - r (r^T W)    for every matrix that writes to the stream (embedding, attention output projection, MLP down
                     projection) and their biases

The stream is a sum of what embedding, attention and MLPs write. If each of these is projected, so is every sum of them,
and blocks read the same as under `edits.ablate` at all three sites: the two forms are equal, and the copy can be saved
and shared without hooks. Where an architecture puts a norm between attention or MLP and the stream (Gemma 2 and 3,
OLMo 2), the norm's scale depends on what was removed before it. No edit of weights equals ablation there, and
`orthogonalise` says so.

Arditi et al. 2024, https://arxiv.org/abs/2406.11717 (weight orthogonalisation).
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mechdrift.hooks import record
from mechdrift.pairs.loading import GREETING, LanguageModel
from mechdrift.pairs.structure import Structure, find_structure
from mechdrift.records import MechdriftError
from mechdrift.steering.edits import unit

# The largest share of the stream that may still lie along r, by number format.
LEFT_OVER = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


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
            f"{type(model).__name__} also writes to its residual stream in other ways than by its embedding, attention "
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
    """Remove r from everything that a module can write. In the weight of an embedding or a Conv1D, outputs are the
    second axis; in that of a linear layer, the first."""
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
        loaded.decoder(ids, use_cache=False)
    return max(share.item() for share in shares.values())
