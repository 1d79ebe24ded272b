"""One model's forward passes over rendered prompts, which keep one vector per prompt, site, layer and role column.

`capture` is the public side of this. Positions are taken, or averaged over a span, inside the hook, for a whole batch
in one step, so that full-length tensors live no longer than their layer. A pass stops after the last wanted layer.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from operator import index
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechdrift.activations.batching import Batch, ForwardBatch, forward_batches
from mechdrift.hooks import HookPoint, in_parts, record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.structure import SITES
from mechdrift.probes.roles import role_span
from mechdrift.records import MechdriftError, Rendered, several
from mechdrift.records.progress import progress

READOUT = "readout"
POSITIONS_AT_ONCE = 1024  # of a long prompt, in modules that compute each position alone


class _Done(Exception):
    """Raised inside a hook to stop a forward pass whose rest is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One model's activations per site and role column and, if asked for, the final states at the readout
    positions."""

    sites: Mapping[str, Float[Tensor, "prompt layer role _"]]
    readout: Float[Tensor, "prompt d_model"] | None

    @property
    def roles(self) -> Float[Tensor, "prompt layer role _"]:
        """The activations, where only one site was recorded."""
        (values,) = self.sites.values()
        return values


def record_roles(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    site: str | Sequence[str],
    layers: Sequence[int],
    columns: Sequence[str],
    description: str = "Recording",
    readout: bool = False,
) -> Recorded:
    """One model's activations at one or several sites, taken or averaged per role column while the forward pass
    runs."""
    sites = site_names(site)
    with progress(description, len(rendered)) as advance:
        found = record_sites(loaded, rendered, sites, layers, columns, readout, advance)
    return Recorded(sites={site: found[site] for site in sites}, readout=found.get(READOUT))


@torch.inference_mode()
def record_sites(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    sites: Sequence[str],
    layers: Sequence[int],
    columns: Sequence[str],
    readout: bool,
    advance: Callable[[int], object] = lambda _: None,
) -> dict[str, Tensor]:
    """The tensors of each site, and of `readout`, in the order of the prompts."""
    if not (rendered and sites and layers and columns):
        raise MechdriftError("there is nothing to record: give at least one prompt, site, layer and role.")
    points = {(site, layer): loaded.structure.hook_point(site, layer) for site in sites for layer in layers}
    kept: dict[str, Tensor] = {}
    for each in forward_batches(loaded, rendered, advance=advance):
        for name, values in _record_batch(each, points, columns, readout).items():
            if name not in kept:
                kept[name] = torch.empty(len(rendered), *values.shape[1:])
            kept[name][each.places] = values
    return kept


def _record_batch(
    each: ForwardBatch, points: dict[tuple[str, int], HookPoint], columns: Sequence[str], readout: bool
) -> dict[str, Tensor]:
    """One batch's activations by site and, if wanted, the final states at its readout positions."""
    means = Means.over([[role_span(prompt, column) for column in columns] for prompt in each.prompts], each.batch)
    found: dict[str, Tensor] = {}
    with (
        long_prompts_in_parts(each.loaded, points),
        record(points, keep=means.of) as seen,
        nullcontext() if readout else _stop_when_all(seen, points),
        suppress(_Done),
    ):
        hidden = each.run()
        if readout:
            found[READOUT] = each.at_readout(hidden)
    unseen = [place for place in points if place not in seen]
    if unseen:
        raise MechdriftError(
            f"{unseen[0][0]!r} of layer {unseen[0][1]} takes no part in this model's forward pass: choose another site."
        )
    for site in dict.fromkeys(site for site, _ in points):
        layers = [seen[place] for place in points if place[0] == site]
        found[site] = torch.stack([values.to(layers[0].device) for values in layers], dim=1).cpu()
    return found


def long_prompts_in_parts(
    loaded: LanguageModel, points: Mapping[tuple[str, int], HookPoint] = MappingProxyType({})
) -> AbstractContextManager[None]:
    """Inside the block, MLPs read a long prompt 1,024 positions at a time; `points` are where something is recorded.

    A prompt runs through one layer after the other, and of each layer only the roles' vectors are kept, so memory is
    that of one layer's states. Running chunks of the prompt through all layers would need the keys and values of all
    layers, which are larger: in SmolLM2-135M and float32, 46 kB per token, where one state is 2.3 kB.
    """
    return in_parts(position_wise(loaded, points), POSITIONS_AT_ONCE)


