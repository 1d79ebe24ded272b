"""Where a model keeps its residual stream: TransformerLens site names resolved to Hugging Face modules.

TransformerLens 4 knows the layout of some 140 architectures: each architecture adapter carries a `component_mapping`
from its own component names to Hugging Face module paths, and each block has a table of hook aliases. We take both from
there, so that no model family needs code of its own. But we read the tensors from the Hugging Face modules: the
bridge replaces attention by an eager re-implementation, whose memory is quadratic in the prompt length.

    "resid_pre"      -> the block's input                 "attn_out"  -> the attention module's output
    "resid_mid"      -> the second norm's input           "mlp_out"   -> the MLP's output
    "resid_post"     -> the block's output                "z"         -> the output projection's input
    "attn.q.hook_out", "mlp.hook_in", ...                 any component of the adapter, by its own path

`verify` proves the map at load: the recorded block outputs must equal Hugging Face's own `hidden_states`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from mechdrift.errors import reason
from mechdrift.hooks import HookPoint, record
from mechdrift.pairs.heads import after_decoder
from mechdrift.pairs.layout import Layout
from mechdrift.records import MechdriftError

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")
ALIASES = {"z": "attn.o.hook_in"}
MODULES = {
    "layer": "",
    "attn": "attn",
    "mlp": "mlp",
    "norms": "",
    "q": "attn.q",
    "k": "attn.k",
    "v": "attn.v",
    "qkv": "attn.qkv",
    "o": "attn.o",
    "gate": "mlp.gate",
    "up": "mlp.in",
    "down": "mlp.out",
}
"""Modules of a block: the names that users give, and TransformerLens' paths for them."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The parts of a decoder that mechdrift reads: blocks, final norm, unembedding, and named sites inside a block."""

    blocks: Sequence[nn.Module]
    final_norm: nn.Module
    unembed: nn.Module
    components: dict  # the TransformerLens component mapping, or a layout's own in the same shape
    n_heads: int
    d_model: int
    layout: Layout | None = None  # by which the parts were found, where not by an adapter of TransformerLens
    head: Callable[[Tensor], Tensor] | None = None  # from final states to logits, where `unembed` alone does not do it

    def logits(self, states: Tensor) -> Tensor:
        """The model's logits for final states."""
        return self.unembed(states) if self.head is None else self.head(states)

    def hook_point(self, site: str, layer: int) -> HookPoint:
        """The module and end where `site` of block `layer` can be read or replaced."""
        if not 0 <= layer < len(self.blocks):
            raise MechdriftError(f"there is no layer {layer}: this model has the layers 0 to {len(self.blocks) - 1}.")
        block = self.components["blocks"]
        names = ALIASES.get(site) or block.hook_aliases.get(f"hook_{site}") or site
        # Of several names, the first that this architecture has counts, as in TransformerLens.
        names = [names] if isinstance(names, str) else names
        *path, hook = next((name for name in names if name.split(".")[0] in block.submodules), names[0]).split(".")
        if hook not in ("hook_in", "hook_out"):
            if site in SITES:
                raise MechdriftError(f"this architecture has no {site!r}: {_why_not(site, block)}.")
            raise MechdriftError(
                f"unknown site {site!r}: use one of {', '.join(SITES)} or a component hook such as 'attn.q.hook_out'."
            )
        module, component = self.blocks[layer], block
        for part in path:
            if part not in component.submodules:
                raise MechdriftError(f"this architecture has no {site!r}: block has no component {part!r}.")
            component = component.submodules[part]
            try:
                module = module.get_submodule(component.name)
            except AttributeError as error:
                # The bridge splits this component from a joint module, such as a fused query-key-value projection.
                raise MechdriftError(
                    f"{site!r} cannot be hooked: layer {layer} has no module of its own for {part!r}, as where a layer "
                    "mixes tokens without attention, or projections are fused."
                ) from error
        return HookPoint(module, "input" if hook == "hook_in" else "output")

    def parameters(self, layer: int, module: str) -> dict[str, nn.Parameter]:
        """The parameters of a block that belong to one of MODULES, by their names in the block; empty where the block
        has no such module."""
        block, components = self.blocks[layer], self.components["blocks"].submodules
        own = dict(block.named_parameters())
        if module == "layer":
            return own
        if module not in MODULES:
            raise MechdriftError(f"unknown module {module!r}: use one of {', '.join(MODULES)}.")
        if module == "norms":
            norms = {component.name for name, component in components.items() if name.startswith("ln")}
            inside = {
                path for path in (name.rpartition(".")[0] for name in own) if "norm" in path.rpartition(".")[2]
            }  # of queries and keys
            paths = norms | inside
        else:
            part, _, inner = MODULES[module].partition(".")
            component = components.get(part)
            path = component.name if component is not None else ""
            if inner and component is not None:
                path = f"{path}.{component.submodules[inner].name}" if inner in component.submodules else ""
            paths = {path} - {""}
        return {name: value for name, value in own.items() if any(name.startswith(f"{path}.") for path in paths)}


