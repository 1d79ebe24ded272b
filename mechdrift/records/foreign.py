"""Names, texts and files that were made elsewhere, and cannot be trusted.

shown             a text without the control characters that a terminal or a page would obey
for_spreadsheets  a table of which no spreadsheet takes a cell for a formula
check_characters  raises for a text that cannot be encoded
is_one_name       whether a name is that of a file beside another, and not a path
read_whole        the bytes of a regular file of limited size, unpacked where it is compressed
"""

import gzip
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from mechdrift.errors import MechdriftError

if TYPE_CHECKING:
    import pandas as pd

# Control characters except tab and line break, marks of writing direction, and halves of characters.
OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
HALF = re.compile(r"[\ud800-\udfff]")
INSTEAD = "\ufffd"
SETTINGS_LIMIT = 16 << 20  # bytes of a file that a person writes: judges, pairs, layouts, histories
DATA_LIMIT = 512 << 20  # bytes of a file of prompts, unpacked
PROMPT_LIMIT = 2_000_000  # characters, more than any model reads at once
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # https://owasp.org/www-community/attacks/CSV_Injection


def shown(text: str) -> str:
    """A text that is safe to print: each control character is replaced by U+FFFD."""
    return OBEYED.sub(INSTEAD, text)


def for_spreadsheets(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table to export as CSV: texts that a spreadsheet would compute begin with an apostrophe."""

    def harmless(cell: object) -> object:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell

    texts = {name: table[name].map(harmless) for name in table.columns if table[name].dtype.kind not in "biuf"}
    return table.assign(**texts).rename(columns=harmless)


def check_characters(text: str, where: str) -> None:
    """Raise for halves of characters (surrogates): JSON and the command line accept them, and no tokenizer does."""
    if HALF.search(text):
        raise MechdriftError(f"{where} holds half of a character (a surrogate): write the text anew as UTF-8.")


def is_one_name(name: str) -> bool:
    """Whether a name is one path component, and so names a file beside the one that it was read from."""
    return name not in ("", ".", "..") and not re.search(r"[/\\:\0]", name)


def check_ends_somewhere(file: Path) -> None:
    """Raise for a device or a pipe, whose end may never come, and `OSError` for a file that does not exist. A folder
    passes: opening it as a file raises."""
    mode = os.stat(file).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise MechdriftError(f"{file} is no regular file: give one that was saved to disk.")


def read_whole(file: Path, limit: int) -> bytes:
    """The bytes of `file`, unpacked where its name ends in .gz. Raises for a device or a pipe, whose end may never
    come, and for more than `limit` bytes; `OSError` as `read_bytes` does."""
    check_ends_somewhere(file)
    is_packed = file.suffix == ".gz"
    with gzip.open(file) if is_packed else file.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        unpacked = " unpacked" if is_packed else ""
        raise MechdriftError(f"{file} is larger than {limit >> 20:,} MB{unpacked}, more than is read: split it.")
    return data


def check_length(text: str, where: str, what: str) -> None:
    """Raise for a text that is longer than any prompt, which would be tokenised for minutes."""
    if len(text) > PROMPT_LIMIT:
        raise MechdriftError(
            f"{where}: the {what} has {len(text):,} characters; {PROMPT_LIMIT:,} or fewer were expected."
        )
