"""A change of weights: what a repair adds to a model's parameters. A low-rank change is kept as its two factors.

    W + change,   change = up · down   with up [out, rank] and down [rank, in],   or a tensor of W's own shape

A child that was trained as a LoRA adapter differs from its parent by such a product, and every repair that scales,
removes or projects parts of that difference keeps its rank. `factorise` finds the product: with G random,
Q = orthonormal basis of (A Aᵀ)² A G, and A ≈ Q (Qᵀ A) (Halko, Martinsson & Tropp 2011, https://arxiv.org/abs/0909.4061).
The product is used where it misses less than a thousandth of the change's norm; it then is the change, here and in an
exported adapter. Every other change stays a whole tensor.

Parameters are named by their place in the decoder (`layers.2.mlp.up_proj.weight`, see `pairs.weight_change`), which is
the same in parent and child.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mechdrift.pairs.loading import LanguageModel, cast_weights
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import blocks, smallest_exact
from mechdrift.pairs.structure import find_structure
from mechdrift.pairs.weight_change import tensors_by_place
from mechdrift.records import MechdriftError, Side

MOST_RANK = 64
MISSED = 1e-3  # largest error, as a share of the norm: float32 leaves 1e-5, a change of full rank a third and more
MORE = 8  # random columns beyond the rank (oversampling)


@dataclass(frozen=True, slots=True)
class LowRank:
    """A matrix as a product, in float32."""

    up: Float[Tensor, "out rank"]
    down: Float[Tensor, "rank in"]


Change = LowRank | Tensor
"""What is added to one parameter."""


def dense(change: Change) -> Tensor:
    return change.up @ change.down if isinstance(change, LowRank) else change


def scaled(change: Change, factor: float) -> Change:
    return LowRank(factor * change.up, change.down) if isinstance(change, LowRank) else factor * change


def on_outputs(change: Change, function: Callable[[Tensor], Tensor]) -> Change:
    """A linear function `[out, *] -> [out, *]` of what the change writes."""
    return LowRank(function(change.up), change.down) if isinstance(change, LowRank) else function(change)


def on_inputs(change: Change, function: Callable[[Tensor], Tensor]) -> Change:
    """A linear function `[in, *] -> [in, *]` of what the change reads."""
    if isinstance(change, LowRank):
        return LowRank(change.up, function(change.down.T).T)
    return function(change.T).T


def added(first: Change, second: Change) -> Change:
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        return LowRank(torch.cat([first.up, second.up], dim=1), torch.cat([first.down, second.down]))
    return dense(first) + dense(second)


def size(change: Change) -> float:
    """The Frobenius norm; that of a product without making it."""
    if isinstance(change, LowRank):
        inner = (change.up.T.double() @ change.up.double()) * (change.down.double() @ change.down.T.double())
        return float(inner.sum().clamp(min=0).sqrt())
    return sum(float(part.double().square().sum()) for (part,) in blocks(change)) ** 0.5


def overlap(first: Change, second: Change) -> float:
    """The inner product of two changes of one parameter."""
    return sum(float((one.double() * other.double()).sum()) for one, other in blocks(dense(first), dense(second)))


def factorise(matrix: Tensor, rank: int = MOST_RANK) -> Change:
    """The matrix as a product of at most this rank, where it is one; else the matrix itself."""
    if matrix.dim() != 2:
        return matrix
    rank = min(rank, matrix.numel() // sum(matrix.shape))  # beyond, the factors hold more numbers than the matrix
    whole = matrix.float()
    noise = torch.randn(whole.shape[1], rank + MORE, generator=torch.Generator().manual_seed(0)).to(whole.device)
    basis = torch.linalg.qr(whole @ noise).Q
    for _ in range(2):
        basis = torch.linalg.qr(whole @ torch.linalg.qr(whole.T @ basis).Q).Q
    left, values, right = torch.linalg.svd(basis.T @ whole, full_matrices=False)
    missed = (values.double().square().flip(0).cumsum(0).flip(0)).sqrt()
    kept = min(rank, int((missed > MISSED / 10 * float(whole.norm())).sum()))
    root = values[:kept].sqrt()
    found = LowRank((basis @ left[:, :kept]) * root, root[:, None] * right[:kept])
    return found if float((whole - dense(found)).norm()) <= MISSED * float(whole.norm()) else matrix


class Changes(Mapping[str, Change]):
    """Changes by place. Each is computed when it is asked for, so that those of a large model are never in memory
    together."""

    def __init__(self, makers: Mapping[str, Callable[[], Change]]):
        self.makers = dict(makers)

    @classmethod
    def of(cls, changes: Mapping[str, Change]) -> "Changes":
        return cls({place: partial(_itself, change) for place, change in changes.items()})

    def __getitem__(self, place: str) -> Change:
        return self.makers[place]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)

    def mapped(self, function: Callable[[str, Change], Change], places: Sequence[str] | None = None) -> "Changes":
        """The same function of each change; of some places only, where these are given."""
        chosen = self.makers if places is None else places
        return Changes({place: partial(_mapped, self, function, place) for place in chosen})

    def scaled(self, factor: float, places: Sequence[str] | None = None) -> "Changes":
        return self.mapped(partial(_scaled, factor), places)


def _itself(change: Change) -> Change:
    return change


def _mapped(changes: Changes, function: Callable[[str, Change], Change], place: str) -> Change:
    return function(place, changes[place])


def _scaled(factor: float, place: str, change: Change) -> Change:
    return scaled(change, factor)


def layer_of(place: str) -> int | None:
    """The block that a place is in; None outside of the blocks."""
    head, _, rest = place.partition(".")
    return int(rest.split(".")[0]) if head == "layers" else None


def module_of(place: str) -> str:
    """The module's name in its block, such as `up_proj`."""
    return place.rsplit(".", 2)[-2] if "." in place else place


