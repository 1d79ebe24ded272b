"""Published rows as they are in the files: CSV, JSON, JSON lines and ConfAIde's plain text.

A `Row` knows its file and number, so that every reader can say which row is not as published.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from mechdrift.records import MechdriftError
from mechdrift.records.foreign import DATA_LIMIT, read_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One published row: `where` it stands (for errors), the `part` (file, hub configuration and split, or JSON key),
    its values."""

    where: str
    part: str
    number: int
    values: Mapping[str, Any]

    def text(self, *columns: str) -> str:
        """The first of `columns` that is there and not empty; several names, since the hub's copies rename columns."""
        for column in columns:
            value = self.values.get(column)
            if value is not None and str(value).strip():
                return str(value).strip()
        raise MechdriftError(f"{self.where}: {self._lacks(columns)}.")

    def _lacks(self, columns: tuple[str, ...]) -> str:
        named = " or ".join(map(repr, columns))
        if any(column in self.values for column in columns):
            return f"the column {named} should hold a text, but is empty"
        found = [repr(str(column)[:40]) for column in self.values]
        return f"the column {named} is missing; there are {', '.join(found[:6])}{' and more' if len(found) > 6 else ''}"

    def optional(self, column: str) -> str:
        value = self.values.get(column)
        return "" if value is None else str(value).strip()

    def label(self, column: str, meanings: Mapping[str, str]) -> str:
        """What a label stands for; an unknown one is an error."""
        found = self.text(column)
        if found not in meanings:
            raise MechdriftError(
                f"{self.where}: the column {column!r} holds {found!r:.60}; {' or '.join(meanings)} was expected."
            )
        return meanings[found]

    def kind(self, kinds: Mapping[str, str]) -> str:
        """The meaning of the first of `kinds` that occurs in the name of the file or hub part."""
        for name, meaning in kinds.items():
            if name in self.part.lower():
                return meaning
        raise MechdriftError(
            f"{self.where}: {' or '.join(map(repr, kinds))} was expected in the name of the file, or of the list "
            "in it that holds the row."
        )


def read_file(file: Path) -> Iterator[Row]:
    """The rows of a file, which may be compressed with gzip. Raises `MechdriftError`, with the row, where the format is
    broken."""
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".json": _json_rows, ".txt": _text_rows}
    name = Path(file.name.removesuffix(".gz"))
    if not file.exists():
        raise MechdriftError(f"there is no benchmark file or folder {file}.")
    if name.suffix not in readers:
        raise MechdriftError(f"{file}: files that can be read end in {', '.join(readers)}, or in one of these and .gz.")
    text = _read_text(file)
    where, number = str(file), 0
    for number, (part, values) in enumerate(readers[name.suffix](where, text), 1):
        yield Row(where=f"{where}, row {number}", part=part or name.stem, number=number, values=values)
    if not number:
        raise MechdriftError(f"the benchmark file {file} is empty: rows in the published format were expected.")


def _read_text(file: Path) -> str:
    try:
        data = read_whole(file, DATA_LIMIT)
        if (place := data.find(b"\0")) >= 0:
            raise MechdriftError(
                f"{_line_of(file, data, place)}: a zero byte, which no text has; save the file as UTF-8."
            )
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MechdriftError(f"{_line_of(file, data, error.start)}: not UTF-8 text; save the file as UTF-8.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MechdriftError(f"{file}: not a whole gzip file; fetch it again.") from error
    except OSError as error:
        raise MechdriftError(f"the benchmark file {file} cannot be read ({error.strerror}).") from error


def _line_of(file: Path, data: bytes, place: int) -> str:
    return f"{file}, line {len(data[: place + 1].splitlines())}"


def _csv_rows(where: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A short row or an open quote at the end is how a cut file shows."""
    rows = csv.DictReader(io.StringIO(text if text.strip() else "", newline=""), strict=True)
    for number in count(1):
        try:
            values = next(rows, None)
        except csv.Error as error:
            raise MechdriftError(f"{where}, row {number}: not CSV ({error}); the file may be cut short.") from error
        if values is None:
            return
        if None in values:
            raise MechdriftError(
                f"{where}, row {number}: more cells than the header names; quote cells that hold commas."
            )
        if None in values.values():
            raise MechdriftError(
                f"{where}, row {number}: fewer cells than the header names; the file may be cut short."
            )
        yield "", values


def _jsonl_rows(where: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate((line for line in _lines(text) if line.strip()), 1):
        values = _parse(line, f"{where}, row {number}")
        if not isinstance(values, dict):
            raise MechdriftError(f"{where}, row {number}: a JSON object was expected, not a {type(values).__name__}.")
        yield "", values


def _json_rows(where: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every list of objects in the file, its keys being the part; a file that is one flat object is one row."""
    values = _parse(text, where) if text.strip() else []
    lists = list(_lists(values, ""))
    if not lists and isinstance(values, dict) and values:
        yield "", values
    for part, entries in lists:
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, dict):
                raise MechdriftError(
                    f"{where}, row {number} of {part!r}: a JSON object was expected, not a {type(entry).__name__}."
                )
            yield part, entry


def _lists(value: Any, part: str) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, list):
        yield part, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _lists(inner, f"{part}/{key}" if part else key)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MechdriftError(f"{where}: not JSON ({str(error).splitlines()[0]}).") from error


def _text_rows(where: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    keep_blank = "<BEGIN>" in text  # in stories a blank line ends a paragraph, elsewhere it means nothing
    for line in _lines(text):
        if line.strip() or keep_blank:
            yield "", {"line": line}


def _lines(text: str) -> list[str]:
    """Lines as any system ends them. Not `splitlines`: it would also cut at the exotic line breaks that JSON strings
    may hold."""
    return re.split(r"\r\n|\r|\n", text)
