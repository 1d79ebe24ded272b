"""How records show themselves: one line in a terminal, that line and the first numbers in a notebook.

A record's `summary` says what it is and of which shape. Its `head` is a small table that represents it: the first rows
of its `frame`, unless it has something better.
"""

import html
from typing import TYPE_CHECKING

from mechdrift.records.foreign import shown

if TYPE_CHECKING:
    import pandas as pd

ROWS = 5
MOST_COLUMNS = 12


class Record:
    """The base of records that have a `frame`."""

    __slots__ = ()

    @property
    def summary(self) -> str:
        """What this is and of which shape, in a few words."""
        raise NotImplementedError

    @property
    def head(self) -> "pd.DataFrame":
        """The first numbers, as a small table."""
        return self.frame.head(ROWS)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self.summary)})"

    def _repr_html_(self) -> str:
        return as_html(type(self).__name__, self.summary, self.head)


def as_html(title: str, summary: str, head: "pd.DataFrame") -> str:
    """A title, a line and a table as HTML; every text is escaped."""
    table = head.to_html(border=0, max_cols=MOST_COLUMNS, float_format="{:.3g}".format, notebook=True)
    line = html.escape(shown(summary)).replace("\n", "<br>")
    return f"<div><p><b>{html.escape(title)}</b>: {line}</p>{shown(table)}</div>"


def counted(n: int, one: str, many: str | None = None) -> str:
    """ "1 item", "3 items", "2 families"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def layers_of(layers: tuple[int, ...]) -> str:
    """ "layers 0 to 29 (30)", "layer 7"."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"layers {layers[0]} to {layers[-1]} ({len(layers)})" if layers else "no layer"
