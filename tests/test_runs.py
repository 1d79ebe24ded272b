"""Run folders: files are there whole or not at all, and what is wrong with one is said in one sentence."""

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from mechdrift.records import MechdriftError
from mechdrift.runs import SCHEMA, Run, check_target, load_run, open_run
from mechdrift.runs import run as run_module
from mechdrift.tables.registry import TABLES
from mechdrift.tables.schema import Column, Table

IDENTITY = {"pair": "a--b", "preset": "quick", "dimensions": ["safety"]}
TABLE = pd.DataFrame({"item": ["x", "y"], "value": [1.5, float("nan")], "ids": [[1, 2], []]})
TENSORS = {"safety.instruct": torch.arange(12.0).reshape(3, 4)}


SCHEMAS = {
    "scores": (("item", "text"), ("value", "number"), ("ids", "token ids")),
    "kl": (("kl", "number"),),
    "t": (("text", "text"),),
}


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """Tables of few columns: what a run folder does with one is the same for all."""
    for name, columns in SCHEMAS.items():
        known = tuple(Column(name=column, kind=kind, meaning=f"the {column}") for column, kind in columns)
        monkeypatch.setitem(TABLES, name, Table(name=name, row="row", meaning="A table.", columns=known))


@pytest.fixture
def run(tmp_path) -> Run:
    """A run with one finished stage, of a table and a tensor."""
    run = open_run(tmp_path / "run", IDENTITY, {"config": {"pair": "a--b"}})
    run.write_table("scores", TABLE)
    run.write_tensors("directions", TENSORS)
    run.finish("drift", 1.234, ("scores.parquet", "directions.safetensors"), self_tests={"error": 1e-7})
    return run


def names(run: Run) -> set[str]:
    """Its files, without the lock, which is empty and stays."""
    return {file.name for file in run.folder.iterdir()} - {".lock"}


# What is written is what is read


def test_a_run_reads_back_what_was_written(run):
    again = load_run(run.folder)
    pd.testing.assert_frame_equal(again.table("scores")[["item", "value"]], TABLE[["item", "value"]])
    assert [list(ids) for ids in again.table("scores").ids] == [[1, 2], []]
    assert torch.equal(again.tensors("directions")["safety.instruct"], TENSORS["safety.instruct"])
    assert again.finished == ("drift",)
    assert again.manifest["schema"] == SCHEMA
    assert again.manifest["self_tests"] == {"error": 1e-7}
    assert names(run) == {"run.json", "scores.parquet", "directions.safetensors"}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.none() | TEXT, max_size=5),
    shape=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_any_text_and_any_tensor_survive_the_disk(tmp_path_factory, texts, shape, seed):
    run = open_run(tmp_path_factory.mktemp("any") / "run", IDENTITY, {"config": {}})
    run.write_table("t", pd.DataFrame({"text": pd.Series(texts, dtype=object)}))
    assert [None if pd.isna(text) else text for text in run.table("t").text] == texts
    tensor = torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).transpose(0, -1)  # not contiguous
    run.write_tensors("t", {"t": tensor})
    assert torch.equal(run.tensors("t")["t"], tensor)
    run.write_text("t.html", "".join(text or "" for text in texts))
    assert (run.folder / "t.html").read_bytes().decode() == "".join(text or "" for text in texts)


def test_nothing_is_pickled(run, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    run.write_table("scores", TABLE)
    run.write_tensors("directions", TENSORS)
    run.finish("drift", 1, ("scores.parquet", "directions.safetensors"))
    run.table("scores")
    run.tensors("directions")


def test_other_members_of_a_group_can_read_every_file(run):
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in run.folder.iterdir())


# A write that fails changes nothing


def half(error: BaseException):
    """A writer that writes half a file and then fails."""

    def write(*arguments: object, **_: object) -> None:
        target = next(argument for argument in arguments if isinstance(argument, Path))
        target.write_bytes(b"half")
        raise error

    return write


WRITERS = {
    "scores.parquet": ("pandas.DataFrame.to_parquet", lambda run: run.write_table("scores", TABLE)),
    "directions.safetensors": ("safetensors.torch.save_file", lambda run: run.write_tensors("directions", TENSORS)),
    "run.json": ("pathlib.Path.write_text", lambda run: run.write_text("run.json", "{}")),
}


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), MechdriftError, r"{} could not be written \(No space left"),
        (
            SafetensorError("I/O error: No space left"),
            MechdriftError,
            r"{} could not be written \(I/O error: No space left",
        ),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (ValueError("not a table"), ValueError, "not a table"),
    ],
)
def test_a_failing_write_leaves_the_old_file_and_no_other(run, monkeypatch, file, error, raised, message):
    before, files = (run.folder / file).read_bytes(), names(run)
    target, write = WRITERS[file]
    with monkeypatch.context() as patched:
        patched.setattr(target, half(error))
        with pytest.raises(raised, match=message.format(file)):
            write(run)
    assert (run.folder / file).read_bytes() == before
    assert names(run) == files
    assert run.damaged_stages() == ()


