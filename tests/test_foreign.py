"""Texts of strangers: nothing that is printed or drawn obeys them, and no spreadsheet computes them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from synthetic_run import build_run

from mechdrift import cli
from mechdrift.records.foreign import INSTEAD, OBEYED, for_spreadsheets, shown
from mechdrift.report.page import write_figures, write_report

SLOW = (
    "patch",
    "patch_items",
    "placebos",
    "grafts",
    "drift",
    "cones",
    "dimensions",
    "selection",
    "steering",
    "thinking",
)
HOSTILE = "evil\x1b]0;T\x07\x1b[31mRED\u202egpj.exe\u2066\x9b2J\x00"
CHROMIUM = Path("/usr/bin/chromium")


def command(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["mechdrift", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run whose every text, in the manifest and in the tables, is hostile somewhere."""
    run = build_run(tmp_path_factory.mktemp("hostile") / "run", pairs=2, without=SLOW)
    manifest = run.manifest
    for side in ("instruct", "reasoning"):
        manifest["pair"][side]["name"] += HOSTILE
    manifest["config"]["pair"] += HOSTILE
    manifest["pair"]["name"] += HOSTILE
    manifest["versions"]["torch"] = HOSTILE
    completions = run.table("completions")
    scores = run.table("scores")
    run.write_table("completions", completions.assign(answer=completions.answer + HOSTILE, prompt=HOSTILE))
    run.write_table("scores", scores.assign(judge=f"=1+1{HOSTILE}"))
    manifest["stages"] = {name: stage | {"files": {}} for name, stage in manifest["stages"].items()}
    run.write_manifest(manifest)
    return run


@pytest.fixture(scope="module")
def pages(hostile) -> list[Path]:
    return [write_report(hostile), *(hostile.folder / "figures").glob("*.html")]


def test_what_is_obeyed_is_shown_as_a_replacement_character():
    assert shown("a\tb\nc é 中 👩‍🔬 עברית") == "a\tb\nc é 中 👩‍🔬 עברית"
    assert shown(HOSTILE) == f"evil{INSTEAD}]0;T{INSTEAD}{INSTEAD}[31mRED{INSTEAD}gpj.exe{INSTEAD}{INSTEAD}2J{INSTEAD}"
    assert shown("\ud800\r") == INSTEAD * 2


def test_no_command_prints_what_a_terminal_obeys(hostile, monkeypatch, capsys, tmp_path):
    ends = [
        command(monkeypatch, "card", hostile.folder),
        command(monkeypatch, "gate", hostile.folder, "--max-drop", "safety=0.05"),
        command(monkeypatch, "report", tmp_path / HOSTILE.replace("\x00", "")),
        command(monkeypatch, "score", "--probes", HOSTILE.replace("\x00", "")),
    ]
    said = capsys.readouterr()
    assert INSTEAD in said.out
    assert said.err.count(INSTEAD) > 5
    assert not OBEYED.search(said.out + said.err)
    assert ends[2:] == [1, 1]


def test_no_page_and_no_figure_holds_them(pages):
    scripts = re.compile(r'<script type="application/json" id="data-[^>]*>(.*?)</script>', re.DOTALL)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        plotly = r'<script type="text/plain" id="plotly">.*?</script>'  # it holds some of its own
        own = re.sub(plotly, "", text, flags=re.DOTALL)
        assert not OBEYED.search(own), page.name
        for found in scripts.findall(text):
            assert not any(OBEYED.search(part) for part in strings(json.loads(found)))


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for entry in value.items() for part in entry for text in strings(part)]
    if isinstance(value, list):
        return [text for entry in value for text in strings(entry)]
    return [value] if isinstance(value, str) else []


def test_every_page_forbids_requests(hostile, pages, tmp_path):
    kept = Path(__file__).parents[1] / "figures" / "directions.html"
    for page in (*pages, *write_figures(hostile, tmp_path), kept):
        assert re.search(r'http-equiv="Content-Security-Policy" content="default-src \'none\'; ', page.read_text())


def test_a_figures_own_page_draws_in_a_browser(hostile, pages, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    drawn = [page for page in (*pages, *write_figures(hostile, tmp_path)) if page.name == "scores.html"]
    problems = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        for page in drawn:
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-plots=drawn]", state="attached")
            assert tab.locator(".main-svg").count() > 0
        browser.close()
    assert (len(drawn), problems) == (2, [])


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_an_export_is_a_formula(cell):
    table = pd.DataFrame({"judge": [cell, "rules"], "n": [-1, 2], "share": [-0.5, float("nan")]})
    safe = for_spreadsheets(table)
    assert safe.judge.tolist() == [f"'{cell}", "rules"]
    assert (safe.n.tolist(), safe.share[0]) == ([-1, 2], -0.5)
