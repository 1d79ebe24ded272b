"""What strangers hand us: names, texts and files that were made elsewhere.

shown             a text without what a terminal or a page obeys instead of showing
for_spreadsheets  a table whose cells no spreadsheet takes for formulas
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Control characters except tab and line break, marks of writing direction, and halves of characters.
OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
INSTEAD = "\ufffd"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # https://owasp.org/www-community/attacks/CSV_Injection


def shown(text: str) -> str:
    """A text as it may be printed: a replacement character (U+FFFD) stands for each that is obeyed."""
    return OBEYED.sub(INSTEAD, text)


def for_spreadsheets(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table to export as CSV: an apostrophe stands before texts that a spreadsheet would compute."""

    def harmless(cell: object) -> object:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell

    texts = {name: table[name].map(harmless) for name in table.columns if table[name].dtype.kind not in "biuf"}
    return table.assign(**texts).rename(columns=harmless)
