"""A table's schema: its columns, with their kind, unit and meaning.

The declaration is plain data (`Column`, `Table`), because it has three uses: every table is checked against it when it
is written and when it is read, `upgraded` reads files of earlier schema numbers by it, and `describe` makes the
reference page of it. A data-frame library could check as well, but would not name the file and the remedy, or keep
units.

    from mechdrift.tables.registry import TABLES
    TABLES["drift"].column("cosine").meaning
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mechdrift.errors import MechdriftError

if TYPE_CHECKING:  # the declarations alone, as for the reference page, do without pandas
    import pandas as pd

Kind = Literal["text", "integer", "number", "truth", "token ids"]
WORDS: Mapping[Kind, str] = {
    "text": "text",
    "integer": "whole numbers",
    "number": "numbers",
    "truth": "true or false",
    "token ids": "lists of token ids",
}
INFERRED: Mapping[Kind, tuple[str, ...]] = {  # what pandas calls the values of a column of that kind
    "text": ("string",),
    "integer": ("integer",),
    "number": ("floating", "integer", "mixed-integer-float"),
    "truth": ("boolean",),
}
EMPTY: Mapping[Kind, str] = {
    "text": "object",
    "integer": "int64",
    "number": "float64",
    "truth": "bool",
    "token ids": "object",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name, kind of values, unit and meaning.

    `since` is the schema number from which every table has it. A file of an earlier schema may lack it and is read as
    if it held `earlier` in every row (None: a missing value). `required` is False for a column that not every writer
    knows. `renamed` says what values were called before a schema number. Any column may hold missing values: a number
    that could not be computed is missing, never 0.
    """

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    since: int = 1
    earlier: Any = None
    required: bool = True
    renamed: Mapping[int, Mapping[str, str]] = field(default_factory=dict)

    @property
    def unknown(self) -> Any:
        """The value in this column for a file that lacks it."""
        return math.nan if self.earlier is None and self.kind in ("integer", "number") else self.earlier

    def holds(self, values: "pd.Series") -> bool:
        """Whether all values that are not missing are of the column's kind."""
        from pandas.api.types import infer_dtype

        if values.isna().all():
            return True
        if self.kind == "token ids":
            return all(_is_ids(value) for value in values.dropna())
        return infer_dtype(values, skipna=True) in INFERRED[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: its name, what a row is, what it says, and its columns."""

    name: str
    row: str
    meaning: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def complete(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """A table without rows gets all of its columns, each of its kind. Any other table stays as it is."""
        import pandas as pd

        if len(table):
            return table
        needed = [column for column in self.columns if column.required or column.name in table]
        return pd.DataFrame({column.name: pd.Series(dtype=EMPTY[column.kind]) for column in needed})

    def upgraded(self, table: "pd.DataFrame", schema: int) -> "pd.DataFrame":
        """A table of an earlier schema number as one of today's: columns that came since hold their `earlier` value,
        and values that were renamed since have today's names."""
        if not len(table):
            return self.complete(table)
        came = [column for column in self.columns if column.required and column.since > schema]
        table = table.assign(**{column.name: column.unknown for column in came if column.name not in table})
        for column in self.columns:
            for since, words in column.renamed.items():
                if since > schema and column.name in table:
                    table = table.assign(**{column.name: table[column.name].replace(words)})
        return table

    def fault(self, table: "pd.DataFrame") -> str:
        """What does not fit, as the second half of a sentence; "" where everything fits."""
        for column in self.columns:
            what = f"{column.name!r} ({WORDS[column.kind]}: {column.meaning})"
            if column.name not in table:
                if column.required:
                    return f"has no column {what}"
            elif not column.holds(table[column.name]):
                return f"holds {_example(column, table[column.name])} in its column {what}"
        return ""

    def check_new(self, table: "pd.DataFrame") -> None:
        """Raise where a table that is about to be written does not fit: a column is missing, of another kind or not
        declared."""
        unknown = [str(name) for name in table if name not in self.names]
        problem = f"has a column {unknown[0]!r} that its schema does not name" if unknown else self.fault(table)
        if problem:
            raise MechdriftError(f"The table {self.name!r} {problem}: put right what makes it, or its schema.")


def describe(tables: Sequence[Table]) -> str:
    """A section of Markdown per table: what it says, what a row is, and its columns with kind, unit and meaning."""
    return "\n".join(_section(table) for table in tables)


def _section(table: Table) -> str:
    rows = [
        f"| `{column.name}` | {column.kind} | {column.unit or '-'} | {column.meaning} |" for column in table.columns
    ]
    head = f"## {table.name}\n\n{table.meaning} One row per {table.row}.\n"
    return "\n".join([head, "| column | kind | unit | meaning |", "|---|---|---|---|", *rows, ""])


def _is_ids(value: Any) -> bool:
    import numpy as np

    ids = np.asarray(value)
    return ids.ndim == 1 and (ids.size == 0 or np.issubdtype(ids.dtype, np.integer))


def _example(column: Column, values: "pd.Series") -> str:
    """The first value that is not of the column's kind, shortened, and its row (counted from 1)."""
    for place, value in enumerate(values, 1):
        if not column.holds(values.iloc[place - 1 : place]):
            return f"{value!r:.60} in row {place}"
    return f"values of several kinds ({values.dtype})"