def position_wise(loaded: LanguageModel, points: Mapping[tuple[str, int], HookPoint]) -> list[nn.Module]:
    """The MLPs that may read a long prompt in parts. Left out are those inside which something is recorded, and
    mixtures of experts, which look at other tokens."""
    component = loaded.structure.components["blocks"].submodules.get("mlp")
    if component is None or getattr(loaded.model.config.get_text_config(), "num_experts_per_tok", None):
        return []
    recorded = {id(point.module) for point in points.values()}
    found = []
    for block in loaded.structure.blocks:
        with suppress(AttributeError):  # a block of another kind, without an MLP of its own
            mlp = block.get_submodule(component.name)
            inside = [id(module) for module in mlp.modules() if module is not mlp]
            if not recorded & set(inside):
                found.append(mlp)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The means over every span of a padded batch, taken in one step. A single position is the mean over one token.

    Only the spans' tokens are read: a NaN or padding elsewhere does not matter. Sums are in float32: a residual stream
    has single activations of 1e5 next to others of 1, which a sum in bfloat16 would lose.
    """

    shape: tuple[int, int]  # of the batch: prompts, positions
    tokens: Int[Tensor, " token"]  # of all spans, one after the other, as places in the flattened batch
    starts: Int[Tensor, " span"]  # where each span's begin

    @classmethod
    def over(cls, spans: Sequence[Sequence[tuple[int, int]]], batch: Batch) -> "Means":
        """`spans[prompt][role]`, half-open, in a batch that is padded on the right."""
        width = batch.ids.shape[1]
        tokens = [
            range(row * width + start, row * width + stop) for row, own in enumerate(spans) for start, stop in own
        ]
        lengths = torch.tensor([len(part) for part in tokens])
        return cls(
            shape=(len(spans), width),
            tokens=torch.tensor(list(chain.from_iterable(tokens))),
            starts=lengths.cumsum(0) - lengths,
        )

    def of(self, tensor: Tensor) -> Float[Tensor, "prompt role width"]:
        """The means, on the tensor's device, in float32. Where heads have an axis of their own, they are put side by
        side."""
        if tensor.dim() < 3 or tuple(tensor.shape[:2]) != self.shape:
            raise MechdriftError(
                f"a site of shape {list(tensor.shape)} is not [prompt, pos, …] and has no roles: choose another site."
            )
        tokens, starts = self.tokens.to(tensor.device), self.starts.to(tensor.device)
        rows = tensor.flatten(0, 1).flatten(1)
        if len(tokens) == len(starts):
            means = rows.index_select(0, tokens).float()
        elif rows.dtype == torch.float32:
            means = torch.nn.functional.embedding_bag(tokens, rows, starts, mode="mean")
        else:
            picked = rows.index_select(0, tokens).float()
            means = torch.nn.functional.embedding_bag(
                torch.arange(len(tokens), device=rows.device), picked, starts, mode="mean"
            )
        return means.view(self.shape[0], -1, rows.shape[-1])


def _stop_when_all(seen: Mapping[tuple[str, int], Tensor], points: Mapping[tuple[str, int], HookPoint]):
    """Hooks that end the forward pass once every point was read.

    Which site of a block comes last differs between architectures, so every point of the last layer gets one. Hooks at
    one point run in the order in which they were set, so these run after those that read.
    """

    def stop(_: Tensor) -> Tensor:
        if len(seen) == len(points):
            raise _Done
        return torch.empty(0)  # `record` keeps what this returns

    last = max(layer for _, layer in points)
    return record({place: point for place, point in points.items() if place[1] == last}, keep=stop)


def check_finite(
    values: Tensor, model: str, items: Sequence[str], layers: Sequence[int], columns: Sequence[str]
) -> None:
    """Raise, naming the place, when a recorded value is NaN or infinite."""
    if bool(torch.isfinite(values.sum())):  # cheap, and enough where it holds
        return
    bad = (~torch.isfinite(values)).any(dim=-1).nonzero()  # finite values may have an infinite sum, so each is tested
    if len(bad):
        prompt, layer, role = min(bad.tolist(), key=lambda place: place[1])
        raise not_finite(model, layers[layer], columns[role], items[prompt])


def not_finite(model: str, layer: int, role: str, item_id: str) -> MechdriftError:
    return MechdriftError(
        f"the {model} model produced a NaN or infinite activation at layer {layer}, role {role}, item {item_id}: "
        "its weights are damaged, or its numbers overflow: load it in another number format (dtype=)."
    )


def standard_sites(loaded: LanguageModel) -> tuple[str, ...]:
    """The standard sites of TransformerLens that this architecture has."""
    found = []
    for site in SITES:
        with suppress(MechdriftError):
            loaded.structure.hook_point(site, 0)
            found.append(site)
    return tuple(found)


def split_heads(values: Float[Tensor, "*place width"], n_heads: int) -> Float[Tensor, "*place head d_head"]:
    """Separate the heads of `z`, which are concatenated as Hugging Face's output projection reads them."""
    return values.unflatten(-1, (n_heads, -1))


def site_names(sites: str | Sequence[str]) -> tuple[str, ...]:
    """The sites without repetitions. A single string is one site."""
    return tuple(dict.fromkeys(several(sites)))


def layer_numbers(loaded: LanguageModel, layers: int | Sequence[int] | None) -> tuple[int, ...]:
    """The given layers without repetitions; all layers for None. Raises where none is given, and for what is no whole
    number."""
    if layers is None:
        return tuple(range(loaded.n_layers))
    found = several(layers)
    if not found or any(isinstance(layer, bool) or not hasattr(layer, "__index__") for layer in found):
        raise MechdriftError(
            f"layers should be whole numbers from 0 to {loaded.n_layers - 1}; they are {layers!r:.60}."
        )
    return tuple(dict.fromkeys(index(layer) for layer in found))