# From models, and into them.


def parameters_by_place(loaded: LanguageModel) -> dict[str, nn.Parameter]:
    """A model's parameters by their place in the decoder. A parameter that two modules share is listed once."""
    named = dict(loaded.model.named_parameters())
    names = zip(tensors_by_place(loaded), loaded.model.state_dict(), strict=True)
    return {place: named[name] for place, name in names if name in named}


def names_by_place(loaded: LanguageModel) -> dict[str, str]:
    """The model's own names of its parameters, by place."""
    return dict(zip(tensors_by_place(loaded), loaded.model.state_dict(), strict=True))


def weights_of(pair: Pair, side: Side, folder: Path) -> Mapping[str, Callable[[], Tensor]]:
    """One model's parameters by place: the tensors themselves where the model stays in memory, else from files in
    `folder`."""
    loaded = pair.open(side, "float32")
    parameters = parameters_by_place(loaded)
    if any(parameter.device.type == "meta" for parameter in parameters.values()):
        raise MechdriftError("weights that are kept on disk cannot be repaired: load the models without device_map.")
    if pair.keeps(loaded):
        return {place: partial(_itself, parameter.detach()) for place, parameter in parameters.items()}
    stored = {}
    for number, (place, parameter) in enumerate(parameters.items()):
        file = folder / f"{side}-{number}.safetensors"
        save_file({"tensor": smallest_exact(parameter).cpu().contiguous()}, file)
        stored[place] = partial(_read, file)
    return stored


def _read(file: Path) -> Tensor:
    return load_file(file)["tensor"].float()


def difference(after: Mapping[str, Callable[[], Tensor]], before: Mapping[str, Callable[[], Tensor]]) -> Changes:
    """The difference `after - before` of all parameters that both models have in the same shape and that differ."""
    found: dict[str, Callable[[], Change]] = {}
    for place in after:
        if place not in before:
            continue
        ours, theirs = after[place](), before[place]()
        if ours.shape != theirs.shape or torch.equal(ours.float().cpu(), theirs.float().cpu()):
            continue
        change = factorise(ours.float().cpu() - theirs.float().cpu())
        is_kept = isinstance(change, LowRank) or change.dim() < 2
        found[place] = partial(_itself, change) if is_kept else partial(_subtract, after[place], before[place])
    return Changes(found)


def _subtract(after: Callable[[], Tensor], before: Callable[[], Tensor]) -> Tensor:
    return after().float().cpu() - before().float().cpu()


@torch.no_grad()
def with_changes(loaded: LanguageModel, changes: Mapping[str, Change], dtype: str, name: str) -> LanguageModel:
    """A copy of a model in float32 with the changes added to its weights, then cast to `dtype`."""
    model = deepcopy(loaded.model)
    copy = replace(
        loaded,
        source=replace(loaded.source, name=name),
        model=model,
        structure=find_structure(model, loaded.source.layout),
    )
    parameters = parameters_by_place(copy)
    if lacking := [place for place in changes if place not in parameters]:
        raise MechdriftError(
            f"the change was made for another model: {loaded.source.name} has no parameter {lacking[0]}."
        )
    for place, change in ((place, changes[place]) for place in changes):
        own = parameters[place]
        if dense(change).shape != own.shape:
            raise MechdriftError(
                f"the change was made for another model: its {place} is {list(dense(change).shape)}, that of "
                f"{loaded.source.name} {list(own.shape)}."
            )
        own.add_(dense(change).to(own))
    if dtype != "float32":
        cast_weights(model, getattr(torch, dtype))
    return copy
