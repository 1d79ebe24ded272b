"""Finished completions on disk: a file of JSON lines, appended to as answers come in, and read again after a kill."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mechdrift.records import Completion, MechdriftError


def read_store(store: Path | None) -> dict[tuple[str, int], Completion]:
    """The stored completions, by item and sample. A last line that a kill cut short is dropped, also from the file."""
    if store is None or not store.exists():
        return {}
    rows = {}
    # Bytes, because a kill may cut inside a character, and text is also split at exotic line breaks in JSON strings.
    whole, _, rest = store.read_bytes().rpartition(b"\n")
    if rest:
        try:
            store.write_bytes(whole + b"\n" if whole else b"")
        except OSError as error:
            raise _unusable(store, error) from error
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            ids = {name: tuple(values) for name, values in row.items() if isinstance(values, list)}
            found = Completion(**(row | ids))
            rows[found.item_id, found.sample] = found
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MechdriftError(
                f"{store}, line {number}: not a stored completion; remove the file, and the models are asked again."
            ) from error
    return rows


def write_completions(store: Path | None, rows: Sequence[Completion]) -> None:
    """Append completions to a file of JSON lines."""
    if store is None:
        return
    try:
        with store.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))
    except OSError as error:
        raise _unusable(store, error) from error


def _unusable(store: Path, error: OSError) -> MechdriftError:
    return MechdriftError(
        f"{store} could not be written ({error.strerror}): free space or give another folder; the same "
        "command resumes there."
    )
