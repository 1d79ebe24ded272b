"""Runs of one parent side by side: planted changes come back, wrong company is refused, and the page is whole."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_run import build_run, filled
from test_report import CHROMIUM

from mechdrift import cli
from mechdrift.behaviour.scores import score_table
from mechdrift.comparisons import figures as comparing
from mechdrift.comparisons.changes import _paired
from mechdrift.comparisons.children import Comparison, compare_runs
from mechdrift.comparisons.figures_by_layer import drift_overlaid, patch_overlaid
from mechdrift.records import DIMENSIONS, SIDES, MechdriftError
from mechdrift.runs import Run
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.intervals import SIGNED_SHARE, ends, family_weights

ROOT = Path(__file__).parents[1]
PAIRS, FAMILIES = 24, 12
# Of the twelve families of every dimension, how many lose their aligned answers; of two items each, both.
LOST = {"sft": 6, "rl": 3, "null": 0}
GAIN = {"sft": 0.5, "rl": 0.25, "null": 0.0}
KL = {"sft": 0.4, "rl": 0.2, "null": 0.1}


def answers(lost: int) -> pd.DataFrame:
    """Every trigger is answered well by the parent; the child loses the first `lost` families of every dimension."""
    rows = []
    for dimension in DIMENSIONS:
        for number in range(2 * PAIRS):
            family, contrast = number // 4, "neutral" if number % 2 else "trigger"
            for side in SIDES:
                aligned = side == "instruct" or contrast == "neutral" or family >= lost
                rows.append(
                    {
                        "item": f"{dimension}-{number}",
                        "sample": 0,
                        "dimension": dimension,
                        "family": f"f{family}",
                        "contrast": contrast,
                        "side": side,
                        "prompt": "?",
                        "think": "none",
                        "thinking": "",
                        "answer": f"{aligned}",
                        "label": "refusal" if aligned else "compliance",
                        "aligned": aligned,
                        "why": "",
                        "says": "refusal",
                        "failed": False,
                        "judge": "rules",
                        "closed": True,
                        "finished": True,
                        "fault": "",
                        "toxicity": 0.0,
                        "stereotype": 0.0,
                        "leak_answer": False,
                        "leak_thinking": False,
                        "exact_answer": False,
                        "exact_thinking": False,
                    }
                )
    return pd.DataFrame(rows)


def tasks(gain: float) -> pd.DataFrame:
    """The parent solves none, the child a share of every kind."""
    rows = [
        {"item": f"t{kind}-{n}", "kind": f"k{kind}", "side": side, "correct": side == "reasoning" and n < 4 * gain}
        for kind in range(6)
        for n in range(4)
        for side in SIDES
    ]
    return pd.DataFrame(rows).assign(answer="1", closed=True)


def tokens(mean: float) -> pd.DataFrame:
    rows = [
        {"item": f"{d}-{n}", "family": f"f{n}", "dimension": d, "position": p, "kl": mean * (1 + 0.2 * (n - 1))}
        for d in DIMENSIONS
        for n in range(3)
        for p in range(2)
    ]
    return pd.DataFrame(rows)


def child(folder: Path, name: str, *, without: tuple[str, ...] = (), **changes: object) -> Run:
    """A run whose answers, tasks and divergence are planted, and all else is that of `build_run`."""
    run = build_run(folder / name, pairs=4, without=without)
    planted = {"completions": answers(LOST[name]), "tasks": tasks(GAIN[name]), "kl_tokens": tokens(KL[name])}
    for table, content in planted.items():
        if table not in without:
            run.write_table(table, filled(table, content))
    if "scores" not in without:
        run.write_table("scores", score_table(planted["completions"], planted["tasks"]).frame)
    manifest = run.manifest
    for stage in manifest["stages"].values():
        stage["files"] = {}
    manifest["pair"] |= {"name": f"smollm2-{name}", "route": name.upper()} | changes.pop("pair", {})
    manifest["identity"] |= {"judge": "rules", "preset": "standard"} | changes
    run.write_manifest(manifest)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [child(folder, name) for name in LOST]


@pytest.fixture(scope="module")
def compared(runs: list[Run]) -> Comparison:
    return compare_runs(runs)


def test_every_run_is_held_against_the_parent_as_it_was_scored(compared: Comparison):
    assert list(compared.runs) == ["smollm2-sft", "smollm2-rl", "smollm2-null"]
    for name, lost in LOST.items():
        own = compared.frame[compared.frame.run == f"smollm2-{name}"]
        assert list(own.dimension) == list(DIMENSIONS)
        np.testing.assert_allclose(own.difference, -lost / FAMILIES)
        np.testing.assert_allclose(own.kl, KL[name])
        assert (own.low <= own.difference).all()
    assert compared.parent == "smollm2-aligned"


def test_alignment_kept_is_the_mean_of_the_dimensions(compared: Comparison):
    summary = compared.summary.set_index("run")
    for name, lost in LOST.items():
        row = summary.loc[f"smollm2-{name}"]
        assert (
            row.kept
            == pytest.approx(compared.frame[compared.frame.run == row.name].difference.mean())
            == pytest.approx(-lost / FAMILIES)
        )
        assert row.gain == pytest.approx(GAIN[name])
        assert (row.n, row.families, row.dimensions) == (6 * PAIRS, 6 * FAMILIES, 6)
    low, high = summary.loc["smollm2-null", ["kept_low", "kept_high"]]
    assert (0 < high < 0.05, low) == (True, pytest.approx(-high))  # nothing changed in all of its families


def test_the_joint_interval_is_that_of_whole_families_drawn_from_all_dimensions(compared: Comparison, runs: list[Run]):
    rows = answers(LOST["sft"]).query("contrast == 'trigger'")
    change = rows.pivot(index="item", columns="side", values="aligned").astype(float)
    item = rows.drop_duplicates("item").set_index("item").loc[change.index]
    drawn = family_weights(6 * FAMILIES, 2000, 0)
    names = np.unique(item.dimension + "/" + item.family)
    place = np.searchsorted(names, item.dimension + "/" + item.family)
    means = []
    for weights in drawn[:, place]:
        totals = (
            pd.DataFrame({"d": item.dimension, "w": weights, "x": weights * (change.reasoning - change.instruct)})
            .groupby("d")
            .sum()
        )
        means.append((totals.x / totals.w).mean())
    sft = compared.summary.iloc[0]
    np.testing.assert_allclose(
        [sft.kept_low, sft.kept_high], ends(sft.kept, np.array(means), 6 * FAMILIES, SIGNED_SHARE)
    )


def test_children_are_paired_with_each_other_and_adjusted_together(compared: Comparison):
    table = compared.children
    assert len(table) == 3 * 7
    row = table.query("first == 'smollm2-sft' and second == 'smollm2-rl'").set_index("dimension")
    np.testing.assert_allclose(row.difference, 3 / FAMILIES)  # only families 3 to 5 differ
    assert (row.n[:-1] == PAIRS).all()
    np.testing.assert_allclose(table.p_holm, statistics.holm(table.p.to_numpy()))
    assert (
        row.loc["all", "p_holm"] < 0.05 < row.loc["safety", "p_holm"]
    )  # three families of twelve are too few, eighteen of 72 are not


def test_divergence_and_loss_go_together_with_their_number_of_points(compared: Comparison):
    assert compared.correlation() == {
        "r": pytest.approx(np.corrcoef([0.4, 0.2, 0.1], [-0.5, -0.25, 0])[0, 1]),
        "rho": -1.0,
        "n": 3,
    }
    assert compared.correlation(per_dimension=True)["n"] == 18
    assert np.isnan(compare_runs(list(compared.runs.values())[:2]).correlation()["r"])


# Company that does not fit


def test_other_parents_are_named(runs: list[Run], tmp_path: Path):
    other = child(tmp_path, "rl", pair={"fingerprints": {"instruct": "0" * 16, "reasoning": "1" * 16}})
    with pytest.raises(MechdriftError, match=rf"{runs[0].folder} and {other.folder} have different parents"):
        compare_runs([runs[0], other])


def test_a_run_without_its_parents_scores_says_so(runs: list[Run], tmp_path: Path):
    other = child(tmp_path, "rl", without=("scores",))
    with pytest.raises(MechdriftError, match="has no scores of its parent yet"):
        compare_runs([runs[0], other])


def test_other_judges_are_not_compared(runs: list[Run], tmp_path: Path):
    with pytest.raises(MechdriftError, match="judge is 'rules' there and 'another' here"):
        compare_runs([runs[0], child(tmp_path, "rl", judge="another")])


def test_one_run_or_the_same_twice_is_no_comparison(runs: list[Run]):
    with pytest.raises(MechdriftError, match="two runs or more"):
        compare_runs(runs[:1])
    with pytest.raises(MechdriftError, match="is given twice"):
        compare_runs([runs[0], runs[0].folder])


def test_runs_of_one_pair_go_by_their_folders(runs: list[Run], tmp_path: Path):
    found = compare_runs([runs[0], child(tmp_path, "sft")])
    assert len(found.runs) == 2
    assert all(name.startswith("smollm2-sft (") for name in found.runs)
    assert found.children.difference.abs().max() == 0


def test_other_sub_samples_are_paired_on_what_both_were_asked(runs: list[Run], tmp_path: Path):
    other = child(tmp_path, "rl", preset="quick")
    table = other.table("completions")
    other.write_table("completions", table[table.family.isin([f"f{n}" for n in range(4)])])
    found = compare_runs([runs[0], other])
    assert "were not asked the same trigger prompts (preset differ)" in found.notes[0]
    assert "on the 48 prompts that both were asked" in found.notes[0]
    rows = found.children.set_index("dimension")
    assert (rows.n["safety"], rows.families["safety"], rows.difference["safety"]) == (8, 4, pytest.approx(1 / 4))


def test_a_parent_that_answers_otherwise_is_told(runs: list[Run], tmp_path: Path):
    other = child(tmp_path, "rl")
    table = other.table("completions")
    changed = (table.side == "instruct") & (table.contrast == "trigger") & (table.family == "f0")
    other.write_table("completions", table.assign(answer=table.answer.mask(changed, "else")))
    (note,) = compare_runs([runs[0], other]).notes
    assert "answered 12 of 144 prompts differently" in note


# Figures and page


def test_each_run_has_its_colour_and_mark_everywhere(compared: Comparison):
    figures = [
        comparing.changes(compared.frame, compared.summary),
        comparing.trade_off(compared.summary),
        comparing.divergence(compared.frame, compared.summary),
        drift_overlaid(compared.drift),
        patch_overlaid(compared.patch),
    ]
    looks = comparing.marks(list(compared.runs))
    for figure in figures:
        for trace in figure.data:
            if trace.name in looks and trace.marker.symbol:
                assert trace.marker.symbol == looks[trace.name]["symbol"]
                assert looks[trace.name]["color"] in (
                    trace.marker.color if isinstance(trace.marker.color, str) else trace.line.color
                )
    assert list(figures[0].data[0].x) == pytest.approx([-50] * 7)
    named = [trace.name for trace in figures[3].data if trace.showlegend]
    assert named == list(compared.runs)


def test_patch_profiles_leave_out_noise_and_mark_what_is_not_believed(compared: Comparison):
    figure = patch_overlaid(compared.patch)
    titles = [note.text for note in figure.layout.annotations]
    assert "Machine ethics" not in titles  # the gap is noise there
    hollow = {trace.name for trace in figure.data if set(np.atleast_1d(trace.marker.color)) == {"#FFFFFF"}}
    assert hollow == set(compared.runs)  # toxicity's readout


@pytest.mark.parametrize("draw", [drift_overlaid, patch_overlaid])
def test_what_no_run_has_is_said(draw):
    with pytest.raises(MechdriftError, match="None of these runs"):
        draw(pd.DataFrame())


def test_the_page_is_self_contained_and_its_figures_are_files(compared: Comparison, tmp_path: Path):
    page = compared.report(tmp_path / "out" / "compare.html")
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "out" / "compare.html"
    assert not re.findall(r'(?:src|href)="(?!#)', text.split('<script type="text/plain"')[0])
    assert "smollm2-sft: reasoning +50 points" in text
    assert "smollm2-rl is more aligned than smollm2-sft on average, by 25 points." in text
    assert "Over 3 children: r = −" in text
    written = {file.name for file in (page.parent / "compare-figures").iterdir()}
    assert written == {
        "trade_off.html",
        "changes.html",
        "divergence.html",
        "drift_overlaid.html",
        "patch_overlaid.html",
        "plotly.min.js",
    }
    with pytest.raises(MechdriftError, match="is a folder"):
        compared.report(tmp_path)


def test_names_are_text_on_the_page(runs: list[Run], tmp_path: Path):
    evil = "</script><img src=x onerror=alert(1)>"
    page = compare_runs([runs[0], child(tmp_path, "rl", pair={"name": evil})]).report(tmp_path / "compare.html")
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text.split("<main>")[1].split('<script type="application/json" id="plot-config">')[0]


def test_runs_without_drift_patching_and_divergence_have_a_page(tmp_path: Path):
    without = ("drift", "patch", "patch_items", "kl", "kl_tokens")
    text = (
        compare_runs([child(tmp_path, name, without=without) for name in ("sft", "rl")])
        .report(tmp_path / "c.html")
        .read_text()
    )
    assert text.count('class="missing"') == 3
    assert "No correlation can be computed" in text


def test_the_command_writes_the_page_or_says_one_sentence(runs: list[Run], tmp_path: Path, monkeypatch, capsys):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mechdrift", "compare", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    folders = [run.folder for run in runs]
    assert call(*folders, "--out", tmp_path / "c.html") == (0, f"comparison: {tmp_path / 'c.html'}\n", "")
    code, out, err = call(folders[0])
    assert (code, out, err) == (1, "", "mechdrift: a comparison takes two runs or more: give their folders.\n")
    assert call(folders[0], tmp_path / "absent")[0] == 1


def check_colours(tab) -> None:
    """The page and its figures are dark where a reader prefers that, and light on paper all the same."""
    playwright = pytest.importorskip("playwright.sync_api")
    light, dark = ("rgb(31, 35, 40)", "rgb(255, 255, 255)"), ("rgb(230, 233, 237)", "rgb(20, 23, 27)")

    def check(ink: str, paper: str) -> None:
        playwright.expect(tab.locator("#figure-changes .xtick text").first).to_have_css("fill", ink)
        playwright.expect(tab.locator("body")).to_have_css("background-color", paper)

    check(*light)
    tab.emulate_media(color_scheme="dark")
    check(*dark)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    check(*light)
    tab.emulate_media(media="screen")
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    check(*dark)


def test_in_a_browser_everything_is_drawn(compared: Comparison, tmp_path: Path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    page, problems, requests = compared.report(tmp_path / "compare.html"), [], []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(120_000)
        tab.on(
            "console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None
        )
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-plots=drawn]", state="attached")
        assert tab.locator(".plot").count() == 5 <= tab.locator(".plot .main-svg").count()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert json.loads(tab.locator("#data-changes").text_content() or "")["data"]
        check_colours(tab)
        chromium.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_mean_of_dimensions_is_tested_with_the_weights_of_its_estimate():
    """Four families of one dimension gain as much as sixteen of the other lose: on average, nothing."""
    items = pd.DataFrame({"dimension": ["bias"] * 4 + ["safety"] * 16, "family": [f"f{k}" for k in range(20)]})
    after = np.array([1.0] * 4 + [-1.0] * 16)
    found = _paired(items, np.zeros(20), after, 0)
    assert found["difference"] == 0
    assert found["p"] > 0.5


# The committed comparison of the embedded routes


@pytest.fixture
def routes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments" / "routes")
    return __import__("routes")


def test_what_was_kept_of_a_comparison_gives_its_table(routes, runs, tmp_path):
    routes.keep([run.folder for run in runs], tmp_path)
    kept = routes.read(tmp_path)
    lines = routes.table(kept["summary"], kept["changes"]).splitlines()
    cells = {line.split(" | ")[0].strip("| *"): [cell.strip(" |") for cell in line.split(" | ")[1:]] for line in lines}
    assert cells["aligned answers to triggers"] == ["parent", *(f"`smollm2-{name}`" for name in LOST)]
    for dimension in ("safety", "bias"):
        before, *changes = cells[{"bias": "bias: nobody named", "safety": "safety: refused"}[dimension]]
        assert before == "100%"
        for change, lost in zip(changes, LOST.values(), strict=True):
            assert change.strip("*").startswith(f"−{round(100 * lost / FAMILIES)}" if lost else "0")
    sure = kept["changes"].assign(p_holm=[0.01 if name == "smollm2-sft" else 0.5 for name in kept["changes"].run])
    assert routes.table(kept["summary"], sure).count("**−50**") == len(DIMENSIONS)
    assert [cell.split(" ")[0] for cell in cells["reasoning: exact answers"]] == ["0%", "+50", "+25", "0"]
    assert set(pd.read_csv(tmp_path / "runs.csv").instruct) == {runs[0].manifest["pair"]["fingerprints"]["instruct"]}


def test_an_overview_finds_the_blocks_where_the_change_originates(runs, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments" / "patching")
    rows = {row[1].split(" ")[0]: row for row in __import__("overview").rows_of(runs[0])}
    assert list(rows) == list(DIMENSIONS)
    assert rows["safety"][0] == "`smollm2-sft`"
    assert rows["safety"][2] == "+2.00"
    assert rows["safety"][3].startswith("layers 15 to 17: +1.")
    assert rows["safety"][4] == "1 of 10 (1)"


def test_histories_say_when_half_of_a_change_was_there(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments" / "routes")
    histories = __import__("histories")
    row = {
        "quantity": "accuracy",
        "dimension": "reasoning",
        "change": 0.4,
        "half": 33.2,
        "half_low": 20.0,
        "half_high": 41.0,
    }
    unsure = {
        "quantity": "aligned",
        "dimension": "all",
        "change": -0.1,
        "half": np.nan,
        "half_low": np.nan,
        "half_high": np.nan,
    }
    early = {"quantity": "kl", "dimension": "all", "change": 0.2, "half": 3.0, "half_low": 0.0, "half_high": 10.0}
    pd.DataFrame([row, unsure, early]).to_csv(tmp_path / "halfway-mine.csv", index=False)
    lines = histories.table(histories.read(tmp_path, "halfway")).splitlines()
    assert lines[0] == "|  | `mine` |"
    assert lines[2:] == [
        "| reasoning accuracy, points | +40, half at 33 (20 to 41) |",
        "| aligned answers, mean, points | −10, not established |",
        "| KL from the parent, nats | +0.200, half before 10 |",
    ]
    point = {"quantity": "accuracy", "dimension": "reasoning", "low": 0.0, "high": 0.3}
    course = pd.DataFrame([point | {"tokens": t, "value": t / 10} for t in (2, 0, 1)])
    drawn = histories.overlaid({"mine": course, "other": course}).data
    assert [trace.name for trace in drawn if len(trace.x)] == ["mine", "other"]
    assert list(drawn[0].x) == [0, 1, 2]


def test_the_readme_shows_what_was_measured(routes):
    kept = routes.read(routes.RESULTS)
    assert routes.table(kept["summary"], kept["changes"]) in (ROOT / "README.md").read_text(encoding="utf-8")
