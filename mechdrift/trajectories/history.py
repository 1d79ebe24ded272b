"""The history of one training run: a folder of checkpoints, each a small adapter on one parent, and a file that
describes them.

    history.json       {"name", "route", "parent", "parent_sha256", "seed", "unit": "optimizer steps",
                        "steps": [25, 50, …], "tokens": [how many tokens were trained on until each step]}
    step-00025/        adapter_model.safetensors and adapter_config.json of PEFT; `base_model_name_or_path` is the
                       parent's name

`parent` is an embedded model (such as `smollm2-aligned`; `parent_sha256` is then the hash of its adapter), a folder or
a hub id. The adapters are trained on the *merged* parent. Nothing here loads weights.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from mechdrift.pairs.loading import ModelSource
from mechdrift.pairs.named import load_parent
from mechdrift.records import MechdriftError
from mechdrift.records.foreign import SETTINGS_LIMIT, read_whole
from mechdrift.runs import sha256
from mechdrift.tables.fields import OPEN, fault_of

FILE = "history.json"
LARGEST = 2**53  # a step or a count of tokens; beyond, floats skip numbers
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


class HistoryFile(TypedDict):
    """The fields of history.json; other fields are ignored."""

    __pydantic_config__ = OPEN
    name: str
    route: str
    parent: str
    parent_sha256: str
    seed: int
    steps: list[int]
    unit: str
    tokens: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One training run's checkpoints, in the order of steps."""

    folder: Path
    name: str
    route: str
    parent: str
    parent_sha256: str
    seed: int
    steps: tuple[int, ...]
    unit: str
    tokens: tuple[int, ...]

    def at(self, places: Sequence[int]) -> "History":
        """The history with some of the checkpoints only; place 0 is the parent."""
        kept = [place - 1 for place in places if place]
        return replace(self, steps=tuple(self.steps[k] for k in kept), tokens=tuple(self.tokens[k] for k in kept))

    def checkpoint(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self.folder / f"step-{step:05d}"

    def parent_source(self, device: str | None = None) -> ModelSource:
        """Where the parent is loaded from."""
        return load_parent(self.parent, device, self.parent_sha256)

    def digest(self, step: int) -> str:
        """SHA-256 of a checkpoint's weights."""
        return sha256(self.checkpoint(step) / ADAPTER[0])


def read_history(folder: str | Path) -> History:
    """Read a folder's history.json, and check that every checkpoint that it names is there and has its parent.

    Raises:
        MechdriftError: where the file is missing or damaged, names fewer than two checkpoints, or a checkpoint is
            missing or has another parent.
    """
    folder = Path(folder)
    told = _read(folder / FILE)
    history = History(
        folder=folder, **{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    )
    if len(history.steps) < 2:
        raise MechdriftError(f"{folder} has fewer than two checkpoints: a trajectory takes two or more.")
    if any(step <= before for before, step in zip((0, *history.steps), history.steps, strict=False)):
        raise MechdriftError(
            f"the steps in {folder / FILE} should be above 0 and increase; they are {list(history.steps)}."
        )
    if len(history.tokens) < len(history.steps):
        raise MechdriftError(
            f"{folder / FILE} counts the tokens of {len(history.tokens)} of its {len(history.steps)} steps, because "
            "the training has not ended: let it finish first."
        )
    if len(history.tokens) > len(history.steps):
        raise MechdriftError(
            f"{folder / FILE} has {len(history.steps)} steps and {len(history.tokens)} counts of tokens: give one "
            "count for each step."
        )
    if any(count < before for before, count in zip((0, *history.tokens), history.tokens, strict=False)):
        raise MechdriftError(
            f"the tokens in {folder / FILE} are counted from the start and should not fall; they are "
            f"{list(history.tokens)}."
        )
    for step in history.steps:
        _check_checkpoint(history, step)
    return history


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(read_whole(file, SETTINGS_LIMIT).decode("utf-8"))
    except FileNotFoundError as error:
        raise MechdriftError(
            f"{file.parent} has no {FILE}: give the folder of checkpoints that a training script wrote."
        ) from error
    except OSError as error:
        raise MechdriftError(f"{file} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise MechdriftError(f"{file} is damaged: it is not JSON; train again, or write the file again.") from error
    if fault := fault_of(HistoryFile, told):
        raise MechdriftError(f"{file} is damaged: {fault}.")
    if large := [name for name in ("steps", "tokens") if any(abs(value) >= LARGEST for value in told[name])]:
        raise MechdriftError(f"{file} is damaged: {large[0]!r} should be below {LARGEST}.")
    if not re.fullmatch(r"(?!\.+$)[^/\\:\0]+", told["name"]):  # results are written under it
        raise MechdriftError(f"{file} is damaged: 'name' should be one name without slashes, not {told['name']!r:.60}.")
    return {name: told[name] for name in get_type_hints(HistoryFile)}


def _check_checkpoint(history: History, step: int) -> None:
    folder = history.checkpoint(step)
    missing = [name for name in ADAPTER if not (folder / name).is_file()]
    if missing:
        raise MechdriftError(f"step {step} of {history.folder / FILE} is missing: there is no {folder / missing[0]}.")
    try:
        parent = json.loads((folder / ADAPTER[1]).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MechdriftError(
            f"{folder / ADAPTER[1]} is damaged: it does not name a base_model_name_or_path."
        ) from error
    if parent != history.parent:
        raise MechdriftError(
            f"the checkpoints have mixed parents: {folder} is an adapter for {parent}, and "
            f"{history.folder / FILE} names {history.parent}."
        )
