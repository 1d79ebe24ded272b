"""Adapters as trainers save them: their configuration, their own tokenizer, tokens that they add, and their base.

    is_adapter          whether a folder holds an adapter rather than a model
    has_tokenizer       whether it has a tokenizer of its own, which was trained with it
    embedding_rows      how many rows its saved embeddings have, where tokens were added for it
    merge_adapter       the model with the adapter in its weights

An adapter of a text-only model is applied to the text part of a multimodal one, whose modules have a longer path.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from mechdrift.errors import MechdriftError, reason
from mechdrift.pairs.guards import check_folder, check_patterns, check_ranks
from mechdrift.pairs.hub import hub_or_cache


def adapter_file(folder: str | Path) -> Path:
    return Path(folder) / "adapter_model.safetensors"


def is_adapter(path: str | Path) -> bool:
    """Whether a folder holds an adapter rather than a model."""
    # By `os.path`, which has no error for a name that no system allows.
    return os.path.isfile(f"{path}/adapter_config.json") and not os.path.isfile(f"{path}/config.json")


def has_tokenizer(adapter: str) -> bool:
    """Whether an adapter's folder has a tokenizer of its own."""
    return (Path(adapter) / "tokenizer_config.json").is_file()


def load_adapter_config(adapter: str) -> Any:
    """The configuration of a LoRA adapter; raises where there is none, and for an adapter that learns a prompt."""
    from peft import PeftConfig

    check_folder(adapter)
    try:
        with hub_or_cache():
            config = PeftConfig.from_pretrained(adapter)
    except Exception as error:  # peft raises errors of any kind for missing, damaged or unfitting files, here and below
        raise MechdriftError(f"{adapter!r} is not a LoRA adapter that peft can read ({reason(error)}).") from error
    if config.is_prompt_learning:
        kind = str(getattr(config.peft_type, "value", config.peft_type)).lower().replace("_", " ")
        raise MechdriftError(
            f"the adapter {adapter} learns a prompt ({kind}) and changes no weights: give a LoRA adapter."
        )
    if getattr(config, "layer_replication", None):
        raise MechdriftError(
            f"the adapter {adapter} repeats layers (layer_replication), whose copies share weights, so that it cannot "
            "be merged: give the model as a folder in which it is merged already."
        )
    if not can_be_made_again(config):
        raise MechdriftError(
            f"the adapter {adapter} was trained on weights that its initialisation ({config.init_lora_weights}) had "
            "changed by chance or by data, so that they cannot be made again: save it with "
            "path_initial_model_for_weight_conversion, or give the model as a folder in which it is merged already."
        )
    check_ranks(adapter, config)
    return config


def changes_its_base(config: Any) -> bool:
    """Whether peft, when it makes this adapter, takes what the adapter begins with out of the base's weights."""
    start = getattr(config, "init_lora_weights", None)
    return isinstance(start, str) and start.startswith(("pissa", "olora", "corda", "loftq", "lora_ga"))


def can_be_made_again(config: Any) -> bool:
    """Whether loading an adapter changes the base as training began with: not where that took random numbers or
    data."""
    return not changes_its_base(config) or config.init_lora_weights in ("pissa", "olora", "loftq")


def embedding_rows(adapter: str) -> int:
    """How many rows the largest embedding or unembedding saved with the adapter has; 0 where none is saved."""
    file = adapter_file(adapter)
    if not file.is_file():
        return 0
    with safe_open(file, "pt") as stored:
        names = [name for name in stored.keys() if _is_embedding(name)]  # noqa: SIM118 - no mapping
        return max((stored.get_slice(name).get_shape()[0] for name in names), default=0)


def _is_embedding(name: str) -> bool:
    return name.endswith(".weight") and any(part in name for part in ("embed_tokens.", "lm_head.", "embed_in.", "wte."))


