"""Many runs on one page: planted changes are pooled as by hand, odd ones are named, and the page chooses and sorts."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_run import filled, score_row
from test_report import CHROMIUM

from mechdrift import cli
from mechdrift.comparisons.children import Comparison
from mechdrift.comparisons.choosing import compare, run_folders
from mechdrift.comparisons.many import PooledRuns, pool_runs
from mechdrift.comparisons.many_page import tenths
from mechdrift.comparisons.pooling import COLUMNS, pool_groups
from mechdrift.comparisons.reading import size_of
from mechdrift.records import DIMENSIONS, MechdriftError
from mechdrift.runs import Run, open_run
from mechdrift.tables.registry import table_of

CHANGES = (-0.30, -0.10, 0.0, -0.20)
EVIL = "</script><img src=x onerror=alert(1)>"


def audited(folder: Path, change: float, *, parent: str = "p0", child: str = "c", **facts: object) -> Run:
    """A run with scores alone: every dimension fell by as much, with an interval of 5 points on either side."""
    pair = {
        "name": facts.get("name", f"{parent}-{child}"),
        "route": facts.get("route", "SFT"),
        "instruct": {"name": parent},
        "reasoning": {"name": child},
        "warnings": [],
        "fingerprints": {"instruct": parent, "reasoning": child},
        "facts": {"instruct": {"model_type": facts.get("family", "llama"), "parameters": facts.get("size", 7e9)}},
    }
    identity = {"pair": "x", "judge": facts.get("judge", "rules"), "sampling": "greedy"}
    run = open_run(folder, identity, {"config": {"preset": "quick", "seed": 0}, "pair": pair})
    rows = [
        score_row(
            name, "aligned", 0.9, 0.9 + change, half=0.05, headline=True, p_holm=0.01, reason=facts.get("why", "")
        )
        for name in DIMENSIONS
    ]
    rows.append(score_row("reasoning", "accuracy", 0.2, 0.4, half=0.05, headline=True, p_holm=np.nan))
    run.write_table("scores", filled("scores", pd.DataFrame(rows)))
    run.finish("scores", 1.0, ("scores.parquet",))
    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four pairs of three parents, two routes and two families."""
    root = tmp_path_factory.mktemp("study")
    facts = [
        {"parent": "p0", "child": "a", "route": "SFT"},
        {"parent": "p0", "child": "b", "route": "RL"},
        {"parent": "p1", "child": "c", "route": "SFT", "family": "qwen2"},
        {"parent": "p2", "child": "d", "route": "RL", "size": 0.5e9},
    ]
    return [audited(root / f"r{at}", change, **facts[at]).folder for at, change in enumerate(CHANGES)]


@pytest.fixture(scope="module")
def pooled(folders: list[Path]) -> PooledRuns:
    return pool_runs(folders)


def row_of(pooled: PooledRuns, measure: str = "safety", unit: str = "pair", **group: str) -> pd.Series:
    table = pooled.pooled[(pooled.pooled.dimension == measure) & (pooled.pooled.unit == unit)]
    for name in ("route", "family", "size", "parent"):
        table = table[table[name] == group.get(name, "")]
    return table.iloc[0]


def test_pairs_of_other_parents_are_pooled_as_by_hand(pooled: PooledRuns):
    """Intervals are equally wide, so that the summary is Student's interval of the four changes."""
    row, student = row_of(pooled), stats.ttest_1samp(CHANGES, 0.0)
    assert (row.k, row.runs, row.left_out) == (4, 4, 0)
    np.testing.assert_allclose([row.estimate, row.low, row.high], [-0.15, *student.confidence_interval()])
    assert row.tau**2 == pytest.approx(np.var(CHANGES, ddof=1) - (0.1 / 3.919928) ** 2)
    assert row.p_holm == pytest.approx(min(1, 6 * student.pvalue))
    assert (row.fell, row.rose) == (3, 0)
    assert row_of(pooled, "reasoning").estimate == pytest.approx(0.2)