def _why_not(site: str, block: Any) -> str:
    """Why a block has no such site, as the end of an error. Where sublayers are scaled before they are added (Granite),
    a sublayer's output is not what it adds to the stream, so no site may be called `attn_out` or `mlp_out`."""
    if site == "resid_mid":
        return "its blocks have no point between attention and MLP"
    parts = ", ".join(f"{name}.hook_out" for name in block.submodules if not name.startswith("ln"))
    why = "as where a sublayer's output is scaled before it is added"
    return f"TransformerLens names none in its blocks, {why}; use {parts}"


def find_structure(model: PreTrainedModel, layout: Layout | None = None) -> Structure:
    """Locate blocks, final norm and unembedding through the TransformerLens adapter of the model's architecture, or
    where a `layout` says. A class that TransformerLens does not know is tried at the paths that most decoders have."""
    found = _find(model, layout)
    return replace(found, head=after_decoder(model, decoder_of(model), found.unembed))


def _find(model: PreTrainedModel, layout: Layout | None) -> Structure:
    if layout is not None:
        return _by_hand(model, layout)
    from transformer_lens.factories.architecture_adapter_factory import (
        SUPPORTED_ARCHITECTURES,
        ArchitectureAdapterFactory,
    )
    from transformer_lens.model_bridge.sources.transformers.source import build_bridge_config_from_hf

    architecture = type(model).__name__
    if architecture not in SUPPORTED_ARCHITECTURES:
        return _by_hand(model, _common_layout(model, f"does not know {architecture}"))
    try:
        bridge_config = build_bridge_config_from_hf(model.config, architecture, architecture, model.dtype)
        components = ArchitectureAdapterFactory.select_architecture_adapter(bridge_config).component_mapping or {}
        blocks = model.get_submodule(components["blocks"].name)
        final_norm = model.get_submodule(components["ln_final"].name)
    except ImportError as error:  # TransformerLens needs an image library here, although no image is read
        return _by_hand(
            model, _common_layout(model, f"has no decoder layout for {architecture} here ({reason(error)})")
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise MechdriftError(
            f"TransformerLens has no decoder layout for {architecture} ({error}); mechdrift needs a decoder-only model."
        ) from error
    return Structure(
        blocks=tuple(blocks),
        final_norm=final_norm,
        unembed=model.get_output_embeddings(),
        components=components,
        n_heads=bridge_config.n_heads,
        d_model=bridge_config.d_model,
    )


def _common_layout(model: PreTrainedModel, why: str) -> Layout:
    """The paths that nearly all decoders of transformers have; `verify` and `prove_guess` prove them. Attention and MLP
    are left out where some block names them otherwise. Raises where the blocks are elsewhere."""
    decoder = model.get_decoder()
    path = next((name for name, module in model.named_modules() if module is decoder), "")
    if not path or not _has_module(decoder, "layers.0") or not _has_module(decoder, "norm"):
        raise MechdriftError(
            f"TransformerLens {why}: say where its modules are with layout= (--layout on the command line), or choose "
            "a model of one of the architectures it supports."
        )
    where = Layout(blocks=f"{path}.layers", norm=f"{path}.norm")
    blocks = decoder.get_submodule("layers").children()
    if not all(_has_module(block, part) for block in blocks for part in ("self_attn.o_proj", "mlp")):
        return where
    has_norm = _has_module(decoder, "layers.0.post_attention_layernorm")
    norm = "post_attention_layernorm" if has_norm else ""
    return replace(where, attn="self_attn", mlp="mlp", mlp_norm=norm, o="o_proj")


def prove_guess(model: PreTrainedModel, structure: Structure, layout: Layout, ids: Sequence[int]) -> Structure:
    """The structure at the common paths, if its attention and MLP add up to what a block adds to the stream; else one
    without them: they are scaled or normed before they are added, which no path says."""
    try:
        verify_layout(model, structure, layout, ids)
    except MechdriftError:
        return replace(_by_hand(model, replace(layout, attn="", mlp="", mlp_norm="", o="")), head=structure.head)
    return structure


def _has_module(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _by_hand(model: PreTrainedModel, layout: Layout) -> Structure:
    layout.check(model)
    config, unembed = model.config.get_text_config(), model.get_output_embeddings()
    unembed = model.get_submodule(layout.head) if layout.head else unembed
    if unembed is None:
        raise MechdriftError(f"{type(model).__name__} has no output embeddings: give the layout a head.")
    n_heads = layout.n_heads or getattr(config, "num_attention_heads", None)
    if n_heads is None:
        raise MechdriftError(
            f"the config of {type(model).__name__} has no num_attention_heads: give the layout n_heads."
        )
    return Structure(
        blocks=tuple(model.get_submodule(layout.blocks)),
        final_norm=model.get_submodule(layout.norm),
        unembed=unembed,
        components=layout.components(),
        n_heads=n_heads,
        d_model=next(model.get_input_embeddings().parameters()).shape[1],
        layout=layout,
    )


@torch.inference_mode()
def verify_layout(model: PreTrainedModel, structure: Structure, layout: Layout, ids: Sequence[int]) -> None:
    """Raise unless the parts of a layout that `verify` does not test are where the layout says.

    The decoder's output has to equal the output of its final norm, the head has to turn it into the logits, and
    attention and MLP have to add up to what the block adds to the residual stream.
    """
    tokens, name = torch.tensor([list(ids)], device=model.device), type(model).__name__
    sites = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    has_sums = bool(layout.sums and layout.attn and layout.mlp)
    points = {(s, n): structure.hook_point(s, n) for s in sites for n in range(len(structure.blocks)) if has_sums}
    points["norm", 0] = HookPoint(structure.final_norm, "output")
    with record(points) as seen:
        logits = model(tokens, use_cache=False).logits
    final = getattr(decoder_of(model)(tokens, use_cache=False), "last_hidden_state", None)
    if final is None or not _close(final, seen.get(("norm", 0), final[:0])):
        raise MechdriftError(
            f"the last_hidden_state of {name}'s decoder is not what the layout's norm={layout.norm!r} gives: the "
            "class should name its decoder as base_model_prefix."
        )
    if not _orders_alike(structure.unembed(final), logits):
        raise MechdriftError(
            f"the layout's head={layout.head!r} does not turn the last hidden state of {name} into its logits."
        )
    for layer in range(len(structure.blocks) if has_sums else 0):
        before, attn, mlp, after = (seen[site, layer] for site in sites)
        if not _close(before + attn + mlp, after):
            raise MechdriftError(
                f"in block {layer} of {name}, attn={layout.attn!r} and mlp={layout.mlp!r} do not add up to what the "
                "block adds to the residual stream: name the modules that write to it as attn_out and mlp_out, or "
                "give sums = false where it scales what they write."
            )


def with_cache(module: nn.Module, cache: Cache) -> dict[str, Any]:
    """The arguments that hand a model its key-value cache. transformers 5.40 renames the argument from
    `past_key_values` to `cache`."""
    accepted = inspect.signature(module.forward).parameters
    return {"cache" if "cache" in accepted else "past_key_values": cache, "use_cache": True}


def _orders_alike(ours: Tensor, logits: Tensor) -> bool:
    """Whether a head gives the logits, or what a class only scales or bounds to make them."""
    return ours.shape == logits.shape and (_close(ours, logits) or torch.equal(ours.argmax(-1), logits.argmax(-1)))


def decoder_of(model: PreTrainedModel) -> Any:
    """The model without its head: its `base_model`. Where a class names no such part (Llama 4), the outermost one that
    has the embedding and not the head."""
    if model.base_model is not model:
        return model.base_model
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    inner = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    return next((part for part in inner if embed in (own := set(part.modules())) and head not in own), model)


def _close(ours: Tensor, expected: Tensor) -> bool:
    """Whether two tensors differ by no more than rounding, in the model's number format."""
    scale = max(1.0, expected.abs().max().item())
    return _difference(ours, expected) <= 16 * torch.finfo(expected.dtype).eps * scale * expected.shape[-1] ** 0.5


@torch.inference_mode()
def verify(model: PreTrainedModel, structure: Structure, ids: Sequence[int]) -> float:
    """The largest difference between recorded block outputs and Hugging Face's hidden states. Raises where it exceeds
    1e-5 of the largest activation (or 1e-5, if that is below 1).

    Hugging Face's last hidden state is taken after the final norm, so the last block is checked through that norm.
    """
    tokens = torch.tensor([list(ids)], device=model.device)
    points = {layer: structure.hook_point("resid_post", layer) for layer in range(len(structure.blocks))}
    with record(points) as seen:
        output = model(tokens, output_hidden_states=True, use_cache=False)
    states = output.hidden_states or ()
    reference = states[1:]
    if len(reference) != len(structure.blocks):
        raise MechdriftError(
            f"{type(model).__name__} gives {len(reference)} hidden states for {len(structure.blocks)} blocks, so "
            "the place of its blocks cannot be proved: mechdrift needs one state for each block (output_hidden_states)."
        )
    last = len(structure.blocks) - 1
    worst = 0.0
    for layer, expected in enumerate(reference):
        ours = structure.final_norm(seen[layer]) if layer == last else seen[layer]
        worst = max(worst, _difference(ours.to(expected.device), expected))
    scale = max(1.0, *(expected.nan_to_num(posinf=0, neginf=0).abs().max().item() for expected in reference))
    if worst > 1e-5 * scale and all(_close(seen[layer].to(states[layer].device), states[layer]) for layer in seen):
        raise MechdriftError(
            f"the hidden states of {type(model).__name__} begin after its first block, as those of state-space models "
            "(Mamba, RWKV) do: mechdrift needs a decoder-only transformer, whose hidden states begin with the "
            "embedding."
        )
    if worst > 1e-5 * scale:
        raise MechdriftError(
            f"recorded block outputs of {type(model).__name__} differ from Hugging Face's hidden states by "
            f"{worst:.1e}: say where its modules are with layout= (--layout on the command line)."
        )
    if not _close(structure.logits(states[-1]), output.logits):
        raise MechdriftError(
            f"{type(model).__name__} computes its logits from more than its last hidden states: mechdrift needs a "
            "decoder-only transformer."
        )
    return worst


def _difference(ours: Tensor, expected: Tensor) -> float:
    """The largest absolute difference. NaN in both places counts as equal: damaged weights are not a fault of the
    structure, and recording names them (`recording.check_finite`)."""
    if ours.shape != expected.shape:
        return float("inf")
    same = (ours == expected) | (ours.isnan() & expected.isnan())
    return (ours - expected).abs().nan_to_num(nan=float("inf")).masked_fill(same, 0).max().item()
