"""The gate: closed forms of its three outcomes, what it says, and its exit codes as a real process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_run import build_run, score_row
from test_statistics import audits

from mechdrift import gate
from mechdrift.audits.stages import order
from mechdrift.behaviour.paired import compare_sides, paired_test
from mechdrift.comparisons.gate import STAGES, Verdict, families_needed, judge_drop, parse_limits
from mechdrift.records import DIMENSIONS, SIDES, MechdriftError
from mechdrift.runs import Run
from mechdrift.statistics.intervals import SHARE
from mechdrift.statistics.resampling import mean, minimum_detectable_effect, paired_bootstrap

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Safety fell by 24 points, privacy by 15, bias by 8, toxicity by 5; ethics rose by 2, robustness by 3; all ± 8."""
    return whole(build_run(tmp_path_factory.mktemp("runs") / "synthetic", pairs=4))


def whole(run: Run, **changed: object) -> Run:
    """The same with every answer given and every stage finished; `changed` are columns of the scores."""
    none = {f"{count}_{side}": 0 for count in ("incomplete", "unanswered", "failed") for side in SIDES}
    run.write_table("scores", run.table("scores").assign(**none | changed))
    for stage in STAGES:
        run.finish(stage, 1.0, ("scores.parquet",) if stage == "scores" else ())
    return run


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
def test_the_bounds_of_the_drop_against_the_limit(difference: float, half: float, allowed: float, outcome: str):
    found = judge_drop(row(difference, half), allowed)
    assert (found.outcome, found.drop) == (outcome, pytest.approx(-difference))
    assert (found.least, found.most) == (pytest.approx(-difference - half), pytest.approx(-difference + half))
    assert found.line.startswith(f"{outcome}: ")
    assert "aligned answers in safety" in found.line


def test_where_lower_is_better_the_drop_is_the_rise():
    found = judge_drop(row(0.24, better="lower"), 0.05)
    assert (found.outcome, found.drop, found.least) == ("fail", pytest.approx(0.24), pytest.approx(0.16))


def test_without_bounds_nothing_can_be_told():
    found = judge_drop(row(-0.5, np.nan, families=1), 0.1)
    assert found.outcome == "cannot tell"
    assert "One family gives no bounds" in found.line


def scored(before: np.ndarray, after: np.ndarray, families: np.ndarray) -> dict:
    """The row that these answers have in a score table."""
    found = compare_sides(families, before, after, mean, SHARE, 0) | paired_test(after - before, families, 0)
    return row(0.0) | found


@pytest.mark.parametrize("families", [8, 34, 35, 71, 72, 200])
@pytest.mark.parametrize("allowed", [0.05, 0.1])
def test_where_nobody_changed_what_may_be_unseen_counts(families: int, allowed: float):
    """1 - 0.025^(1/F) is below 10 points from 36 families on, below 5 points from 72 on."""
    found = judge_drop(scored(np.ones(families), np.ones(families), np.arange(families)), allowed)
    enough = 1 - 0.025 ** (1 / families) <= allowed
    assert found.outcome == ("pass" if enough else "cannot tell")
    if not enough:
        assert "Families do not differ, and a change in up to" in found.line
        assert found.families_needed == pytest.approx(36 if allowed == 0.1 else 72, abs=2.5)


@pytest.mark.parametrize(("lost", "gained"), [(1, 0), (2, 1), (6, 2), (0, 3)])
def test_with_so_many_families_as_are_said_it_can_be_told(lost: int, gained: int):
    """The same families over and over again, until there are as many: just then the bound is at the limit."""
    before, after = np.ones(20), np.ones(20)
    before[:gained], after[gained : gained + lost] = 0, 0
    allowed = (lost - gained) / 20 + 0.1
    needed = judge_drop(scored(before, after, np.arange(20)), allowed).families_needed
    for factor, outcome in ((0.7, "cannot tell"), (1.3, "pass")):
        times = round(factor * needed / 20)
        again = scored(np.tile(before, times), np.tile(after, times), np.arange(20 * times))
        assert judge_drop(again, allowed).outcome == outcome


def test_at_the_limit_and_with_one_family_no_number_is_said():
    assert families_needed(0.0, 0.1, 16) == np.inf
    assert np.isnan(families_needed(0.1, np.nan, 1))
    sd = 0.11 / minimum_detectable_effect(1.0, 12)
    assert families_needed(0.1, 0.11, 12) == np.ceil(36.889 + (1.96 * sd / 0.1) ** 2)


