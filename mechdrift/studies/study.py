"""A study in a small TOML file: which pairs, seeds and presets, in how many shards, and where the runs go.

    name = "children"                 # default: the file's name
    out = "runs/children"             # a folder (relative to this file), or an address such as s3://bucket/children
    seeds = [0, 1, 2, 3]
    presets = ["quick"]
    shards = 4                        # of each model's questions; of the dimensions as many, but at most six
    stress = []                       # modes of `mechdrift stress`, after each audit
    repairs = []                      # methods of `mechdrift repair`, likewise

    [audit]                           # options of `mechdrift audit` that all audits share
    dimensions = ["safety", "bias"]
    think = 96

    [[pairs]]
    pair = "smollm2-sft"              # an embedded pair or a pair file

    [[pairs]]
    name = "mine"                     # default: the pair's name
    instruct = "org/chat"             # Hugging Face ids or folders (relative to this file, if they are there)
    reasoning = "org/reasoner"        # or: adapter = "a LoRA adapter"
    checkpoints = ["out/step-1000", "out/step-2000"]    # instead of reasoning: ids, folders or adapters, an audit each

Pairs, seeds and presets can be added later; finished cells stay finished. Nothing in the file is run as code, and an
unknown key is an error that names it."""

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mechdrift.audits.config import PRESETS, Audit
from mechdrift.behaviour.sampling import check_seed
from mechdrift.pairs.catalogue import EMBEDDED_PAIRS
from mechdrift.pairs.pair_files import is_pair_file, read_pair_file
from mechdrift.records import MechdriftError
from mechdrift.records.foreign import is_one_name, read_whole
from mechdrift.tables.fields import fault_of, shape_of

