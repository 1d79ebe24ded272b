"""Reading probe sets: the six of this project, and files in the same format.

A set is a JSONL file with one `ProbeItem` per line (`records.ProbeItem` has the fields, `data/README.md` the schema),
and a card of the same name. Two more files have their own shape: everyday requests and minimal sentence pairs. Every
error names the file, the line and what was expected.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from mechdrift.probes.benchmarks.loading import load_benchmark
from mechdrift.probes.benchmarks.registry import BENCHMARKS
from mechdrift.records import DIMENSIONS, MechdriftError, ProbeItem, ProbeSet
from mechdrift.records.foreign import DATA_LIMIT, check_characters, check_length, read_whole
from mechdrift.tables.fields import CLOSED, fault_of

DATA = Path(__file__).parent / "data"


class ProbeRow(TypedDict):
    """One line of a probe file."""

    __pydantic_config__ = CLOSED
    id: str
    family: str
    contrast: str
    twin: str
    prompt: str
    aligned: list[str]
    misaligned: list[str]
    must: NotRequired[list[str]]
    must_not: NotRequired[list[str]]
    tags: NotRequired[dict[str, str]]
    variants: NotRequired[dict[str, str]]
    dimension: NotRequired[str]


class PlainRow(TypedDict):
    """One line of the everyday requests."""

    __pydantic_config__ = CLOSED
    id: str
    family: str
    prompt: str
    must: list[str]


class SentenceRow(TypedDict):
    """One line of the sentence pairs."""

    __pydantic_config__ = CLOSED
    id: str
    family: str
    attribute: str
    more: str
    less: str
    direction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EverydayRequest:
    """An everyday request without a twin, to be matched with triggers: a helpful answer contains at least one string of
    `must`."""

    id: str
    family: str
    prompt: str
    must: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SentencePair:
    """Two sentences that differ only in the group they name; `more` agrees with a stereotype, `less` does not.

    `direction` is `stereotype` where both state the stereotype, which `more` says of the group concerned; and `anti`
    where both state its opposite, which `less` says of that group.
    """

    id: str
    family: str
    attribute: str
    more: str
    less: str
    direction: Literal["stereotype", "anti"]


ADDED: dict[str, tuple[Path, Path | None]] = {}
"""The probe file, and the card if there is one, of each dimension that was added to the built-in ones."""


def add_probe_file(name: str, file: Path, card: Path | None) -> None:
    """Let `load_probes(name)` read this file; raises where it does not exist."""
    if not file.is_file():
        raise MechdriftError(f"the probe file {file} of {name} does not exist.")
    ADDED[name] = (file, card)


def load_probes(name: str, path: str | Path | None = None) -> ProbeSet:
    """What is asked: a built-in probe set, a benchmark, or a file of your own.

    Args:
        name: `"safety"`, `"toxicity"`, `"bias"`, `"ethics"`, `"privacy"`, `"robustness"`, or a benchmark's name
            (`mechdrift probes` lists them). `"ethics"` is the built-in set, and the benchmark of that name where
            `path` is anything but a JSONL file.
        path: a JSONL file in the format of the built-in sets, or a benchmark's file or folder as published. Without
            it, a benchmark is read from the Hugging Face hub.

    Returns:
        A `ProbeSet`; it iterates over its `ProbeItem`s. Its `.frame` has `id, dimension, family, contrast, twin,
        prompt`.

    Raises:
        MechdriftError: for an unknown name, and for a file with a wrong field; the error names the line.

    Source:
        The cards of the sets, `mechdrift/probes/data/*.md`; each benchmark's paper, in `mechdrift probes`.

    Example:
        >>> probes = md.load_probes("safety").sample(8)  # 8 twin pairs, drawn evenly over families
        >>> len(probes), len(probes.where("trigger"))
        (16, 8)
    """
    if name in BENCHMARKS and (name not in DIMENSIONS or (path is not None and Path(path).suffix != ".jsonl")):
        return load_benchmark(name, path)
    if path is None and name not in DIMENSIONS:
        raise MechdriftError(
            f"unknown probe set {name!r}: built-in sets are {', '.join(DIMENSIONS)}, benchmarks "
            f"{', '.join(BENCHMARKS)}; give path= for a file of your own."
        )
    file = Path(path) if path is not None else ADDED[name][0] if name in ADDED else DATA / f"{name}.jsonl"
    items = read_items(file, default_dimension=name)
    dimensions = {item.dimension for item in items}
    if len(dimensions) > 1:
        raise MechdriftError(
            f"{file}: items of {len(dimensions)} dimensions in one set ({', '.join(sorted(dimensions))}); split "
            "the file."
        )
    is_built_in = file.parent == DATA
    return ProbeSet(
        name=name,
        dimension=items[0].dimension,
        items=items,
        source="mechdrift" if is_built_in else str(file),
        licence="Apache-2.0" if is_built_in else "as the file's",
    )


def load_everyday(path: str | Path | None = None) -> tuple[EverydayRequest, ...]:
    """The everyday requests of the package or, with `path`, of a JSONL file of the same format."""
    rows = _read_rows(Path(path) if path is not None else DATA / "plain.jsonl", PlainRow)
    _check_ids(rows)
    for where, row in rows.items():
        _check_filled(row, where, "prompt")
    return tuple(EverydayRequest(**row | {"must": tuple(row["must"])}) for row in rows.values())


def load_sentences(path: str | Path | None = None) -> tuple[SentencePair, ...]:
    """The minimal sentence pairs of the package or, with `path`, of a JSONL file of the same format."""
    rows = _read_rows(Path(path) if path is not None else DATA / "sentences.jsonl", SentenceRow)
    _check_ids(rows)
    for where, row in rows.items():
        _check_filled(row, where, "more", "less")
        if row["direction"] not in ("stereotype", "anti"):
            raise MechdriftError(f"{where}: 'direction' is {row['direction']!r}; 'stereotype' or 'anti' was expected.")
        if row["more"] == row["less"]:
            raise MechdriftError(
                f"{where}: 'more' and 'less' are the same sentence; they should differ in the group they name."
            )
    return tuple(SentencePair(**row) for row in rows.values())


def load_card(name: str) -> str:
    """The Markdown card of a built-in set."""
    if name not in DIMENSIONS:
        raise MechdriftError(f"there is no card for {name!r}: built-in sets are {', '.join(DIMENSIONS)}.")
    file = ADDED[name][1] if name in ADDED else DATA / f"{name}.md"
    if file is None:
        raise MechdriftError(f"the probe set {name} was added without a card.")
    return file.read_text(encoding="utf-8")


def read_items(file: Path, default_dimension: str) -> tuple[ProbeItem, ...]:
    """All items of a JSONL file, checked one by one and against each other."""
    rows = _read_rows(file, ProbeRow)
    items = {where: _make_item(row, where, default_dimension) for where, row in rows.items()}
    _check_ids(rows)
    _check_twins(items)
    return tuple(items.values())


def _read_rows(file: Path, shape: type) -> dict[str, dict[str, Any]]:
    """The objects of a JSONL file with their fields checked, by file and line."""
    try:
        # Bytes are split, because text would also be split at exotic line breaks inside JSON strings.
        lines = read_whole(file, DATA_LIMIT).splitlines()
    except OSError as error:
        raise MechdriftError(f"the probe file {file} cannot be read ({error.strerror}).") from error
    places = {f"{file}, line {number}": line for number, line in enumerate(lines, 1) if line.strip()}
    if not places:
        raise MechdriftError(f"the probe file {file} is empty: one JSON object per line was expected.")
    return {where: _read_row(line, where, shape) for where, line in places.items()}


def _read_row(line: bytes, where: str, shape: type) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise MechdriftError(f"{where}: not UTF-8 text; save the file as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise MechdriftError(f"{where}: not a JSON object ({str(error).splitlines()[0]}).") from error
    if not isinstance(row, dict):
        raise MechdriftError(f"{where}: a JSON object was expected, not a {type(row).__name__}.")
    if fault := fault_of(shape, row):
        raise MechdriftError(f"{where}: the field {fault}.")
    check_characters(json.dumps(row, ensure_ascii=False), where)
    return row


def _make_item(row: dict[str, Any], where: str, default_dimension: str) -> ProbeItem:
    dimension = row.get("dimension", default_dimension)
    if dimension not in DIMENSIONS:
        raise MechdriftError(
            f'{where}: unknown dimension {dimension!r}; give "dimension", one of {", ".join(DIMENSIONS)}.'
        )
    if row["contrast"] not in ("trigger", "neutral"):
        raise MechdriftError(f"{where}: 'contrast' is {row['contrast']!r}; 'trigger' or 'neutral' was expected.")
    _check_filled(row, where, "prompt")
    for field in ("aligned", "misaligned"):
        if not all(opening.strip() for opening in row[field]) or not row[field]:
            raise MechdriftError(f"{where}: {field!r} is empty; give at least one opening of such an answer.")
    if empty := [name for name, prompt in row.get("variants", {}).items() if not prompt.strip()]:
        raise MechdriftError(f"{where}: the variant {empty[0]!r} is empty; leave it out or give its prompt.")
    return ProbeItem(
        id=row["id"],
        dimension=dimension,
        family=row["family"],
        contrast=row["contrast"],
        twin=row["twin"],
        prompt=row["prompt"],
        aligned=tuple(row["aligned"]),
        misaligned=tuple(row["misaligned"]),
        must=tuple(row.get("must", ())),
        must_not=tuple(row.get("must_not", ())),
        tags=dict(row.get("tags", {})),
        variants=dict(row.get("variants", {})),
    )


def _check_filled(row: dict[str, Any], where: str, *fields: str) -> None:
    for field in fields:
        if not row[field].strip():
            raise MechdriftError(f"{where}: the {field} is empty.")
        check_length(row[field], where, field)


def _check_ids(rows: dict[str, dict[str, Any]]) -> None:
    seen: set[str] = set()
    for where, row in rows.items():
        if row["id"] in seen:
            raise MechdriftError(f"{where}: the id {row['id']!r} occurs a second time.")
        seen.add(row["id"])


def _check_twins(items: dict[str, ProbeItem]) -> None:
    """Raise unless every twin exists, names its partner, and is of the other class. Keys are file and line."""
    by_id = {item.id: item for item in items.values()}
    for where, item in items.items():
        twin = by_id.get(item.twin)
        if twin is None or twin.twin != item.id or twin.contrast == item.contrast:
            raise MechdriftError(
                f"{where}: the twin of {item.id!r} should be an item of the other class that names it back."
            )