def test_children_of_one_parent_are_averaged_first(pooled: PooledRuns):
    row = row_of(pooled, unit="parent")
    assert (row.k, row.estimate) == (3, pytest.approx(np.mean([-0.2, 0.0, -0.2])))
    assert "4 pairs have 3 parents" in pooled.notes[0]


def test_every_group_has_its_own_summary(pooled: PooledRuns):
    assert row_of(pooled, route="SFT").estimate == pytest.approx(-0.15)
    assert row_of(pooled, route="RL").k == 2
    alone = row_of(pooled, family="qwen2")
    assert (alone.k, alone.estimate) == (1, pytest.approx(0))
    assert np.isnan(alone.tau)


def test_the_mean_of_dimensions_is_narrower_by_the_root_of_their_number(pooled: PooledRuns):
    rows = pooled.frame[pooled.frame.dimension == "all"]
    np.testing.assert_allclose(rows.difference, CHANGES)
    np.testing.assert_allclose(rows.high - rows.low, 0.1 / np.sqrt(6))


def test_an_interval_after_an_early_look_stands_for_its_own_standard_error(folders: list[Path], tmp_path: Path):
    """An audit that stopped at its first look, where |z| has to reach 4.33, has an interval that reaches as many
    standard errors to either side."""
    early = audited(tmp_path / "early", -0.3, parent="p9", child="e")
    looks = [{"dimension": name, "wave": 1, "waves": 4, "boundary": 4.333} for name in DIMENSIONS]
    early.write_table("waves", filled("waves", pd.DataFrame(looks)))
    early.finish("waves", 1.0, ("waves.parquet",))
    found = pool_runs([folders[0], early.folder])
    plain, waves = (found.frame[found.frame.run == run].set_index("dimension") for run in found.runs.run)
    np.testing.assert_allclose(plain.se[list(DIMENSIONS)], 0.05 / 1.959964, rtol=1e-6)
    np.testing.assert_allclose(waves.se[list(DIMENSIONS)], 0.05 / 4.333)
    np.testing.assert_allclose(waves.se["all"], 0.05 / 4.333 / np.sqrt(6))
    assert waves.se["reasoning"] == plain.se["reasoning"]  # tasks are not asked in waves
    assert row_of(found).tau == pytest.approx(0, abs=1e-6)  # both fell by 30 points


def test_runs_of_one_pair_are_one_unit(folders: list[Path], tmp_path: Path):
    again = audited(tmp_path / "seed1", -0.5, parent="p1", child="c")
    found = pool_runs([*folders, again.folder])
    assert row_of(found).k == 4
    assert row_of(found).estimate == pytest.approx(np.mean([-0.3, -0.1, -0.25, -0.2]))
    assert "5 runs are of 4 pairs" in found.notes[0]
    assert list(found.runs.run[[2, 4]]) == ["p1-c (r2)", "p1-c (seed1)"]


def test_what_cannot_tell_plays_no_part(folders: list[Path], tmp_path: Path):
    cut = audited(tmp_path / "cut", -0.9, parent="p9", why="12% of the thoughts were cut")
    found = pool_runs([*folders, cut.folder])
    assert (row_of(found).k, row_of(found).left_out) == (4, 1)
    assert row_of(found).estimate == pytest.approx(-0.15)
    assert found.frame[found.frame.run == "p9-c"].set_index("dimension").reason["all"].endswith("cannot be told")


def test_folders_that_do_not_fit_are_named_and_left_out(folders: list[Path], tmp_path: Path):
    other = audited(tmp_path / "other", 0.5, parent="p8", judge="a model")
    (tmp_path / "empty").mkdir()
    found = pool_runs([*folders, other.folder, tmp_path / "empty"])
    reasons = dict(found.left_out)
    assert "its judge is 'a model', and that of most runs 'rules'" in reasons[str(other.folder)]
    assert "is not a run folder" in reasons[str(tmp_path / "empty")]
    assert row_of(found).estimate == pytest.approx(-0.15)
    with pytest.raises(MechdriftError, match=r"takes two runs or more, and .* is not a run folder: it has"):
        pool_runs([folders[0], tmp_path / "empty"])
    with pytest.raises(MechdriftError, match="is given twice"):
        pool_runs([folders[0], folders[0]])


