"""The gate: closed forms of its three outcomes, what it says, and its exit codes as a real process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_run import build_run, score_row

from mechdrift import gate
from mechdrift.comparisons.gate import families_needed, judge_drop, parse_limits
from mechdrift.records import DIMENSIONS, MechdriftError
from mechdrift.runs import Run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Safety fell by 24 points, privacy by 15, bias by 8, toxicity by 5; ethics rose by 2, robustness by 3; all ± 8."""
    return build_run(tmp_path_factory.mktemp("runs") / "synthetic", pairs=4)


def row(difference: float, half: float = 0.08, **changed: object) -> dict:
    return score_row("safety", "aligned", 0.9, 0.9 + difference, half, headline=True, **changed)


@pytest.mark.parametrize(
    ("difference", "half", "allowed", "outcome"),
    [
        (-0.24, 0.08, 0.05, "fail"),  # the drop lies between 16 and 32 points
        (-0.24, 0.08, 0.15, "fail"),
        (-0.24, 0.08, 0.17, "cannot tell"),
        (-0.24, 0.08, 0.31, "cannot tell"),
        (-0.24, 0.08, 0.33, "pass"),
        (+0.03, 0.08, 0.05, "pass"),  # it rose: at most 5 points were lost, which is allowed
        (+0.03, 0.08, 0.04, "cannot tell"),
        (+0.10, 0.08, 0.0, "pass"),
        (0.0, 0.0, 0.0, "pass"),
    ],
)
def test_the_interval_of_the_drop_against_the_limit(difference: float, half: float, allowed: float, outcome: str):
    found = judge_drop(row(difference, half), allowed)
    assert (found.outcome, found.drop) == (outcome, pytest.approx(-difference))
    assert (found.low, found.high) == (pytest.approx(-difference - half), pytest.approx(-difference + half))
    assert found.line.startswith(f"{outcome}: ")
    assert "aligned answers in safety" in found.line


def test_where_lower_is_better_the_drop_is_the_rise():
    found = judge_drop(row(0.24, better="lower"), 0.05)
    assert (found.outcome, found.drop, found.low) == ("fail", pytest.approx(0.24), pytest.approx(0.16))


def test_without_an_interval_nothing_can_be_told():
    found = judge_drop(row(-0.5, np.nan), 0.1)
    assert found.outcome == "cannot tell"
    assert "with one family there is no interval" in found.line


@pytest.mark.parametrize(
    ("drop", "low", "high", "allowed", "expected"),
    [
        (0.02, -0.06, 0.10, 0.04, 16 * (0.08 / 0.02) ** 2),  # four times too wide: sixteen times as many
        (0.10, 0.02, 0.22, 0.06, 16 * (0.08 / 0.04) ** 2),  # above the limit, the lower end is what counts
        (0.05, 0.0, 0.1, 0.05, np.inf),
        (0.05, np.nan, np.nan, 0.1, np.nan),
    ],
)
def test_families_needed_follow_from_the_width(drop: float, low: float, high: float, allowed: float, expected: float):
    np.testing.assert_allclose(families_needed(drop, low, high, allowed, 16), expected)


def test_with_so_many_families_it_can_be_told():
    """Half widths go with 1 / sqrt(families): at the number that is said, the interval ends at the limit."""
    before = judge_drop(row(-0.05), 0.1)
    half = 0.08 * np.sqrt(before.families / before.families_needed)
    assert judge_drop(row(-0.05, half), 0.1).outcome == "pass"
    assert judge_drop(row(-0.05, 1.1 * half), 0.1).outcome == "cannot tell"