def test_a_file_that_cannot_be_moved_into_place_leaves_no_temporary(run):
    (run.folder / "kl.parquet").mkdir()
    with pytest.raises(MechdriftError, match=r"kl.parquet could not be written"):
        run.write_table("kl", pd.DataFrame({"kl": [1.0]}))
    assert names(run) == {"run.json", "scores.parquet", "directions.safetensors", "kl.parquet"}


def test_a_run_folder_that_vanishes_is_one_sentence(run):
    for file in run.folder.iterdir():
        file.unlink()
    run.folder.rmdir()
    with pytest.raises(MechdriftError, match="is not a run folder"):
        run.finish("kl", 1)


# Damage is named


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "replaced": lambda data: b"PK\3\4",
    "one byte": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_changed_byte_is_found_by_the_hash(run, kind):
    damage = DAMAGES[kind]
    for file, read in (("scores.parquet", run.table), ("directions.safetensors", run.tensors)):
        (run.folder / file).write_bytes(damage((run.folder / file).read_bytes()))
        with pytest.raises(MechdriftError, match=rf"{file} is damaged \(its hash is not the recorded one\): delete it"):
            read(file.split(".")[0])
    assert run.damaged_stages() == ("drift",)


@pytest.mark.parametrize("kind", ["cut", "emptied", "replaced"])
def test_a_damaged_file_of_an_unfinished_stage_is_named_too(run, kind):
    damage = DAMAGES[kind]
    run.forget(["drift"])
    for file, read in (("scores.parquet", run.table), ("directions.safetensors", run.tensors)):
        (run.folder / file).write_bytes(damage((run.folder / file).read_bytes()))
        with pytest.raises(MechdriftError, match=f"{file} is damaged: delete it and run the audit again"):
            read(file.split(".")[0])


def test_a_missing_file_is_named_and_its_stage_is_damaged(run):
    (run.folder / "scores.parquet").unlink()
    with pytest.raises(MechdriftError, match=r"scores.parquet is missing: run the audit again"):
        run.table("scores")
    assert run.damaged_stages() == ("drift",)


def test_a_file_that_a_finished_stage_wrote_and_that_is_gone_is_not_taken_for_never_made(run):
    assert not run.has("absent.parquet")
    run.write_table("kl", pd.DataFrame({"kl": [1.0]}))
    run.finish("kl", 1, ("kl.parquet",))
    (run.folder / "kl.parquet").unlink()
    with pytest.raises(MechdriftError, match=r"kl.parquet is missing: run the audit again"):
        run.has("kl.parquet")


def test_a_trajectory_has_no_report_or_card(run):
    run.write_manifest(run.manifest | {"identity": {"history": "x", "step": 5}})
    for write in (run.report, run.card):
        with pytest.raises(MechdriftError, match="belongs to a trajectory and is no audit"):
            write()


def test_pages_do_not_replace_data_devices_or_links(run, tmp_path):
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    link.symlink_to(page)
    assert check_target(link) == page.resolve()
    os.mkfifo(tmp_path / "fifo.html")
    for file, why in (
        (run.folder / "run.json", "run's own data"),
        (tmp_path / "fifo.html", "no regular file"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(MechdriftError, match=why):
            check_target(file)
    assert check_target(run.folder / "compare.html")


def test_a_forgotten_stage_is_neither_finished_nor_damaged(run):
    run.finish("kl", 1)
    (run.folder / "scores.parquet").unlink()
    run.forget(["drift", "unknown"])
    assert (run.finished, run.damaged_stages()) == (("kl",), ())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"schema": 1}', '{"schema": 1, "config": {}, "identity": {}, "stages": []}'],
)
def test_a_damaged_manifest_is_named(run, text):
    (run.folder / "run.json").write_text(text)
    with pytest.raises(MechdriftError, match=r"run.json is damaged: .*; delete the folder and run the audit again"):
        load_run(run.folder)
    with pytest.raises(MechdriftError, match=r"run.json is damaged"):
        open_run(run.folder, IDENTITY, {})


@pytest.mark.parametrize(
    "facts",
    [
        {"pair": None},
        {"pair": {"name": "x"}},
        {"probes": {"safety": {}}},
        {"budgets": {"think": "96"}},
        {"versions": []},
        {"stages": {"kl": {"files": {}}}},
        {"stages": {"pair": {"files": {}, "seconds": 1}}},
    ],
    ids=str,
)
def test_a_manifest_whose_facts_have_another_shape_is_damaged(run, facts):
    run.write_manifest(run.manifest | facts)
    with pytest.raises(MechdriftError, match=r"run.json is damaged: '.*; delete the folder"):
        load_run(run.folder)


@pytest.mark.skipif(os.name != "posix", reason="links need a right of their own")
@pytest.mark.parametrize("name", [".lock", "figures", "answers-instruct.partial.jsonl"])
def test_nothing_is_written_through_a_link_in_a_run_folder(run, tmp_path, name):
    (mine := tmp_path / "mine").write_text("mine")
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).symlink_to(mine)
    with pytest.raises(MechdriftError, match=f"{name} is a link"), run.locked():
        pytest.fail("the folder was entered")
    assert mine.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="no pipes with names")