def merge_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model with an adapter merged into its weights; raises unless every tensor of the adapter fits."""
    from peft import PeftModel

    config = load_adapter_config(adapter)
    target, mapping = _target(model, adapter)
    check_patterns(adapter, config, (name for name, _ in target.named_modules()))
    try:
        _grow(model, embedding_rows(adapter))
        if target is not model:
            config.task_type = None  # the text part alone has no method of generation that peft would wrap
        with hub_or_cache():
            adapted = PeftModel.from_pretrained(target, adapter, config=config, key_mapping=mapping)
            # Read again: `from_pretrained` says nothing of tensors that are left over on either side.
            found = adapted.load_adapter(adapter, "default", key_mapping=mapping)
    except Exception as error:
        raise MechdriftError(f"the adapter {adapter} cannot be applied to this base ({reason(error)}).") from error
    unfit = list(_lacking(adapted, found.missing_keys))
    unfit += [key for key in found.unexpected_keys if not _is_there_twice(key, adapter)]
    if unfit:
        raise MechdriftError(
            f"the adapter {adapter} was made for another base: {len(unfit)} tensors do not fit, such as {min(unfit)}."
        )
    _untie(adapted)
    merged = merge(adapted, f"the adapter {adapter}")
    model = merged if target is model else model
    head = model.get_output_embeddings()
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False  # or room for further tokens would tie them again
    return model


def merge(adapted: Any, name: str) -> PreTrainedModel:
    """peft's model with its adapters merged into the weights; raises where no weights compute what they do."""
    try:
        return adapted.merge_and_unload()
    except Exception as error:  # peft has an error of another kind for each of its methods
        raise MechdriftError(
            f"{name} cannot be merged into the weights ({reason(error)}): give an adapter of a kind that can, or the "
            "model as a folder in which it is merged already."
        ) from error


def _lacking(adapted: nn.Module, missing: Sequence[str]) -> Iterator[str]:
    """Those of the missing tensors that were not loaded under another name: layers may share one (VB-LoRA)."""
    owners = {name: id(weight) for name, weight in adapted.named_parameters(remove_duplicate=False)}
    loaded = {weight for name, weight in owners.items() if name not in missing}
    return (name for name in missing if owners.get(name) not in loaded)


def _untie(adapted: nn.Module) -> None:
    """Give each module that the adapter changes a matrix of its own.

    A head may share its matrix with the embedding. Adapters change what a module computes, and not its matrix, so that
    in training one of the two is changed without the other; merged into the shared matrix, it would change both.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    count = Counter(id(weight) for _, weight in adapted.named_parameters(remove_duplicate=False))
    for layer in [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]:
        base = layer.get_base_layer()
        for name, weight in list(base.named_parameters(recurse=False)):
            if count[id(weight)] > 1:
                setattr(base, name, nn.Parameter(weight.detach().clone(), requires_grad=False))


def _is_there_twice(key: str, adapter: str) -> bool:
    """Whether a saved tensor only repeats another: peft saves a trained embedding under several names."""
    plain = key.replace(".modules_to_save.", ".").replace(".original_module.", ".")
    if plain == key or not adapter_file(adapter).is_file():
        return False
    with safe_open(adapter_file(adapter), "pt") as stored:
        return plain in stored.keys()  # noqa: SIM118 - no mapping


def _grow(model: PreTrainedModel, rows: int) -> None:
    """Make room for the tokens that were added for the adapter. The adapter holds the values of the new rows."""
    if rows > next(model.get_input_embeddings().parameters()).shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _target(model: PreTrainedModel, adapter: str) -> tuple[nn.Module, dict[str, str] | None]:
    """The module that an adapter changes, and how its tensors' names are rewritten for that module.

    That is the model itself; or the text part of a multimodal model, where the adapter was made for a text-only one.
    """
    text = getattr(getattr(model, "model", None), "language_model", None)
    file = adapter_file(adapter)
    if text is None or not file.is_file():
        return model, None
    with safe_open(file, "pt") as stored:
        is_of_text = all(name.startswith("base_model.model.model.layers.") for name in stored.keys())  # noqa: SIM118
    return (text, {r"^model\.": ""}) if is_of_text else (model, None)
