"""Run folders of earlier schema numbers, and folders that do not fit any: a sentence or a page, never a traceback.

`tests/runs/schema-N` is a tiny run that schema number N wrote (random models of two layers, two dimensions). When
`runs.SCHEMA` rises, a run of the number before it is added there.
"""

import json
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mechdrift as md
from mechdrift.comparisons.gate import gate
from mechdrift.records import MechdriftError
from mechdrift.runs import OLDEST, SCHEMA, Run, load_run, open_run, sha256
from mechdrift.tables.registry import TABLES

RUNS = Path(__file__).parent / "runs"
OLD = range(OLDEST, SCHEMA)


def copy_of(schema: int, folder: Path, tables: tuple[str, ...] = tuple(TABLES)) -> Run:
    """A run of a schema number, with these tables only."""
    shutil.copytree(RUNS / f"schema-{schema}", folder)
    manifest = json.loads((folder / "run.json").read_text())
    for stage in manifest["stages"].values():
        for file in [file for file in stage["files"] if file.partition(".")[0] not in tables]:
            (folder / file).unlink()
            del stage["files"][file]
    (folder / "run.json").write_text(json.dumps(manifest))
    return load_run(folder)


def replace_table(run: Run, name: str, table: pd.DataFrame) -> None:
    """Put a table in another's place, and its hash right."""
    table.to_parquet(run.folder / f"{name}.parquet", index=False)
    manifest = run.manifest
    for stage in manifest["stages"].values():
        if f"{name}.parquet" in stage["files"]:
            stage["files"][f"{name}.parquet"] = sha256(run.folder / f"{name}.parquet")
    run.write_manifest(manifest)


def read_all(run: Run) -> None:
    """Everything that is made of a run without a model. A gate may say that a run is too old for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.report()
        run.card()
        with suppress(MechdriftError):
            gate(run, {"safety": 0.1})


def test_there_is_a_run_of_every_earlier_schema():
    assert [(RUNS / f"schema-{number}" / "run.json").is_file() for number in OLD] == [True] * len(OLD)


@pytest.mark.parametrize("schema", OLD)
def test_an_old_run_has_a_page_and_a_card_and_can_be_compared(tmp_path, schema):
    run, other = copy_of(schema, tmp_path / "one"), copy_of(schema, tmp_path / "two", ("scores", "completions"))
    read_all(run)
    page = (tmp_path / "one" / "report.html").read_text()
    assert "parent--child" in page
    assert "The null model is models/" in page
    assert "`models/child` was trained from `models/parent`" in run.card()
    compared = md.compare_runs([run, other])
    assert list(compared.frame.dimension) == ["safety", "bias"] * 2
    for name, table in (("", compared.frame), ("_summary", compared.summary), ("_children", compared.children)):
        TABLES[f"comparison{name}"].check_new(table)
    assert compared.report(tmp_path / "compare.html").is_file()
    assert all(TABLES[file.stem].fault(run.table(file.stem)) == "" for file in run.folder.glob("*.parquet"))


def test_the_null_model_was_called_control_before_schema_3(tmp_path):
    """In the files that these versions wrote; they are read in today's words."""
    run = copy_of(2, tmp_path / "run", ("placebos",))
    written = pd.read_parquet(run.folder / "placebos.parquet")
    assert set(written.source) == {"unrelated", "random", "control"}
    assert run.table("placebos").source.tolist() == written.source.replace("control", "null model").tolist()
    assert run.manifest["pair"]["null_model"] == run.manifest["config"]["null_model"] == "models/null"


@pytest.mark.parametrize("schema", OLD)
def test_an_old_run_is_not_gone_on_with(tmp_path, schema):
    run = copy_of(schema, tmp_path / "run", ("scores",))
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(MechdriftError, match=rf"earlier version \(schema {schema}, now {SCHEMA}\).*another folder"):
        open_run(run.folder, run.manifest["identity"], {})
    assert (run.folder / "run.json").read_bytes() == before