@pytest.mark.parametrize("name", ["run.json", "scores.parquet"])
def test_a_pipe_in_a_run_folder_is_refused_and_nobody_waits_for_it(run, name):
    (run.folder / name).unlink(missing_ok=True)
    os.mkfifo(run.folder / name)
    with pytest.raises(MechdriftError, match=f"{name} is no regular file"):
        load_run(run.folder).table("scores")


def test_a_table_that_unpacks_to_more_than_any_holds_is_refused_before_it_is_read(run, monkeypatch):
    """A column of one value takes a few bytes, however many rows it has."""
    monkeypatch.setattr(run_module, "MOST_CELLS", 10_000)
    run.write_table("kl", pd.DataFrame({"kl": np.zeros(10_000)}))
    assert len(run.table("kl")) == 10_000
    run.write_table("kl", pd.DataFrame({"kl": np.zeros(10_001)}))
    with pytest.raises(MechdriftError, match=r"kl\.parquet unpacks to more than 10,000 cells"):
        run.table("kl")


def test_a_manifest_that_is_not_text_is_named(run):
    (run.folder / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MechdriftError, match=r"run.json is damaged"):
        load_run(run.folder)


def test_a_manifest_is_read_as_utf8_in_every_locale(run):
    run.finish("kl", 1, note="naïve – 思考")
    assert (
        json.loads((run.folder / "run.json").read_bytes().decode())["note"]
        == load_run(run.folder).manifest["note"]
        == "naïve – 思考"
    )


# What is not this run


def test_another_schema_is_refused_with_both_numbers(run):
    (run.folder / "run.json").write_text(json.dumps({"schema": 99}))
    for read in (load_run, lambda folder: open_run(folder, IDENTITY, {})):
        with pytest.raises(MechdriftError, match=f"has schema 99, this version reads schemas 1 to {SCHEMA}"):
            read(run.folder)


@pytest.mark.parametrize(
    ("key", "value"), [("pair", "c--d"), ("preset", "full"), ("dimensions", ["bias"]), ("seed", 1)]
)
def test_a_run_of_another_configuration_is_refused_with_both_values(run, key, value):
    stored = IDENTITY.get(key)
    with pytest.raises(MechdriftError) as caught:
        open_run(run.folder, IDENTITY | {key: value}, {})
    assert f"holds another run ({key} is {stored!r} there, {value!r} here)" in str(caught.value)


def test_the_same_configuration_goes_on_and_clears_what_a_kill_left(run):
    (run.folder / ".kl.parquet.123.part").write_bytes(b"half")
    before = (run.folder / "run.json").read_bytes()
    again = open_run(run.folder, IDENTITY, {"config": {"pair": "other"}})
    assert again.finished == ("drift",)
    assert ".kl.parquet.123.part" in names(run)  # it might be another process's, until this one holds the lock
    with again.locked():
        pass
    assert (run.folder / "run.json").read_bytes() == before
    assert ".kl.parquet.123.part" not in names(run)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(MechdriftError, match="is not empty and is not a run folder"):
        open_run(tmp_path, IDENTITY, {})
    with pytest.raises(MechdriftError, match=r"is not a run folder: it has no run\.json"):
        load_run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_was_killed_before_its_first_manifest_starts_again(tmp_path):
    (tmp_path / ".run.json.77.part").write_text('{"sch')
    assert open_run(tmp_path, IDENTITY, {"config": {}}).finished == ()


def test_a_file_or_a_forbidden_place_is_no_run_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below"):
        with pytest.raises(MechdriftError, match=r"cannot be made .*--out"):
            open_run(place, IDENTITY, {})
        with pytest.raises(MechdriftError, match="is not a run folder"):
            load_run(place)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(MechdriftError, match=rf"run.json cannot be read \({os.strerror(errno.EISDIR)}\)"):
        load_run(tmp_path)


def test_two_audits_do_not_write_to_one_folder(tmp_path):
    run = open_run(tmp_path / "run", {}, {"config": {}})
    with run.locked():
        with pytest.raises(MechdriftError, match="another audit is writing"), load_run(run.folder).locked():
            pass
        assert names(run) == {"run.json"}
    with load_run(run.folder).locked():  # free again
        pass


@pytest.mark.parametrize(
    ("error", "is_room"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), True),
        (SafetensorError("Error while deserializing header: header too large"), False),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
    ],
    ids=["disk", "safetensors", "a damaged file", "an absent file"],
)
def test_a_stage_that_finds_no_room_for_what_it_needs_meanwhile_says_so(tmp_path, error, is_room):
    run = open_run(tmp_path / "run", {}, {"config": {}})
    with pytest.raises(MechdriftError if is_room else type(error)) as found, run.scratch() as folder:
        _fail(folder / "half", error)
    assert ("could not be written to" in str(found.value)) == is_room
    assert not folder.exists()


def _fail(file: Path, error: Exception) -> None:
    file.touch()
    raise error