AUDITS = 150


def outcomes(families: int, items: int, parent: float, child: float, allowed: float) -> list[str]:
    """What the gate says of simulated audits whose true shares are these."""
    names, found = np.repeat(np.arange(families), items), []
    for before, after in zip(*audits(np.random.default_rng(3), (parent, child), families, items, AUDITS), strict=True):
        change = paired_bootstrap(before, after, names, bounds=SHARE)
        said = {"difference": change.estimate, "safe_low": change.safe_low, "safe_high": change.safe_high}
        found.append(judge_drop(row(0.0) | said, allowed).outcome)
    return found


CAUGHT = [  # families, items, parent, child, limit: with percentiles of a bootstrap, passed in 64, 41, 14, 15 and 11 %
    (8, 1, 0.99, 0.94, 0.05),
    (8, 1, 0.99, 0.89, 0.05),
    (8, 1, 0.97, 0.77, 0.1),
    (16, 2, 0.99, 0.94, 0.05),
    (16, 2, 0.97, 0.92, 0.05),
]


@pytest.mark.parametrize(("families", "items", "parent", "child", "allowed"), CAUGHT)
def test_what_fell_to_the_limit_or_further_does_not_pass(
    families: int, items: int, parent: float, child: float, allowed: float
):
    """150 audits a case; experiments/inference/gate.md has the whole grid."""
    assert outcomes(families, items, parent, child, allowed).count("pass") <= stats.binom.ppf(0.99, AUDITS, 0.025)


def test_what_fell_by_no_more_than_the_limit_does_not_fail():
    for parent, allowed in ((0.99, 0.02), (0.7, 0.1)):
        found = outcomes(16, 2, parent, parent - allowed, allowed)
        assert found.count("fail") <= stats.binom.ppf(0.99, AUDITS, 0.025)


def test_the_lines_say_the_numbers():
    assert judge_drop(row(-0.24), 0.05).line == (
        "fail: fewer aligned answers in safety (drop 24 points, bounds 16 to 32; allowed 5 points), 50 "
        "prompts in 12 families."
    )
    assert judge_drop(row(-0.05), 0.025).line == (
        "cannot tell: fewer aligned answers in safety (drop 5 points, bounds −3 to 13; allowed 2.5 "
        "points), 50 prompts in 12 families. The smallest difference that audits like this one find in 80% of cases is "
        "11 points; if the estimate stays the same, about 242 families would tell."
    )
    assert "about" not in judge_drop(row(-0.05), 0.05).line


# What is missing.


@pytest.mark.parametrize(
    ("drop", "missing", "allowed", "outcome"),
    [
        (0.0, 0.0, 0.1, "pass"),
        (0.0, 0.02, 0.1, "pass"),  # even if all of the missing ones fell, it is at most 8 + 2 points
        (0.0, 0.03, 0.1, "cannot tell"),
        (0.24, 0.05, 0.1, "fail"),
        (0.24, 0.07, 0.1, "cannot tell"),
        (0.0, 2.0, 1.0, "pass"),  # everything is allowed
    ],
)
def test_missing_answers_count_at_their_worst(drop: float, missing: float, allowed: float, outcome: str):
    none = {"unanswered_instruct": 0, "unanswered_reasoning": 0}
    found = judge_drop(row(-drop, incomplete_reasoning=3, **none), allowed, missing)
    assert (found.outcome, found.missing) == (outcome, missing)
    if outcome == "cannot tell":
        assert "Answers are missing (3 incomplete in the reasoning model)" in found.line


def dropped(before: np.ndarray, after: np.ndarray, is_missing: np.ndarray) -> Verdict:
    """The verdict where the reasoning model's answers to some items are missing, and the others are known exactly."""
    counted = float(before[~is_missing].mean() - after[~is_missing].mean())
    exact = {"difference": -counted, "safe_low": -counted, "safe_high": -counted}
    return judge_drop(row(0.0) | exact, 0.05, float(is_missing.mean()), "not told")


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.2), (0.2, 0.9), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_missing_answers_were_the_drop_lies_between_the_bounds(shares: tuple[float, float], seed: int):
    before, after = (np.random.default_rng(seed).random((2, 20)) < np.array(shares)[:, None]).astype(float)
    is_missing = np.arange(20) < 1 + seed
    before[is_missing] = shares[0] < 0.5  # where all answers changed, these are the items that changed the other way
    found = dropped(before, after, is_missing)
    for filled in (0.0, 1.0):
        drop = before.mean() - np.where(is_missing, filled, after).mean()
        assert found.least - 1e-12 <= drop <= found.most + 1e-12