def test_tables_have_their_schemas(pooled: PooledRuns):
    for name, table in (("many_runs", pooled.runs), ("many_changes", pooled.frame), ("many_pooled", pooled.pooled)):
        assert list(table) == [column.name for column in table_of(name).columns]
        assert table_of(name).fault(table) == ""
    assert list(pooled.pooled) == COLUMNS


def test_size_is_counted_or_estimated():
    llama = {"num_hidden_layers": 30, "hidden_size": 576, "vocab_size": 49152, "tie_word_embeddings": True}
    assert size_of(llama)[0] == pytest.approx(135e6, rel=0.15)  # SmolLM2-135M
    assert size_of({**llama, "parameters": 7e9}) == (7e9, "4B to 16B")
    assert size_of({})[1] == "unknown"


def test_the_comparison_that_fits_is_chosen(folders: list[Path]):
    assert run_folders([folders[0].parent]) == folders
    assert isinstance(compare([folders[0].parent]), PooledRuns)
    with pytest.raises(MechdriftError, match="has no scores of its parent"):  # two children of one parent, as before
        compare(folders[:2])
    assert Comparison.__doc__


def test_runs_of_earlier_versions_that_tell_nothing_have_a_page(tmp_path: Path):
    old = Path(__file__).parent / "runs"
    for name in ("schema-1", "schema-2"):
        shutil.copytree(old / name, tmp_path / name)
    found = pool_runs([tmp_path / "schema-1", tmp_path / "schema-2"])
    assert set(found.runs["size"]) == {"below 1B"}
    assert "no mean over pairs is given" in found.report(tmp_path / "compare.html").read_text(encoding="utf-8")


# The page


def test_the_page_is_self_contained_and_links_to_reports(folders: list[Path], tmp_path: Path):
    (folders[1] / "report.html").write_text("a report", encoding="utf-8")
    evil = audited(tmp_path / "evil é", -0.1, parent="p7", name=EVIL)
    (evil.folder / "report.html").write_text("a report", encoding="utf-8")
    page = pool_runs([*folders, evil.folder]).report(tmp_path / "out" / "compare.html")
    text = page.read_text(encoding="utf-8")
    (folders[1] / "report.html").unlink()
    links = re.findall(r'(?:src|href)="(?!#)([^"]+)"', text.split("<script")[0])
    assert [(page.parent / link.replace("%20", " ").replace("%C3%A9", "é")).resolve() for link in links] == [
        folders[1] / "report.html",
        evil.folder / "report.html",
    ]
    assert "<img" not in text
    assert "Plotly" not in text
    assert "−13.3" in text  # the mean over all, computed here
    assert [file.name for file in page.parent.iterdir()] == ["compare.html"]


