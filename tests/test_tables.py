"""Table schemas: what does not fit is named, and what an earlier version wrote is read."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechdrift.records import MechdriftError
from mechdrift.tables.registry import TABLES, reference, table_of
from mechdrift.tables.schema import EMPTY, WORDS, Column, Table

VALUES = {
    "text": ["a", ""],
    "integer": [1, 2],
    "number": [0.5, np.nan],
    "truth": [True, False],
    "token ids": [[1, 2], []],
}


def some(table: Table) -> pd.DataFrame:
    """Two rows that fit."""
    return pd.DataFrame({column.name: VALUES[column.kind] for column in table.columns})


@pytest.mark.parametrize("name", TABLES)
def test_each_table_tells_every_column_once_with_its_meaning(name):
    table = TABLES[name]
    assert len(set(table.names)) == len(table.names)
    assert all(column.meaning and column.meaning == column.meaning.strip(" .") for column in table.columns)
    assert all(column.unit for column in table.columns if column.kind == "number")
    table.check_new(some(table))
    assert f"## {name}\n" in reference()
    assert all(f"| `{column.name}` | {column.kind} | " in reference() for column in table.columns)


def test_the_drift_table_has_its_44_columns():
    assert len(TABLES["drift"].columns) == 44


@pytest.mark.parametrize("name", TABLES)
def test_a_column_that_is_missing_of_another_kind_or_unknown_is_named(name):
    table = TABLES[name]
    for column in table.columns:
        if column.required:
            with pytest.raises(
                MechdriftError, match=rf"'{name}' has no column '{column.name}' \({WORDS[column.kind]}: "
            ):
                table.check_new(some(table).drop(columns=column.name))
        wrong = [{"a": 1}, {"b": 2}]
        with pytest.raises(MechdriftError, match=rf"holds \{{'a': 1\}} in row 1 in its column '{column.name}'"):
            table.check_new(some(table).assign(**{column.name: wrong}))
    with pytest.raises(MechdriftError, match="has a column 'extra' that its schema does not name"):
        table.check_new(some(table).assign(extra=1))


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(list(VALUES)), other=st.sampled_from(list(VALUES)), missing=st.integers(0, 2))
def test_a_kind_is_told_from_the_others_also_among_missing_values(kind, other, missing):
    column = Column(name="x", kind=kind, meaning="x")
    values = pd.Series([*([None] * missing), *VALUES[other]], dtype=object)
    whole = kind == "number" and other == "integer"
    assert column.holds(values) == (kind == other or whole)
    assert column.holds(pd.Series([None] * missing, dtype=object))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_has_all_columns_of_their_kinds(name):
    empty = TABLES[name].complete(pd.DataFrame({"layer": []}))
    TABLES[name].check_new(empty)
    assert [str(empty[column.name].dtype) for column in TABLES[name].columns if column.required] == [
        EMPTY[column.kind] for column in TABLES[name].columns if column.required
    ]


@pytest.mark.parametrize("name", TABLES)
def test_a_file_of_schema_1_gets_the_columns_that_came_later_and_only_those(name):
    table = TABLES[name]
    for column in table.columns:
        upgraded = table.upgraded(some(table).drop(columns=column.name), 1)
        if column.since > 1 and column.required:
            assert table.fault(upgraded) == ""
            assert (
                upgraded[column.name].isna() if column.earlier is None else upgraded[column.name] == column.earlier
            ).all()
        else:
            assert column.name not in upgraded
    pd.testing.assert_frame_equal(table.upgraded(some(table), 1), some(table))


def test_an_unknown_table_is_named_with_what_to_do():
    with pytest.raises(MechdriftError, match=r"no table 'nothing': declare it in mechdrift/tables"):
        table_of("nothing")


def test_the_reference_page_is_made_without_a_data_frame_library(tmp_path):
    code = (
        "import runpy, sys; sys.argv[1:] = [sys.argv[1]]; runpy.run_module('mechdrift.tables', run_name='__main__');"
        "assert not {'pandas', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "tables.md"], check=True)
    assert (tmp_path / "tables.md").read_text() == reference()