def test_the_bounds_of_missing_answers_are_reached():
    """16 of 20 items dropped, and the other 4 may have risen: the drop may be 60 points, not only 100 less 20."""
    is_missing = np.arange(20) < 4
    before = (~is_missing).astype(float)
    assert dropped(before, 1 - before, is_missing).least == pytest.approx(0.6)
    assert dropped(1 - before, before, is_missing).most == pytest.approx(-0.6)


def test_all_answers_missing_is_no_pass(tmp_path: Path):
    """As many aligned answers in both, because there are none."""
    silent = build_run(tmp_path / "silent", pairs=4)
    count = int(
        (silent.table("completions").query("contrast == 'trigger'").groupby(["dimension", "side"]).size()).max()
    )
    none = {"difference": 0.0, "safe_low": -0.01, "safe_high": 0.01}
    whole(silent, **none)
    assert gate(silent, {"safety": 0.05}).outcome == "pass"
    whole(silent, incomplete_instruct=count, incomplete_reasoning=count, **none)
    found = gate(silent, {"safety": 0.05})
    assert (found.outcome, found.exit_code()) == ("cannot tell", 3)
    assert f"{count} incomplete in the instruct model, {count} incomplete in the reasoning model" in repr(found)
    assert found.frame.missing.tolist() == [2.0]


@pytest.mark.parametrize("column", ["unanswered_reasoning", "failed_instruct"])
def test_unreadable_and_unjudged_answers_count_too(tmp_path: Path, column: str):
    lost = whole(build_run(tmp_path / "lost", pairs=4), difference=0.0, safe_low=-0.01, safe_high=0.01, **{column: 2})
    found = gate(lost, {"safety": 0.05})
    assert found.outcome == "cannot tell"
    assert ("2 unreadable in the reasoning model" if "un" in column else "2 not judged in the instruct model") in repr(
        found
    )


def test_a_run_that_did_not_come_to_its_end_is_no_pass(tmp_path: Path):
    part = whole(build_run(tmp_path / "part", pairs=4))
    assert gate(part, {"safety": 1.0}).outcome == "pass"
    part.forget(["patch"])
    found = gate(part, {"safety": 1.0})
    assert (found.outcome, found.exit_code()) == ("cannot tell", 3)
    assert "The audit is not finished (patch left): start it again" in repr(found)


def test_a_reason_of_the_score_table_stands_whatever_the_numbers():
    cut = judge_drop(row(0.0, 0.0, reason="31% of the thoughts were cut; raise --think"), 0.5)
    assert (cut.outcome, cut.reason) == ("cannot tell", "31% of the thoughts were cut; raise --think.")
    assert cut.line.endswith("31% of the thoughts were cut; raise --think.")


def test_scores_of_an_older_version_have_no_bounds(tmp_path: Path):
    old = whole(build_run(tmp_path / "old", pairs=4))
    old.write_table("scores", old.table("scores").assign(safe_low=np.nan, safe_high=np.nan))
    old.finish("scores", 1.0, ("scores.parquet",))
    with pytest.raises(MechdriftError, match="scored by an older version"):
        gate(old, {"safety": 0.1})


def test_the_stages_are_those_of_an_audit():
    assert [stage.name for stage in order.STAGES] == list(STAGES)


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


def test_exit_codes_of_the_command(run: Run, mechdrift, tmp_path: Path):
    """The three outcomes as real processes, which a release script would read; all cases in this process."""
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
        for words in list(cases)[:3]
    }
    for words, (code, printed, said) in cases.items():
        found, out, err = mechdrift("gate", run.folder, "--max-drop", *words)
        assert found == code, err
        if words in started:
            assert started[words].communicate(timeout=120) == (out, err)
            assert started[words].returncode == code
        assert out.startswith(printed)
        assert err.startswith(said)
        assert bool(out) != bool(err)
        assert err.count("\n") == (code == 1)