@pytest.mark.parametrize("name", sorted(file.stem for file in (RUNS / "schema-1").glob("*.parquet")))
def test_a_column_that_a_table_always_had_is_missed_by_name_and_later_ones_are_filled_in(tmp_path, name):
    run = copy_of(1, tmp_path / "run", (name,))
    whole = pd.read_parquet(run.folder / f"{name}.parquet")
    for column in TABLES[name].columns if len(whole) else ():
        if column.name in whole:
            replace_table(run, name, whole.drop(columns=column.name))
            if column.since > 1:
                assert column.name in run.table(name)
            else:
                with pytest.raises(MechdriftError, match=rf"{name}\.parquet has no column '{column.name}' \("):
                    run.table(name)


def test_a_run_without_any_of_the_columns_that_came_later_has_a_page(tmp_path):
    run = copy_of(1, tmp_path / "run")
    for file in run.folder.glob("*.parquet"):
        later = [column.name for column in TABLES[file.stem].columns if column.since > 1]
        table = pd.read_parquet(file)
        replace_table(run, file.stem, table.drop(columns=[name for name in later if name in table]))
    read_all(run)
    md.compare_runs([run, copy_of(1, tmp_path / "other")])


@pytest.mark.parametrize("name", ["scores", "drift", "patch"])
def test_text_where_numbers_belong_is_named_with_its_row(tmp_path, name):
    run = copy_of(1, tmp_path / "run", (name,))
    table = pd.read_parquet(run.folder / f"{name}.parquet")
    column = next(column.name for column in TABLES[name].columns if column.kind == "number" and column.name in table)
    replace_table(run, name, table.assign(**{column: [*table[column].astype(str)[:-1], "much"]}))
    with pytest.raises(
        MechdriftError, match=rf"{name}\.parquet holds '.*' in row [0-9]+ in its column '{column}' \(numbers"
    ):
        run.table(name)


# run.json with one value changed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("9" * 100_000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, at: tuple = ()) -> list[tuple]:
    """The paths to all values of a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))][0 if at else 1 :]


MANIFEST = json.loads((RUNS / "schema-1" / "run.json").read_text())


def what_is_wrong(folder: Path) -> str:
    """The sentence that a user reads; empty where there is a page."""
    try:
        read_all(load_run(folder))
    except MechdriftError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Run:
    return copy_of(1, tmp_path_factory.mktemp("fuzz") / "run", ("scores",))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(places(MANIFEST)), value=JSON)
def test_a_manifest_with_any_one_value_changed_gives_a_page_or_a_sentence(scored, place, value):
    manifest = json.loads((RUNS / "schema-1" / "run.json").read_text())
    manifest["stages"] = {name: stage | {"files": {}} for name, stage in manifest["stages"].items()}
    part = manifest
    for key in place[:-1]:
        part = part.get(key, {}) if isinstance(part, dict) else part[key]
    part[place[-1]] = value
    (scored.folder / "run.json").write_text(json.dumps(manifest))
    sentence = what_is_wrong(scored.folder)
    assert "\n" not in sentence
    assert len(sentence) < 1000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "1"}, "'schema' should be a whole number, not '1'"),
        ({"schema": "9" * 100_000}, "'schema' should be a whole number, not '99999"),
        ({"schema": int("9" * 4000)}, r"has schema 9{20}, this version reads schemas 1 to"),
        (
            {"self_tests": {"surface_error": 3}},
            "'self_tests.surface_error' should be a table of names and values, not 3",
        ),
        ({"pair": MANIFEST["pair"] | {"templates": [1]}}, "'pair.templates' should be a table of names and values"),
        ({"power": "much"}, "'power' should be a table of names and values, not 'much'"),
        ({"pilot": {"instruct": 3}}, "'pilot.instruct' should be a table of names and values, not 3"),
        ({"judge": 3}, "'judge' should be a text, not 3"),
        ({"modes": [1]}, "'modes' should be a table of names and values"),
        ({"not inside": 1}, "'not inside' should be a list, not 1"),
        ({"stages": {"scores": {"files": {}, "seconds": "1"}}}, "'stages.scores.seconds' should be a number, not '1'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_in_a_manifest_is_said_in_a_short_sentence(tmp_path, changes, said):
    run = copy_of(1, tmp_path / "run", ())
    (run.folder / "run.json").write_text(json.dumps(MANIFEST | changes))
    with pytest.raises(MechdriftError, match=said) as error:
        load_run(run.folder)
    assert len(str(error.value)) < 400