def test_the_command_says_what_is_left_out(folders: list[Path], tmp_path: Path, monkeypatch, capsys):
    other = audited(tmp_path / "other", 0.5, parent="p8", judge="a model").folder
    words = [str(folders[0].parent), str(other), "--out", str(tmp_path / "c.html")]
    monkeypatch.setattr("sys.argv", ["mechdrift", "compare", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    out, err = capsys.readouterr()
    assert out == f"comparison: {tmp_path / 'c.html'}\n"
    assert err.startswith(f"left out: {other}: its judge is 'a model'")


def three_hundred() -> PooledRuns:
    """300 runs in memory, of as many pairs and parents."""
    rng = np.random.default_rng(0)
    names = [f"model-{at:03}" for at in range(300)]
    runs = pd.DataFrame(
        {"run": names, "folder": [f"/runs/{name}" for name in names], "parent": [f"p{n}" for n in names]}
    )
    runs["child"], runs["preset"], runs["seed"], runs["has_report"] = runs.run, "full", 0, True
    runs["pair"], runs["parent_print"], runs["judge"], runs["sampling"] = runs.run, runs.parent, "rules", "greedy"
    runs["route"], runs["family"] = rng.choice(["SFT", "RL", "distillation"], 300), rng.choice(["llama", "qwen2"], 300)
    runs["size"], runs["parameters"] = "1B to 4B", 3e9
    parts = []
    for measure in ("reasoning", *DIMENSIONS, "all"):
        change, half = rng.normal(-0.1, 0.1, 300), rng.uniform(0.02, 0.1, 300)
        part = {"run": names, "dimension": measure, "difference": change, "low": change - half, "high": change + half}
        part["se"] = half / 1.96
        parts.append(pd.DataFrame(part).assign(reason="", established=np.abs(change) > half, kl=0.1, n=90, families=50))
    frame = pd.concat(parts, ignore_index=True).assign(instruct=0.9, reasoning=0.8, p=0.1, p_holm=0.1)
    return PooledRuns(runs=runs, frame=frame, pooled=pool_groups(runs, frame), left_out=(), notes=())


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def many() -> PooledRuns:
    return three_hundred()


@pytest.fixture(scope="module")
def tab(browser, many: PooledRuns, tmp_path_factory: pytest.TempPathFactory):
    page = many.report(tmp_path_factory.mktemp("page") / "compare.html")
    assert page.stat().st_size < 3_000_000
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(120_000)
    tab.problems = []
    tab.on("console", lambda message: tab.problems.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.goto(page.as_uri())
    yield tab
    assert tab.problems == []


def cells(tab, row: int) -> list[str]:
    return tab.locator("#summary tbody tr").nth(row).locator("td").all_inner_texts()


def test_300_runs_are_drawn(tab, many: PooledRuns):
    assert tab.locator("#table tbody tr").count() == 300
    assert tab.locator("#forest-plot rect").count() == 300
    assert tab.locator("#trade-plot circle").count() == 300
    assert tab.evaluate("document.querySelectorAll('*').length") < 25_000
    whole = row_of(many)
    assert cells(tab, 1)[:2] == ["300", f"{tenths(whole.estimate)}* ({tenths(whole.low)} to {tenths(whole.high)})"]
    assert json.loads(tab.locator("#data-runs").text_content() or "")["runs"][0]["run"] == "model-000"


def test_a_choice_shows_its_runs_and_the_summary_computed_for_them(tab, many: PooledRuns):
    tab.select_option("select[name=route]", "RL")
    tab.select_option("select[name=family]", "qwen2")
    chosen = (many.runs.route == "RL") & (many.runs.family == "qwen2")
    assert tab.locator("#table tbody tr:visible").count() == chosen.sum() == tab.locator("#forest-plot rect").count()
    row = row_of(many, route="RL", family="qwen2")
    assert cells(tab, 1)[1].startswith(tenths(row.estimate))
    assert tab.locator("#found").inner_text() == f"{chosen.sum()} of 300 runs"
    tab.fill("input[name=text]", "no such run")
    assert tab.locator("#found").inner_text() == "no run fits"
    tab.fill("input[name=text]", "")
    tab.select_option("select[name=family]", "")
    tab.select_option("select[name=route]", "")
    assert tab.locator("#table tbody tr:visible").count() == 300


def test_a_column_sorts_and_the_forest_plot_follows(tab, many: PooledRuns):
    tab.get_by_role("button", name="Safety").click()
    safety = many.frame[many.frame.dimension == "safety"].sort_values("difference")
    first = tab.locator("#table tbody tr th").first
    assert first.inner_text() == safety.run.iloc[0]
    assert tab.locator("th[aria-sort=ascending]").inner_text().startswith("Safety")
    tab.get_by_role("button", name="Safety").click()
    assert first.inner_text() == safety.run.iloc[-1]
    tab.select_option("#order", "table")
    tab.select_option("#measure", label="Safety")
    assert tab.locator("#forest-plot a text").first.text_content().startswith(safety.run.iloc[-1])
    with tab.expect_download() as saved:
        tab.click("#save-forest")
    assert saved.value.suggested_filename == "forest-safety.svg"


def test_it_reads_well_on_a_phone_in_the_dark(tab, browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate("getComputedStyle(document.querySelector('.forest')).fill") == "rgb(230, 233, 237)"
    tab.fill("input[name=text]", "model-00")  # ten runs are like three hundred, and looked at sooner
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []
