"""Where standard error is no terminal, a line comes every minute, although nothing is finished yet."""

import re
import time

import pytest

from mechdrift.records import progress as shown
from mechdrift.records.progress import progress, tell, whole


@pytest.fixture
def quick_lines(monkeypatch):
    monkeypatch.setattr(shown, "SECONDS_PER_LINE", 0.02)


def wait_for(capsys, pattern: str) -> str:
    """What is written until a line matches; fails after ten seconds."""
    written, end = "", time.monotonic() + 10
    while not re.search(pattern, written):
        assert time.monotonic() < end, written
        time.sleep(0.01)
        written += capsys.readouterr().err
    return written


def test_a_line_says_what_is_done_and_how_long_the_rest_takes(quick_lines, capsys):
    with progress("Asking", 4) as advance:
        assert "left" not in wait_for(capsys, r"\[\d\d:\d\d\] Asking: 0 of 4\n")
        advance(3)
        wait_for(capsys, r"\[\d\d:\d\d\] Asking: 3 of 4, less than a minute left\n")
        advance(1)
        wait_for(capsys, r"\[\d\d:\d\d\] Asking: 4 of 4\n")
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""  # nothing after the end


def test_minutes_are_rounded():
    assert shown._minutes(shown._seconds_left(60, 1, 3)) == "about 2 min left"
    assert shown._minutes(shown._seconds_left(600, 10, 11)) == "about 1 min left"


def test_the_time_left_of_all_stages_follows_from_the_finished_ones(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    with whole({"answers": 100.0, "drift": 50.0, "patch": 50.0}) as all_stages:
        assert all_stages.left() == 200  # a unit is taken for a second
        all_stages.begin("answers")
        now[0] = 60.0
        assert all_stages.left() == 40 + 100
        assert all_stages.left(least=300) == 300 + 100  # its own bar has more to do than was thought
        now[0] = 340.0
        all_stages.end()
        rate = (340 + 20) / (100 + 20)
        assert all_stages.left() == pytest.approx(100 * rate)
        all_stages.begin("drift")
        now[0] = 345.0
        assert all_stages.left() == pytest.approx(100 * rate - 5)
    assert shown.all_left() == ""


def test_lines_and_bars_tell_the_time_left_of_all_stages(quick_lines, capsys, monkeypatch):
    with whole({"answers": 60.0, "drift": 600.0}) as all_stages:
        all_stages.begin("answers")
        with progress("Asking", 4):
            wait_for(capsys, r"\[\d\d:\d\d\] Asking: 0 of 4, in all about 11 min left\n")
        monkeypatch.setattr(shown.sys.stderr, "isatty", lambda: True)
        with progress("Asking", 4) as advance:
            time.sleep(0.15)  # bars are drawn ten times a second at most
            advance(4)
    assert re.search(r"Asking: 100%.* in all about 11 min left\]", capsys.readouterr().err)


def test_nothing_is_written_in_less_than_a_minute(capsys):
    with progress("Asking", 2) as advance:
        advance(1)
    assert capsys.readouterr().err == ""


def test_the_lines_end_where_the_work_fails(quick_lines, capsys):
    with pytest.raises(ValueError, match="broken"), progress("Asking", 2):
        raise ValueError("broken")
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_what_begins_is_told(capsys):
    tell("stage 2 of 7, answers: both models are asked")
    assert re.fullmatch(r"\[\d\d:\d\d\] stage 2 of 7, answers: both models are asked\n", capsys.readouterr().err)