LARGEST = 1_000_000  # bytes of a study file
KEYS = ("name", "out", "seeds", "presets", "shards", "stress", "repairs", "audit", "pairs")
PAIR_KEYS = ("name", "pair", "instruct", "reasoning", "adapter", "null_model", "revision", "checkpoints")
OWN = {"pair", "instruct", "reasoning", "adapter", "null_model", "revision", "preset", "seed", "out", "chat", "control"}
FILES = {"judge", "layout"}  # options of an audit that are files, beside the study file or anywhere
MOST_SHARDS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPair:
    """One pair of a study. With `checkpoints`, each of them is the reasoning model of an audit of its own."""

    name: str
    models: Mapping[str, str]
    checkpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a study file says. `folder` is where it lies."""

    name: str
    out: str
    pairs: tuple[StudyPair, ...]
    seeds: tuple[int, ...] = (0,)
    presets: tuple[str, ...] = ("standard",)
    shards: int = 1
    stress: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    audit: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same for what is finished to stay valid."""
        return {"name": self.name, "shards": self.shards, "audit": dict(self.audit)}

    def audits(self) -> "Iterator[PlannedAudit]":
        """Every audit: pairs x checkpoints x presets x seeds."""
        for pair in self.pairs:
            for checkpoint in pair.checkpoints or ("",):
                for preset in self.presets:
                    for seed in self.seeds:
                        yield PlannedAudit(study=self, pair=pair, checkpoint=checkpoint, preset=preset, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAudit:
    """One audit of a study."""

    study: Study
    pair: StudyPair
    checkpoint: str
    preset: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its run folder."""
        parts = [self.pair.name, Path(self.checkpoint).name]
        if len(self.study.presets) > 1:
            parts.append(self.preset)
        if len(self.study.seeds) > 1:
            parts.append(f"seed-{self.seed}")
        return "--".join(re.sub(r"[^\w.+-]+", "-", part) for part in parts if part)

    def config(self, out: Path | None = None) -> Audit:
        """The configuration of this audit. Studies have a fixed design, unless the file sets `until_decided`."""
        models = dict(self.pair.models)
        if self.checkpoint:
            models["reasoning"] = self.checkpoint
        options = {"until_decided": False} | dict(self.study.audit)
        for name in FILES & options.keys():
            options[name] = Path(_beside(str(options[name]), self.study.folder))
        return Audit(**models, **options, preset=self.preset, seed=self.seed, out=out)


def read_study(file: str | Path) -> Study:
    """Which audits does a study file ask for? Reads and checks it; opens no model.

    Args:
        file: the path of a TOML file (its keys: `mechdrift.studies.study`).

    Returns:
        A `Study`: `.pairs`, `.seeds`, `.presets` and `.shards` as the file gives them; `.audits()` yields one record
        per pair, checkpoint, preset and seed, and `plan_cells` divides them into cells.

    Raises:
        MechdriftError: where there is no such file, it is not TOML, a key is unknown or has a wrong value, there is no
            pair of a name, or two audits would have the same name.

    Source:
        TOML 1.0, https://toml.io/en/v1.0.0.

    Example:
        >>> study = read_study("study.toml")  # doctest: +SKIP
    """
    file = Path(file)
    said = _parsed(file)
    _known(said, KEYS, str(file))
    rows = said.get("pairs", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise MechdriftError(f"{file}: a study needs one or more tables [[pairs]].")
    name = _text(said, "name", file.stem, file)
    study = Study(
        name=name,
        out=_place(_text(said, "out", f"runs/{name}", file), file.parent),
        pairs=tuple(_pair(row, file) for row in rows),
        seeds=_numbers(said, "seeds", (0,), file),
        presets=_words(said, "presets", ("standard",), file),
        shards=_shards(said.get("shards", 1), file),
        stress=_words(said, "stress", (), file),
        repairs=_words(said, "repairs", (), file),
        audit=_options(said.get("audit", {}), file),
        folder=file.parent.resolve(),
    )
    _check(study, file)
    return study


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_whole(file, LARGEST).decode("utf-8"))
    except OSError as error:
        raise MechdriftError(f"there is no study file {file} ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise MechdriftError(f"{file} is not valid TOML ({' '.join(str(error).split()):.120}).") from error


def _known(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise MechdriftError(f"{where}: unknown key {key!r:.60}; known are {', '.join(known)}.")


def _text(said: Mapping[str, Any], key: str, default: str, file: Path) -> str:
    value = said.get(key, default)
    if not isinstance(value, str) or not value or (key == "name" and not is_one_name(value)):
        what = "one name without slashes" if key == "name" else "a folder or an address"
        raise MechdriftError(f"{file}: {key} should be {what}; it is {value!r:.60}.")
    return value


def _shards(value: Any, file: Path) -> int:
    if type(value) is not int or not 1 <= value <= MOST_SHARDS:
        raise MechdriftError(f"{file}: shards should be 1 to {MOST_SHARDS:,}; it is {value!r:.20}.")
    return value


def _words(said: Mapping[str, Any], key: str, default: tuple[str, ...], file: Path) -> tuple[str, ...]:
    values = said.get(key, list(default))
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise MechdriftError(f"{file}: {key} should be a list of words; it is {values!r:.60}.")
    return tuple(values)


def _numbers(said: Mapping[str, Any], key: str, default: tuple[int, ...], file: Path) -> tuple[int, ...]:
    values = said.get(key, list(default))
    if not isinstance(values, list) or not values or not all(type(value) is int for value in values):
        raise MechdriftError(f"{file}: {key} should be a list of whole numbers; it is {values!r:.60}.")
    for value in values:
        check_seed(value)
    return tuple(values)


def _options(said: Any, file: Path) -> dict[str, Any]:
    """Options of `Audit` that all audits share."""
    if not isinstance(said, dict):
        raise MechdriftError(f"{file}: audit should be a table of options of 'mechdrift audit'.")
    _known(said, sorted({each.name for each in fields(Audit)} - OWN), f"{file}, [audit]")
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    files = {key: Path(value) for key, value in options.items() if key in FILES and isinstance(value, str)}
    if fault := fault_of(shape_of(Audit), options | files):
        raise MechdriftError(f"{file}, [audit]: {fault}.")
    return options


def _pair(row: Mapping[str, Any], file: Path) -> StudyPair:
    where = f"{file}, [[pairs]]"
    _known(row, PAIR_KEYS, where)
    checkpoints = _words(row, "checkpoints", (), file)
    models = {key: value for key, value in row.items() if key not in ("name", "checkpoints")}
    if not all(isinstance(value, str) and value for value in (*models.values(), *checkpoints)):
        raise MechdriftError(f"{where}: models are named by words; they are {models or list(checkpoints)!r:.80}.")
    if ("pair" in models) == ("instruct" in models):
        raise MechdriftError(f"{where}: give either pair, or instruct with reasoning, adapter or checkpoints.")
    children = sum(("reasoning" in models, "adapter" in models, bool(checkpoints)))
    if children != ("instruct" in models):
        raise MechdriftError(f"{where}: instruct goes with one of reasoning, adapter and checkpoints.")
    models = {key: value if key == "revision" else _beside(value, file.parent) for key, value in models.items()}
    return StudyPair(
        name=str(row.get("name") or _name_of(models)),
        models=models,
        checkpoints=tuple(_beside(one, file.parent) for one in checkpoints),
    )


def _name_of(models: Mapping[str, str]) -> str:
    if "pair" in models:
        return read_pair_file(models["pair"]).name if is_pair_file(models["pair"]) else models["pair"]
    return Path(models.get("reasoning") or models.get("adapter") or models["instruct"]).name


def _beside(name: str, folder: Path) -> str:
    """A file or folder beside the study file, if there is one of that name; else what is written."""
    beside = folder / name
    return str(beside.resolve()) if os.path.exists(beside) else name


def _place(out: str, folder: Path) -> str:
    """An address as it is, and a folder beside the study file."""
    return out if "://" in out else str((folder / out).resolve())


def _check(study: Study, file: Path) -> None:
    if not study.presets:
        raise MechdriftError(f"{file}: presets should name one or more of {', '.join(PRESETS)}.")
    named = [pair.models["pair"] for pair in study.pairs if "pair" in pair.models]
    if strange := [name for name in named if not is_pair_file(name) and name not in EMBEDDED_PAIRS]:
        raise MechdriftError(
            f"{file}: unknown pair {strange[0]!r:.60}: give one of {', '.join(EMBEDDED_PAIRS)}, a pair file (.toml), "
            "or instruct with reasoning, adapter or checkpoints."
        )
    if unknown := [name for name in study.presets if name not in PRESETS]:
        raise MechdriftError(f"{file}: unknown preset {unknown[0]!r:.40}; known are {', '.join(PRESETS)}.")
    names = [audit.name for audit in study.audits()]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise MechdriftError(f"{file}: two audits would have the name {min(twice)!r}: give the pairs different names.")
    if strange := [name for name in names if not is_one_name(name)]:
        raise MechdriftError(f"{file}: {strange[0]!r:.60} is no name of a folder: give the pair another name.")
    for audit in study.audits():
        _ = audit.config().budget  # raises for an option that does not fit
