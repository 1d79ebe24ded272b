"""All tables by name. A stage that writes a new table, or a new column, declares it here first."""

from collections.abc import Mapping

from mechdrift.errors import MechdriftError
from mechdrift.tables.behaviour import BEHAVIOUR
from mechdrift.tables.directions import DIRECTIONS
from mechdrift.tables.patching import PATCHING
from mechdrift.tables.repairs import REPAIR_TABLES
from mechdrift.tables.schema import Table, describe
from mechdrift.tables.several import SEVERAL
from mechdrift.tables.stress import STRESS_TABLES

HEAD = """\
# Tables

What a run folder holds, table by table, and what comparisons and benchmarks give. Files are `NAME.parquet`;
`run.table(NAME)` reads one and checks it against what stands here. Numbers that could not be computed are missing. This
page is made by `python -m mechdrift.tables`.
"""
ALL = (*BEHAVIOUR, *DIRECTIONS, *PATCHING, *SEVERAL, *REPAIR_TABLES, *STRESS_TABLES)
TABLES: Mapping[str, Table] = {table.name: table for table in ALL}


def table_of(name: str) -> Table:
    """The schema of a table; raises where there is none."""
    if name not in TABLES:
        raise MechdriftError(
            f"There is no table {name!r}: declare it in mechdrift/tables; there are {', '.join(TABLES)}."
        )
    return TABLES[name]


def reference() -> str:
    """The reference page of all tables, in Markdown."""
    return f"{HEAD}\n{describe(list(TABLES.values()))}"
