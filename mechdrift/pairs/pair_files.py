"""A pair in a small TOML file: which models, and how each is asked. `mechdrift audit pair.toml` reads it.

    name = "qwen3-modes"            # the run folder's name; by default the file's
    null_model = "models/null"      # optional: a model trained for as long, but not to reason
    think_open = "<think>"          # settings up here hold for both sides

    [instruct]
    model = "org/chat"              # a Hugging Face id, or a folder (relative to this file, if it is there)
    revision = "main"
    template_args = { enable_thinking = false }

    [reasoning]
    model = "org/reasoner"          # or: adapter = "a LoRA adapter for the instruct model"
    system = "detailed thinking on"

The settings are `system`, `template` (the name of one of several), `template_args`, `think_open`, `think_close` and
`thinks` (whether the template's switch turns thinking on). A pair file is data: no key loads code, and the name is one
path component. An unknown key is an error that names it.
"""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechdrift.errors import MechdriftError, warn_renamed
from mechdrift.pairs.catalogue import EMBEDDED_PAIRS
from mechdrift.records.foreign import read_whole

SIDES = ("instruct", "reasoning")
CHAT_KEYS: dict[str, type] = {"system": str, "template": str, "template_args": dict, "think_open": str}
CHAT_KEYS |= {"think_close": str, "thinks": bool}
SIDE_KEYS: dict[str, type] = {"model": str, "revision": str, "adapter": str} | CHAT_KEYS
KEYS: dict[str, type] = {"name": str, "null_model": str, "instruct": dict, "reasoning": dict} | CHAT_KEYS
RENAMED = {"control": "null_model"}  # keys that were given up, and what replaced them
LARGEST = 100_000  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFile:
    """What a pair file says: models by id or folder, and per side the settings that it names."""

    name: str
    instruct: str
    reasoning: str | None
    adapter: str | None
    null_model: str | None
    revision: dict[str, str | None] = field(default_factory=dict)
    chat: dict[str, dict[str, Any]] = field(default_factory=dict)


def is_pair_file(name: str | None) -> bool:
    """Whether the name of a pair is that of a file."""
    return name is not None and name.endswith(".toml")


def read_pair_file(file: str | Path) -> PairFile:
    """Read a pair file; raises `MechdriftError`, with the key, for whatever does not fit."""
    file = Path(file)
    found = _checked(_renamed(_parsed(file)), KEYS, str(file))
    sides = {side: _checked(found.get(side, {}), SIDE_KEYS, f"{file}, [{side}]") for side in SIDES}
    instruct, reasoning = sides["instruct"], sides["reasoning"]
    if "model" not in instruct or ("model" in reasoning) == ("adapter" in reasoning):
        raise MechdriftError(f"{file}: [instruct] needs a model, and [reasoning] either a model or an adapter.")
    if "adapter" in instruct:
        raise MechdriftError(f"{file}, [instruct]: an adapter belongs to [reasoning]; give the instruct model itself.")
    both = {key: value for key, value in found.items() if key in CHAT_KEYS}
    return PairFile(
        name=_name(found.get("name", file.stem), file),
        instruct=_place(instruct["model"], file),
        reasoning=_place(reasoning["model"], file) if "model" in reasoning else None,
        adapter=_place(reasoning["adapter"], file) if "adapter" in reasoning else None,
        null_model=_place(found["null_model"], file) if "null_model" in found else None,
        revision={side: sides[side].get("revision") for side in SIDES},
        chat={side: both | {k: v for k, v in sides[side].items() if k in CHAT_KEYS} for side in SIDES},
    )


def _parsed(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST:
            raise MechdriftError(
                f"{file} is larger than {LARGEST:,} bytes: a pair file has about twenty lines; give that file."
            )
        return tomllib.loads(read_whole(file, LARGEST).decode("utf-8"))
    except OSError as error:
        raise MechdriftError(f"there is no pair file {file} ({error.strerror}): check its path.") from error
    except (ValueError, RecursionError) as error:
        raise MechdriftError(
            f"{file} is not valid TOML ({' '.join(str(error).split()):.120}): correct that line."
        ) from error


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under today's keys. An old key is accepted with a warning."""
    for key in RENAMED.keys() & values.keys():
        warn_renamed(f"the key {key!r} of a pair file", repr(RENAMED[key]))
    return {RENAMED.get(key, key): value for key, value in values.items()}


def _checked(values: Mapping[str, Any], known: Mapping[str, type], where: str) -> Mapping[str, Any]:
    for key, value in values.items():
        if key not in known:
            raise MechdriftError(f"{where}: unknown key {key!r:.60}; known are {', '.join(known)}.")
        if not isinstance(value, known[key]):
            kind = {str: "a string", dict: "a table", bool: "true or false"}[known[key]]
            raise MechdriftError(f"{where}: {key} should be {kind}; it is {value!r:.60}.")
        if isinstance(value, dict) and key == "template_args" and not _is_json(value):
            raise MechdriftError(f"{where}: {key} should hold strings, numbers, true, false, lists and tables only.")
    return values


def _is_json(value: Any) -> bool:
    """Whether JSON can hold a value of TOML: it has no dates, times, NaN or infinite numbers."""
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _name(name: str, file: Path) -> str:
    if name in EMBEDDED_PAIRS:
        raise MechdriftError(f"{file}: {name!r} is the name of an embedded pair: give this one another name.")
    if not re.fullmatch(r"\w[\w .+-]{0,99}", name) or name != Path(name).name:
        raise MechdriftError(f"{file}: the name {name!r:.60} should be letters, digits and . _ + - without a path.")
    return name


def _place(model: str, file: Path) -> str:
    """The folder of this name next to the pair file, if there is one; else the id or folder as it is written."""
    neighbour = file.parent / model
    return str(neighbour) if os.path.isdir(neighbour) else model  # raises nothing, even for a name no system allows
