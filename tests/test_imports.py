"""What each command imports: nothing of a model without a model. Counted in processes of their own, by modules."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_run import build_run

import mechdrift as md

ROOT = Path(__file__).parents[1]
OF_A_MODEL = ("torch", "transformers", "transformer_lens", "accelerate", "peft", "gguf", "datasets", "sklearn")
OF_TABLES = ("pandas", "pyarrow", "plotly", "scipy", "jinja2")

# Runs a command, then says on standard error what it had imported and what it had cost by then.
WATCHED = """
import atexit, json, sys, time

@atexit.register
def say():
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    said = {"modules": modules, "seconds": time.process_time()}
    print("\\n" + json.dumps(said), file=sys.stderr)

"""
COMMAND = "from mechdrift.cli import main\nmain()"


def watch(code: str, *arguments: object, folder: Path = ROOT) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED + code, *map(str, arguments)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return {"code": done.returncode, **json.loads(done.stderr.splitlines()[-1])}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return build_run(tmp_path_factory.mktemp("imports") / "run").folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("audit", "--help"),
        ("pairs",),
        ("probes",),
        ("audit", "--preset", "huge"),
        ("report", "nowhere"),
        ("card", "nowhere"),
        ("compare", "nowhere", "nowhere"),
        ("gate", "nowhere", "--max-drop", "safety=0.05"),
        ("status", "nowhere.toml"),
    ],
    ids=" ".join,
)
def test_a_command_that_reads_no_run_imports_neither_a_model_nor_a_table(arguments, tmp_path):
    said = watch(COMMAND, *arguments, folder=tmp_path)
    assert [name for name in (*OF_A_MODEL, *OF_TABLES) if name in said["modules"]] == []


def test_a_command_that_reads_a_run_imports_nothing_of_a_model(run, tmp_path):
    for arguments in (("report", run), ("card", run), ("gate", run, "--max-drop", "safety=0.9", "--unknown-ok")):
        said = watch(COMMAND, *arguments, folder=tmp_path)
        assert said["code"] in (0, 2), arguments
        assert [name for name in OF_A_MODEL if name in said["modules"]] == []


def test_the_package_and_its_light_names_import_nothing_heavy():
    """A script that reads a run, or names its probes, waits for no model either."""
    said = watch(
        "import mechdrift as md\nmd.load_probes('safety'), md.Audit(), md.Budget(), md.load_run, md.MechdriftError"
    )
    assert [name for name in (*OF_A_MODEL, *OF_TABLES) if name in said["modules"]] == []


def test_the_door_costs_a_fraction_of_what_stands_behind_it():
    """CPU time, against the same interpreter importing torch alone; measured 0.1."""
    door, torch = watch(COMMAND, "pairs"), watch("import torch")
    assert door["seconds"] < 0.4 * torch["seconds"]


def test_a_public_name_that_was_given_up_still_works_and_says_the_new_one(monkeypatch):
    monkeypatch.setitem(md.RENAMED, "load_contrasts", "load_probes")
    with pytest.warns(DeprecationWarning, match=r"mechdrift\.load_contrasts is now called mechdrift\.load_probes"):
        assert md.load_contrasts is md.load_probes
    assert set(md.RENAMED.values()) <= set(md.__all__)
    assert not set(md.RENAMED) & set(md.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = md.no_such_name
