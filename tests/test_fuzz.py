"""A few strange files of each kind; `experiments/faults/fuzz.py` reads thousands."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments" / "faults"))
import fuzz
from synthetic_run import build_run


@pytest.mark.parametrize("name", ["pair files", "histories", "judge files", "layouts", "probe files"])
def test_strange_files_end_in_one_sentence(tmp_path, name, capsys):
    row = fuzz.count(name, fuzz.TEXTS[name], Namespace(cases=40, seed=1), tmp_path)
    assert row["traceback"] == 0, capsys.readouterr().err
    assert row["read"]
    assert row["one sentence"]


def test_strange_run_folders_end_in_one_sentence(tmp_path, capsys):
    base = build_run(tmp_path / "base", pairs=2).folder
    row = fuzz.count("run folders", fuzz.run_case(base, pages=0), Namespace(cases=6, seed=1), tmp_path)
    assert row["traceback"] == 0, capsys.readouterr().err
    assert row["one sentence"]
