"""Where a model keeps its residual stream: TransformerLens site names resolved to Hugging Face modules.

TransformerLens 4 knows the layout of some 140 architectures: each architecture adapter carries a `component_mapping`
from its own component names to Hugging Face module paths, and each block a table of hook aliases. We take both from
there, so no model family needs code of its own, but read the tensors from the Hugging Face modules themselves: the
bridge replaces attention by an eager re-implementation, which costs memory quadratic in the prompt length.

    "resid_pre"      -> the block's input                 "attn_out"  -> the attention module's output
    "resid_mid"      -> the second norm's input           "mlp_out"   -> the MLP's output
    "resid_post"     -> the block's output                "z"         -> the output projection's input
    "attn.q.hook_out", "mlp.hook_in", ...                 any component of the adapter, by its own path

`verify` proves the map at load: the recorded block outputs must equal Hugging Face's own `hidden_states`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mechdrift.hooks import HookPoint, record
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
"""Modules of a block by the names that users say, and where TransformerLens has them."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The parts of a decoder that mechdrift reads: blocks, final norm, unembedding, and named sites inside a block."""

    blocks: Sequence[nn.Module]
    final_norm: nn.Module
    unembed: nn.Module
    components: dict  # the TransformerLens component mapping
    n_heads: int
    d_model: int

    def hook_point(self, site: str, layer: int) -> HookPoint:
        """The module and end where `site` of block `layer` can be read or replaced."""
        if not 0 <= layer < len(self.blocks):
            raise MechdriftError(f"there is no layer {layer}: this model has the layers 0 to {len(self.blocks) - 1}.")
        block = self.components["blocks"]
        name = ALIASES.get(site) or block.hook_aliases.get(f"hook_{site}") or site
        *path, hook = name.split(".")
        if hook not in ("hook_in", "hook_out"):
            if site in SITES:
                raise MechdriftError(
                    f"this architecture has no {site!r}: its attention and MLP read the same residual stream."
                )
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
            except (
                AttributeError
            ) as error:  # the bridge splits it from a joint module, such as a fused query-key-value projection
                raise MechdriftError(
                    f"{site!r} cannot be hooked: this architecture has no module of its own for {part!r}."
                ) from error
        return HookPoint(module, "input" if hook == "hook_in" else "output")

    def parameters(self, layer: int, module: str) -> dict[str, nn.Parameter]:
        """A block's parameters that belong to one of MODULES, by their names in the block; empty where there is no such
        module."""
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


def find_structure(model: PreTrainedModel) -> Structure:
    """Locate blocks, final norm and unembedding through the TransformerLens adapter of the model's architecture."""
    from transformer_lens.factories.architecture_adapter_factory import (
        SUPPORTED_ARCHITECTURES,
        ArchitectureAdapterFactory,
    )
    from transformer_lens.model_bridge.sources.transformers.source import build_bridge_config_from_hf

    architecture = type(model).__name__
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise MechdriftError(
            f"TransformerLens does not know {architecture}: choose a model of one of the architectures it supports."
        )
    try:
        bridge_config = build_bridge_config_from_hf(model.config, architecture, architecture, model.dtype)
        components = ArchitectureAdapterFactory.select_architecture_adapter(bridge_config).component_mapping or {}
        blocks = model.get_submodule(components["blocks"].name)
        final_norm = model.get_submodule(components["ln_final"].name)
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


@torch.inference_mode()
def verify(model: PreTrainedModel, structure: Structure, ids: Sequence[int]) -> float:
    """Largest difference between recorded block outputs and Hugging Face's hidden states; raises unless it is tiny.

    Hugging Face's last hidden state is taken after the final norm, so the last block is checked through that norm.
    """
    tokens = torch.tensor([list(ids)], device=model.device)
    points = {layer: structure.hook_point("resid_post", layer) for layer in range(len(structure.blocks))}
    with record(points) as seen:
        reference = model(tokens, output_hidden_states=True, use_cache=False).hidden_states[1:]
    last = len(structure.blocks) - 1
    worst = 0.0
    for layer, expected in enumerate(reference):
        ours = structure.final_norm(seen[layer]) if layer == last else seen[layer]
        worst = max(worst, _difference(ours.to(expected.device), expected))
    scale = max(1.0, *(expected.nan_to_num(posinf=0, neginf=0).abs().max().item() for expected in reference))
    if worst > 1e-5 * scale:
        raise MechdriftError(
            f"recorded block outputs of {type(model).__name__} differ from Hugging Face's hidden states by "
            f"{worst:.1e}; "
            "this architecture is not supported."
        )
    return worst


def _difference(ours: Tensor, expected: Tensor) -> float:
    """The largest difference. NaN in both is agreement: damaged weights are no fault of the map, and are named when
    recorded."""
    if ours.shape != expected.shape:
        return float("inf")
    same = (ours == expected) | (ours.isnan() & expected.isnan())
    return (ours - expected).abs().nan_to_num(nan=float("inf")).masked_fill(same, 0).max().item()
