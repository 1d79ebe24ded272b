"""What a stranger's model folder may ask of the libraries that read it, checked before they do.

    check_form       the path is that of a model, not of an adapter, a GGUF file or a folder of checkpoints
    check_folder     it holds no pipes or devices, its settings files have sane sizes, its indexes stay inside it
    check_index      one index of shards names only files in its own folder, also that of a hub id
    check_config     a model can be built from the numbers in config.json; program code was allowed by the user
    check_pickles    weights are safetensors, or the user allowed pickled ones
    check_ranks      an adapter's ranks and scales are sane numbers, and its modules are named
    check_patterns   matching an adapter's patterns with the names of the model's modules ends

Pickled weights and program code are allowed by one option, `trust_remote_code` (`--trust-remote-code`): both are
programs of whoever made the files.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mechdrift.errors import MechdriftError, time_limit
from mechdrift.pairs.hub import hub_or_cache
from mechdrift.records.foreign import check_ends_somewhere, is_one_name

SETTINGS_MAY_HOLD = 64 << 20  # bytes of config.json and its like
LARGE_MAY_HOLD = 512 << 20  # bytes of a tokenizer or an index, which grow with vocabulary and model
LARGE = re.compile(r"(tokenizer|vocab|added_tokens|.*\.index)\.json")
RANGES = {  # least and most, by the name in config.json; existing models are far below the most
    re.compile(r"(num_|n_)?(hidden_)?layers?"): (1, 10_000),
    re.compile(r"num_(attention|key_value)_heads|n_heads?"): (1, 100_000),
    re.compile(r"hidden_size|d_model|n_embd|intermediate_size|head_dim"): (1, 10_000_000),
    re.compile(r"vocab_size"): (1, 100_000_000),
    re.compile(r"num_(local_|routed_)?experts|n_routed_experts"): (0, 100_000),
}
MOST_RANK = 65_536
PATTERN_SECONDS, CONFIG_SECONDS = 20.0, 120.0
ALLOW = "if you trust who made it, allow it with trust_remote_code=True (--trust-remote-code)"


def check_form(path: str) -> str:
    """The path, unchanged; raises where an adapter, a GGUF file or a folder of checkpoints lies there."""
    folder = Path(path)
    is_folder = os.path.isdir(path)  # no error for a name that no system allows
    if folder.suffix == ".gguf" or (is_folder and any(folder.glob("*.gguf")) and not _has(folder, "config.json")):
        raise MechdriftError(
            f"{path} is a GGUF file, made for llama.cpp: give the id or folder of the model it was made from (and "
            "llama.cpp's server as --engine, if it should write the answers)."
        )
    if is_folder and not _has(folder, "config.json"):
        if _has(folder, "adapter_config.json"):
            raise MechdriftError(f"{path} is an adapter, not a model: give its base as instruct, and it as --adapter.")
        if inside := sorted(each.name for each in folder.iterdir() if _has(each, "config.json")):
            raise MechdriftError(
                f"{path} is a folder of checkpoints ({', '.join(inside[:3])}): give one of them, or several LoRA "
                "checkpoints to `mechdrift trajectory`."
            )
    return path


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def check_folder(path: str) -> None:
    """Raise where a model folder holds pipes or devices, settings files that are too large, or an index of shards that
    names files elsewhere."""
    folder = Path(path)
    if not os.path.isdir(path):
        return
    for file in sorted(folder.iterdir()):
        if file.exists():  # False for a broken link
            check_ends_somewhere(file)
    for file in sorted(folder.glob("*.json")) + sorted(folder.glob("*.jinja")):
        limit = LARGE_MAY_HOLD if LARGE.fullmatch(file.name) else SETTINGS_MAY_HOLD
        if file.stat().st_size > limit:
            raise MechdriftError(
                f"{file} is larger than {limit >> 20} MB, too large for settings: fetch the model again."
            )
    for file in folder.glob("*.index.json"):
        check_index(file)


def check_index(file: Path) -> None:
    """Raise where an index of shards names a file outside its own folder (a model's, or a hub id's in the cache)."""
    if outside := sorted(name for name in _shards(file) if not is_one_name(name)):
        raise MechdriftError(
            f"{file} names weights outside its folder ({outside[0]!r:.60}): a shard should lie beside its index."
        )


def published_file(path: str, revision: str | None, name: str) -> Path | None:
    """One file of a model's folder or of a hub id, downloaded if need be; None where it does not exist or cannot be
    downloaded."""
    if os.path.isdir(path):
        return Path(path) / name if _has(Path(path), name) else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with hub_or_cache():
            return Path(hf_hub_download(path, name, revision=revision))
    except (OSError, ValueError, HfHubHTTPError):  # if the model needs the file, loading the model says so
        return None


def _shards(index: Path) -> set[Any]:
    try:
        read = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MechdriftError(f"{index} is damaged: it is not JSON; fetch the model again.") from error
    shards = read.get("weight_map") if isinstance(read, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise MechdriftError(f"{index} is damaged: its weight_map should give a file name for each tensor.")
    return set(shards.values())


def check_config(name: str, config: Any, trusted: bool) -> None:
    """Raise for numbers that no model has, anywhere in a config.json, and for program code that was not allowed."""
    if not isinstance(config, Mapping):
        raise MechdriftError(f"the config.json of {name} is damaged: it should be a table of names and values.")
    for key, value in _numbers(config):
        least, most = next(limits for pattern, limits in RANGES.items() if pattern.fullmatch(key))
        if not least <= value <= most:
            raise MechdriftError(
                f"the config.json of {name} has {key} = {value!s:.30}: a number from {least} to {most:,} was expected."
            )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if not trusted and config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise MechdriftError(f"{name} is built by program code of its own, which is not run: {ALLOW}.")


def _numbers(config: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, int | float]]:
    """Names and values of the numbers that have a range, also inside nested configurations."""
    for key, value in config.items():
        if isinstance(value, dict) and depth < 8:
            yield from _numbers(value, depth + 1)
        elif isinstance(value, int | float) and any(pattern.fullmatch(str(key)) for pattern in RANGES):
            yield str(key), value


def check_pickles(name: str, path: str, trusted: bool) -> None:
    """Raise where a folder's only weights are pickled, which can hold programs, and the user did not allow that."""
    folder = Path(path)
    if trusted or not os.path.isdir(path) or any(folder.glob("*.safetensors")):
        return
    if pickled := sorted(file.name for end in ("bin", "pt", "pth", "ckpt") for file in folder.glob(f"*.{end}")):
        raise MechdriftError(refusal_of_pickles(name, pickled[0]))


