"""Repairs on disk: the change alone, a LoRA adapter, or a whole merged model.

    write_made     one small safetensors file: the factors of each matrix (`PLACE up`, `PLACE down`), or tensors whole;
                   its header says which method, strength and child it belongs to
    write_adapter  a folder that peft and transformers load onto the child, by themselves
    write_folder   the child with the change in its weights, as any model folder

A low-rank change is written as an adapter exactly, because its factors are the change. All factors are padded with
zeros to the largest rank among them, and `lora_alpha` equals that rank, so that peft adds up · down unscaled. Changes
that are not low-rank changes of linear layers (norm gains, embeddings, changes of full rank) need the merged folder.

`repair.json` in either folder names the repair and the fingerprint of the child's weights. By it a repaired model is
recognised, and is not repaired again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mechdrift.pairs.lineage import REPAIR_NOTE
from mechdrift.pairs.loading import LanguageModel, ModelSource
from mechdrift.records import MechdriftError
from mechdrift.repairs.changes import Change, LowRank, factorise, names_by_place
from mechdrift.runs import placed

SCHEMA = 1
MARK = ", repaired by "
REMEDY = "free space, or give another path."


def mark(name: str) -> str:
    """The text that is appended to a repaired model's name."""
    return f"{MARK}{name}"


def is_repaired(source: ModelSource) -> bool:
    """Whether a model carries a repair already."""
    folders = [*source.adapters, *([source.path] if source.path else [])]
    return MARK in source.name or any((Path(folder) / REPAIR_NOTE).is_file() for folder in folders)


def write_made(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Tensors with the facts in the file's header."""
    header = {"mechdrift": json.dumps({"schema": SCHEMA, **facts})}
    with placed(path, REMEDY) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, header)
    return path


def read_made(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_made` wrote; raises for any other file."""
    try:
        with safe_open(path, "pt") as stored:
            facts = json.loads((stored.metadata() or {})["mechdrift"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise MechdriftError(f"{path} holds no repair: give a file that Repaired.save wrote.") from error
    if facts.get("schema") != SCHEMA or "method" not in facts:
        raise MechdriftError(f"{path} holds no repair that this version reads: make it again.")
    return tensors, facts


def tensors_of(changes: Mapping[str, Change]) -> dict[str, Tensor]:
    """Changes as named tensors."""
    found: dict[str, Tensor] = {}
    for place in changes:
        change = changes[place]
        if isinstance(change, LowRank):
            found |= {f"{place} up": change.up, f"{place} down": change.down}
        else:
            found[place] = change
    return found


def changes_of(tensors: Mapping[str, Tensor]) -> dict[str, Change]:
    """The inverse of `tensors_of`."""
    places = dict.fromkeys(name.split(" ")[0] for name in tensors)
    return {
        place: tensors[place] if place in tensors else LowRank(tensors[f"{place} up"], tensors[f"{place} down"])
        for place in places
    }


def write_adapter(folder: Path, child: LanguageModel, changes: Mapping[str, Change], facts: Mapping[str, Any]) -> Path:
    """A LoRA adapter for the child; raises where the change is none."""
    from peft import LoraConfig

    factors = {name: _factors(child, name, place, changes[place]) for place, name in _modules(child, changes)}
    rank = max(each.up.shape[1] for each in factors.values())
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=sorted(factors),
        task_type="CAUSAL_LM",
        base_model_name_or_path=child.source.name,
        inference_mode=True,
    )
    _make(folder)
    config.save_pretrained(str(folder))
    tensors = {}
    for name, each in factors.items():
        missing = rank - each.up.shape[1]
        tensors[f"base_model.model.{name}.lora_A.weight"] = nn.functional.pad(each.down, (0, 0, 0, missing))
        tensors[f"base_model.model.{name}.lora_B.weight"] = nn.functional.pad(each.up, (0, missing))
    with placed(folder / "adapter_model.safetensors", REMEDY) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"format": "pt"})
    _note(folder, facts)
    return folder


def _modules(child: LanguageModel, changes: Mapping[str, Change]) -> list[tuple[str, str]]:
    names = names_by_place(child)
    return [(place, names[place].removesuffix(".weight")) for place in changes]


def _factors(child: LanguageModel, name: str, place: str, change: Change) -> LowRank:
    change = change if isinstance(change, LowRank) else factorise(change)
    is_linear = place.endswith(".weight") and isinstance(child.model.get_submodule(name), nn.Linear)
    if not is_linear or not isinstance(change, LowRank):
        raise MechdriftError(
            f"the change of {place} is no product of two narrow matrices of a linear layer, so no LoRA adapter holds "
            "it: export a merged folder instead (form='folder')."
        )
    return change


def write_folder(folder: Path, repaired: LanguageModel, facts: Mapping[str, Any]) -> Path:
    """The repaired model and its tokenizer, as transformers saves them."""
    _make(folder)
    repaired.model.save_pretrained(folder)
    repaired.tokenizer.save_pretrained(folder)
    _note(folder, facts)
    return folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdriftError(f"{folder} cannot be made ({error.strerror}): give another folder.") from error
    if any(folder.iterdir()) and not (folder / REPAIR_NOTE).is_file():
        raise MechdriftError(f"{folder} is not empty and holds no repair: give another folder.")


def _note(folder: Path, facts: Mapping[str, Any]) -> None:
    with placed(folder / REPAIR_NOTE, REMEDY) as temporary:
        temporary.write_text(json.dumps({"schema": SCHEMA, **facts}, indent=2) + "\n", encoding="utf-8")