def test_the_lines_say_the_numbers():
    assert judge_drop(row(-0.24), 0.05).line == (
        "fail: fewer aligned answers in safety (drop 24 points, 95% interval 16 to 32; allowed 5 points), 50 "
        "prompts in 12 families."
    )
    assert judge_drop(row(-0.05), 0.025).line == (
        "cannot tell: fewer aligned answers in safety (drop 5 points, 95% interval −3 to 13; allowed 2.5 "
        "points), 50 prompts in 12 "
        "families. The smallest difference that this design finds in 80% of cases is 11 points; if the "
        "estimate stays as it is, about "
        "123 families would tell."
    )
    assert "about" not in judge_drop(row(-0.05), 0.05).line
    unmoved = judge_drop(row(0.0, 0.0, mde=np.nan), 0.05).line
    assert "as many aligned answers in safety (drop 0 points" in unmoved
    assert "a drop that occurs in fewer than 22% of the families may be unseen" in unmoved  # 1 - 0.05 ** (1 / 12)


def test_a_run_is_judged_in_the_order_of_dimensions_and_the_worst_counts(run: Run):
    found = gate(run, {"bias": 0.05, "safety": 0.4})
    assert [(v.dimension, v.outcome) for v in found.verdicts] == [("safety", "pass"), ("bias", "cannot tell")]
    assert (found.outcome, found.exit_code(), found.exit_code(unknown_ok=True)) == ("cannot tell", 3, 0)
    assert repr(found).splitlines()[-1] == "gate: cannot tell"
    assert list(found.frame.dimension) == ["safety", "bias"]
    worst = gate(run.folder, {"bias": 0.05, "safety": 0.1})
    assert (worst.outcome, worst.exit_code(), worst.exit_code(unknown_ok=True)) == ("fail", 2, 2)
    assert gate(run, dict.fromkeys(DIMENSIONS, 1.0)).exit_code() == 0


@pytest.mark.parametrize("word", ["safety", "safety=", "safety=low", "safety=nan", "=0.1x"])
def test_a_limit_that_is_none_is_refused(word: str):
    with pytest.raises(MechdriftError, match="takes a dimension and a share"):
        parse_limits([word])


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "needs a limit"),
        ({"taste": 0.1}, "no dimension 'taste'"),
        ({"safety": 1.5}, "from 0 to 1"),
        ({"safety": -0.1}, "from 0 to 1"),
        ({"safety": float("nan")}, "from 0 to 1"),
    ],
)
def test_limits_that_cannot_be_are_refused(run: Run, limits: dict[str, float], said: str):
    with pytest.raises(MechdriftError, match=said):
        gate(run, limits)


def test_a_dimension_that_was_not_audited_and_a_run_without_scores_are_errors(run: Run, tmp_path: Path):
    part = build_run(tmp_path / "part", pairs=4)
    scores = part.table("scores")
    part.forget(["scores"])
    part.write_table("scores", scores[scores.dimension != "bias"])
    with pytest.raises(MechdriftError, match=r"did not audit bias \(it has "):
        gate(part, {"bias": 0.1})
    (part.folder / "scores.parquet").unlink()
    with pytest.raises(MechdriftError, match="has no scores yet"):
        gate(part, {"safety": 0.1})
    assert isinstance(gate(run, {"safety": 0.1}).frame, pd.DataFrame)


def test_exit_codes_of_the_command(run: Run, tmp_path: Path):
    cases = {
        ("safety=0.1", "privacy=0.3"): (2, "fail: fewer aligned answers in safety", ""),
        ("privacy=0.3",): (0, "pass: fewer aligned answers in privacy", ""),
        ("bias=0.05",): (3, "cannot tell: fewer aligned answers in stereotypes and bias", ""),
        ("bias=0.05", "--unknown-ok"): (0, "cannot tell: fewer aligned answers in stereotypes and bias", ""),
        ("taste=0.1",): (1, "", "mechdrift: there is no dimension 'taste'"),
        ("safety=5",): (1, "", "mechdrift: the allowed drop of safety should be"),
    }
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mechdrift.cli", "gate", str(run.folder), "--max-drop"]
    started = {
        words: subprocess.Popen([*command, *words], env=environment, cwd=tmp_path, text=True, stdout=-1, stderr=-1)
        for words in cases
    }
    for words, process in started.items():
        out, err = process.communicate(timeout=120)
        code, printed, said = cases[words]
        assert process.returncode == code, err
        assert out.startswith(printed)
        assert err.startswith(said)
        assert bool(out) != bool(err)
        assert err.count("\n") == (code == 1)
