"""A stage in parts: several processes each do one, and joined they are what one process would have written.

    read    opens models, does some of a stage's work (some questions or some dimensions), and returns a `Part`
    join    opens no model, and makes the stage's tables and tensors of all parts

One process that does a whole stage reads a single part and joins it, so both ways go through the same code. The bytes
are equal because whole dimensions are dealt: a batch of a forward pass holds prompts of one dimension only, so it holds
the same prompts in every process. (Rounding depends on which prompts share a batch.)

On disk a part is a folder beside the run's: tables, tensors, answers, and `part.json`, which is written last and names
what the part belongs to (`Key`) and the hash of each file. A folder without it is not finished.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechdrift.audits.plan import Facts
from mechdrift.behaviour.answer_store import read_store, write_completions
from mechdrift.records import Completion, MechdriftError
from mechdrift.runs import placed, sha256

SEAL = "part.json"  # written last
TENSORS, ANSWERS = "tensors.safetensors", "answers.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a stage: tables by name, tensors by name, answers, and facts for the manifest."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    answers: Sequence[Completion] = ()
    facts: Facts = field(default_factory=dict)

    @property
    def filled(self) -> dict[str, pd.DataFrame]:
        """The tables that have rows. An empty table is not stored, because its file would not keep the columns'
        types."""
        return {name: table for name, table in self.tables.items() if len(table)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of `count` parts of a step, counted from 1: `2/4`."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that a command names, such as `2/4`."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise MechdriftError(
                f"a shard should be a number of how many, such as 2/4, counted from 1; it is {text!r}."
            )
        return cls(number=int(number), count=int(count))

    def of(self, things: Sequence[Any]) -> list[Any]:
        """Every `count`-th thing, from this shard's number on."""
        return list(things[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a part belongs to: the step and shard, the run, the versions that made it, the files that it was read
    from."""

    step: str
    shard: str
    run: str  # digest of what must not differ between two starts of the run
    versions: Mapping[str, str]
    read_from: Mapping[str, str]  # hashes by file


# Where parts lie, beside the run's folder.


def parts_of(folder: Path) -> Path:
    """Where the parts of a run lie."""
    return folder.with_name(f"{folder.name}.parts")


def place_of(folder: Path, step: str, shard: Shard) -> Path:
    """The folder of one part."""
    return parts_of(folder) / f"{step}-{shard.number}of{shard.count}"


def shard_of(place: Path) -> Shard:
    """The shard whose part a folder holds, from the folder's name."""
    return Shard.parse(place.name.removesuffix(".work").rpartition("-")[2].replace("of", "/"))


def finished_parts(folder: Path, step: str) -> list[Path]:
    """The folders of a step's finished parts, in order."""
    return sorted((seal.parent for seal in parts_of(folder).glob(f"{step}-*of*/{SEAL}")), key=_number)


def _number(place: Path) -> int:
    return shard_of(place).number


def first_missing(places: Sequence[Path]) -> str:
    """The first shard of which a step has no finished part, such as `2/4`; empty where all are there."""
    shards = [shard_of(place) for place in places]
    if not shards:
        return "1/n"
    missing = sorted(set(range(1, shards[0].count + 1)) - {shard.number for shard in shards})
    return f"{missing[0]}/{shards[0].count}" if missing else ""


# What is in them.


def in_order(parts: Sequence[Part], table: str, dimensions: Sequence[str], by: Sequence[str] = ("",)) -> pd.DataFrame:
    """One table of all parts, dimension after dimension; with `by`, once for each of a `side`'s values.

    Without a row in any part it has no columns but `dimension`; writing it adds them.
    """
    found = [part.filled[table] for part in parts if table in part.filled]
    pieces = [
        rows
        for value in by
        for name in dimensions
        for each in found
        if len(rows := each[(each.dimension == name) & ((each.side == value) if value else True)])
    ]
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame({"dimension": []})


def tensors_of(parts: Sequence[Part]) -> dict[str, Tensor]:
    """All parts' tensors."""
    return {name: tensor for part in parts for name, tensor in part.tensors.items()}


def save_part(part: Part, folder: Path, key: Key) -> None:
    """Write a part to its folder, `part.json` last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in part.filled.items():
        with placed(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    if part.tensors:
        with placed(folder / TENSORS) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in part.tensors.items()}, temporary)
    if part.answers:
        with placed(folder / ANSWERS) as temporary:
            write_completions(temporary, part.answers)
    kept = [f"{name}.parquet" for name in part.filled]
    kept += [name for name, is_there in ((TENSORS, part.tensors), (ANSWERS, part.answers)) if is_there]
    sealed = {"key": asdict(key), "facts": part.facts, "files": {name: sha256(folder / name) for name in kept}}
    with placed(folder / SEAL) as temporary:
        temporary.write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")


def load_part(folder: Path) -> Part:
    """Read a part back; raises, naming the file, where one is missing or changed."""
    sealed = read_seal(folder)
    for name, digest in sealed["files"].items():
        if not (folder / name).exists() or sha256(folder / name) != digest:
            raise MechdriftError(f"{folder / name} is damaged or missing: delete {folder} and run that shard again.")
    files = sealed["files"]
    return Part(
        tables={
            Path(name).stem: pq.read_table(folder / name).to_pandas() for name in files if name.endswith(".parquet")
        },
        tensors=load_file(folder / TENSORS) if TENSORS in files else {},
        answers=list(read_store(folder / ANSWERS).values()) if ANSWERS in files else (),
        facts=sealed["facts"],
    )


def read_seal(folder: Path) -> dict[str, Any]:
    """What `part.json` says."""
    try:
        return json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MechdriftError(f"{folder / SEAL} is damaged: delete {folder} and run that shard again.") from error


def digest_of(value: Any) -> str:
    """A short SHA-256 of anything that JSON holds."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