def refusal_of_pickles(name: str, seen: str) -> str:
    return (
        f"the weights of {name} are pickled ({seen}), which can hold programs: save them as safetensors; or, {ALLOW}."
    )


def check_ranks(adapter: str, config: Any) -> None:
    """Raise for ranks and scales that no adapter has, before peft makes matrices of them, and for modules that are not
    named by words."""
    for rank in [getattr(config, "r", None), *(getattr(config, "rank_pattern", None) or {}).values()]:
        if rank is not None and not (isinstance(rank, int) and 0 <= rank <= MOST_RANK):
            raise MechdriftError(
                f"the adapter {adapter} has a rank of {rank!s:.30}: a whole number up to {MOST_RANK:,} was expected."
            )
    for alpha in [getattr(config, "lora_alpha", None), *(getattr(config, "alpha_pattern", None) or {}).values()]:
        if alpha is not None and not (isinstance(alpha, int | float) and math.isfinite(alpha)):
            raise MechdriftError(
                f"the adapter {adapter} has a lora_alpha of {alpha!s:.30}: a finite number was expected."
            )
    for field in ("target_modules", "exclude_modules", "modules_to_save"):
        named = getattr(config, field, None)
        if named is not None and not isinstance(named, str | list | tuple | set):
            raise MechdriftError(f"the adapter {adapter} has {field} = {named!s:.30}: names of modules were expected.")


def check_patterns(adapter: str, config: Any, modules: Iterable[str]) -> None:
    """Raise where matching an adapter's patterns with the names of a model's modules, as peft does, would not end."""
    from peft.tuners.tuners_utils import check_target_module_exists

    pairs = {**(getattr(config, "rank_pattern", None) or {}), **(getattr(config, "alpha_pattern", None) or {})}
    with time_limit(PATTERN_SECONDS, f"a pattern of modules in the adapter {adapter}"):
        for module in modules:
            check_target_module_exists(config, module)
            for pattern in pairs:
                re.match(rf"(.*\.)?({pattern})$", module)
