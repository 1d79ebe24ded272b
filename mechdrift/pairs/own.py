"""Your own loaded models: read as they are, and left as they were.

mechdrift records through hooks, generates in evaluation mode, and swaps weights for a moment. None of that may show on
an object that belongs to the caller. So `share` copies a model's modules and not its tensors: the copy has hooks,
training flags and parameters of its own, and they lie in the caller's memory, on the caller's device, in the caller's
number format, quantised or not. Nothing is moved, cast, closed or deleted.

    a Hugging Face model       is used as it is
    a peft model               has its adapters merged in the copy, as `load_pair` does; only the matrices that they
                               change take memory. On quantised weights merging would round, so adapters stay unmerged
    the model inside a peft    is used without the adapters, where the other side is that peft model: peft writes its
    model                      layers into the model that it was given
    a `TransformerBridge`      is used without the modules that TransformerLens puts around its Hugging Face model
"""

import copy
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mechdrift.pairs.adapters import changes_its_base, merge
from mechdrift.pairs.layout import Layout
from mechdrift.pairs.loading import LanguageModel, ModelSource, check_tokenizer, prove
from mechdrift.records import MechdriftError


def own_model(
    model: Any, tokenizer: PreTrainedTokenizerBase, other: Any = None, layout: Layout | None = None
) -> LanguageModel:
    """A caller's model, ready to be recorded; `other` is the other side of its pair. Raises unless it is a decoder of
    transformers, peft or TransformerLens."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise MechdriftError(
            f"a {type(tokenizer).__name__} is no tokenizer: give the one that AutoTokenizer loads for the model, or "
            "the one of its processor."
        )
    if _is_peft(other) and other.get_base_model() is model:
        shared, name = _without_adapters(other), _name(model)
    else:
        shared, name = _own_copy(model), _name(model)
    source = ModelSource(name=name, path="", layout=layout)
    check_tokenizer(name, tokenizer)
    return prove(source, shared.eval(), tokenizer)


def number_format(model: PreTrainedModel) -> str:
    """How a model's numbers are stored: `float32`, `bfloat16`, or the method that quantised them."""
    settings = getattr(model.config, "quantization_config", None)
    if settings is None:
        return str(model.dtype).removeprefix("torch.")
    method = settings.get("quant_method") if isinstance(settings, dict) else settings.quant_method
    return f"{getattr(method, 'value', method)} over {str(model.dtype).removeprefix('torch.')}"


def share(model: nn.Module) -> Any:
    """A copy of the modules around the same tensors. It takes no memory, and changes to it do not show on the original.

    Parameters are new objects around the same storage, so that they can be given other data or flags; a tensor of a
    quantised format, which is its own class, is shared as it is.
    """
    memo: dict[int, Any] = {
        id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) if type(tensor) is nn.Parameter else tensor
        for tensor in chain(model.parameters(), model.buffers())
    }
    memo |= {id(tensor): tensor.detach() for module in model.modules() for tensor in _computed(vars(module))}
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise MechdriftError(
            f"the modules of this {type(model).__name__} cannot be copied ({error!s:.100}), and mechdrift does not "
            "work on your own object: give the plain model, without wrappers or hooks that cannot be copied."
        ) from error


def _computed(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Tensors among a module's attributes that were computed from parameters, such as those by which peft ties one
    adapter to another: torch copies none that can lead gradients back."""
    if isinstance(value, torch.Tensor):
        if not value.is_leaf:
            yield value
    elif isinstance(value, dict | list | tuple) and depth < 8:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _computed(part, depth + 1)


def _own_copy(model: Any) -> PreTrainedModel:
    if any(kind.__name__ == "TransformerBridge" for kind in type(model).__mro__):
        if model.compatibility_mode:
            raise MechdriftError(
                "this TransformerBridge is in compatibility mode, in which weights are folded into others: give one "
                "without it."
            )
        return _without_bridge(share(model.original_model))
    if _is_peft(model):
        return _with_adapters(model)
    if not isinstance(model, PreTrainedModel):
        raise MechdriftError(
            f"a {type(model).__name__} is not a model that can be read here: give a transformers model, a peft model "
            "or a TransformerBridge."
        )
    is_offloaded = any(hasattr(module, "_hf_hook") for module in model.modules())  # accelerate brings them
    if not is_offloaded and any(weight.is_meta for weight in model.parameters()):
        raise MechdriftError(
            f"weights of this {type(model).__name__} lie on the device 'meta', which holds no numbers: load them first."
        )
    if any(True for _ in _adapted(model)):
        raise MechdriftError(
            "this model holds adapter layers without the peft model around it: give that peft model (for this side, "
            "or for the other side where this one is meant without them), or merge them first."
        )
    return share(model)


def _without_bridge(model: Any) -> PreTrainedModel:
    """The model with its Hugging Face modules back in the places where TransformerLens has wrapped them."""
    for module in [model, *model.modules()]:
        for name, child in module._modules.items():
            while child is not None and child._modules.get("_original_component") is not None:
                child = child._modules["_original_component"]
            module._modules[name] = child
    return model


def _is_peft(model: Any) -> bool:
    from peft import PeftModel

    return isinstance(model, PeftModel)


def _adapted(model: nn.Module) -> Iterator[Any]:
    """The layers that peft has put around others."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return (module for module in model.modules() if isinstance(module, BaseTunerLayer))


def _with_adapters(model: Any) -> PreTrainedModel:
    """The adapted model with its adapters merged into new matrices; on quantised weights, with its adapters
    unmerged."""
    if model.active_peft_config.is_prompt_learning:
        raise MechdriftError("this peft model learns a prompt and changes no weights: give a model with LoRA adapters.")
    layers = list(_adapted(model))
    if layers and all(layer.disable_adapters for layer in layers):  # as inside `with model.disable_adapter()`
        return _without_adapters(model)
    shared = share(model)
    bases = [layer.get_base_layer() for layer in _adapted(shared)]
    weights = [weight for base in bases for weight in base.parameters(recurse=False)]
    if not all(type(weight) is nn.Parameter and weight.is_floating_point() for weight in weights):
        return shared.get_base_model()
    for base in bases:  # merged in float32, whatever they are stored in
        for name, weight in list(base.named_parameters(recurse=False)):
            setattr(base, name, nn.Parameter(weight.detach().to(torch.float32, copy=True), requires_grad=False))
    merged = merge(shared, "the adapter of this peft model")
    for base in bases:
        base.to(model.dtype)
    return merged


def _without_adapters(model: Any) -> PreTrainedModel:
    """The model inside a peft model, as it was before the adapters.

    peft's `unload` would put trained copies of whole modules (`modules_to_save`) in the place of the base's.
    """
    from peft.utils import ModulesToSaveWrapper

    if any(changes_its_base(config) for config in model.peft_config.values()):
        raise MechdriftError(
            "when peft made the adapters of this model, it changed the weights of the model that they were put on "
            "(init_lora_weights), so that this is no longer the parent: load the parent once more and give that."
        )
    if any(layer.merged for layer in _adapted(model)):
        raise MechdriftError(
            "the adapters of this peft model are merged into the model that is given for the other side: call "
            "unmerge_adapter() first."
        )
    shared = share(model)
    for module in shared.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save.update(dict.fromkeys(module.modules_to_save, module.original_module))
    return shared.unload()


def _name(model: Any) -> str:
    config = getattr(model, "config", None) or getattr(getattr(model, "original_model", None), "config", None)
    name = Path(str(getattr(config, "_name_or_path", "") or "")).name or type(model).__name__
    return f"{name} + {model.active_adapter}" if _is_peft(model) else name
