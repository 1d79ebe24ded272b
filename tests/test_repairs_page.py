"""The page and the card's section of a price list, from tables that no model made."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_run import build_run

from mechdrift.records import DIMENSIONS, MechdriftError
from mechdrift.repairs.figures import pareto
from mechdrift.repairs.mechanism import agreement
from mechdrift.repairs.page import price_lines, write_page
from mechdrift.repairs.prices import NOTHING, plain_row
from mechdrift.repairs.sentences import told
from mechdrift.runs import Run, open_run

EVIL = "<script>alert(1)</script>"
METHODS = {
    "located": ("weights", (0.1, 0.25), 0.3, -0.01),
    "interpolate": ("weights", (0.25, 0.5), 0.25, -0.06),
    "null-space": ("edit", (1.0, 2.0), 0.15, 0.0),
    "random": ("weights", (0.5,), 0.0, -0.02),
}


def build_list(folder: Path) -> Run:
    """A price list in which located interpolation brings most back."""
    rows = []
    for half in ("seen", "reported"):
        rows += _rows("parent", "model", np.nan, half, 0.4, -0.3, False)
        rows += _rows("child", "model", np.nan, half, 0.0, 0.0, False)
        for method, (kind, strengths, gain, cost) in METHODS.items():
            for place, strength in enumerate(strengths):
                is_chosen = place == len(strengths) - 1
                if half == "seen" or is_chosen:
                    share = (place + 1) / len(strengths)
                    rows += _rows(method, kind, strength, half, share * gain, share * cost, is_chosen)
    manifest = {
        "config": {"pair": f"synthetic {EVIL}", "seed": 0},
        "models": {"instruct": "parent", "reasoning": EVIL},
        "candidates": {},
        "picked": "Picked located@0.25, which on families that nothing saw brings much.",
    }
    run = open_run(folder, {"repairs of": "synthetic"}, manifest)
    run.write_table("repairs", pd.DataFrame(rows))
    run.write_table("repair_mechanism", _inside())
    return run


def _rows(method, kind, strength, half, gain, cost, chosen) -> list[dict]:
    place = {"method": method, "kind": kind, "strength": strength, "half": half, "chosen": chosen}
    sizes = {"n": 40, "families": 10}
    found = [("aligned", name, 0.4 + gain, gain, gain / 0.4) for name in (*DIMENSIONS[:3], "all")]
    found += [("twins", "all", 0.9 - 0.1 * gain, -0.1 * gain, np.nan), ("thought", "all", 0.5, gain / 2, np.nan)]
    found += [("reasoning", "reasoning", 0.7 + cost, cost, np.nan), ("think_ratio", "all", 1.1, 0.1, np.nan)]
    rows = [
        {
            "measure": measure,
            "dimension": dimension,
            "value": value,
            **NOTHING,
            "low": value - 0.1,
            "high": value + 0.1,
            "change": change,
            "change_low": change - 0.08,
            "change_high": change + 0.08,
            "recovered": share,
            "recovered_low": share - 0.2,
            "recovered_high": share + 0.2,
        }
        | sizes
        for measure, dimension, value, change, share in found
    ]
    return [place | row for row in (*rows, plain_row("seconds_to_make", 3.0), plain_row("seconds_per_token", 0.0))]


def _inside() -> pd.DataFrame:
    rows = []
    for method, strength, shift in (("parent", np.nan, 0), ("child", np.nan, 0), ("located", 0.25, 0.02)):
        for quantity in ("separation", "patch", "graft") if method != "parent" else ("graft",):
            for layer in range(6):
                value = np.exp(-((layer - 3) ** 2)) + shift if quantity == "graft" else 0.5 + 10 * shift - layer / 20
                rows.append(
                    {
                        "method": method,
                        "strength": strength,
                        "quantity": quantity,
                        "dimension": "safety",
                        "layer": layer,
                        "role": "think_close[-1]",
                        "value": value,
                        "low": value - 0.1,
                        "high": value + 0.1,
                        "n": 8,
                        "families": 8,
                    }
                )
    table = pd.DataFrame(rows)
    return table[~((table.quantity == "graft") & (table.method == "child"))]


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> tuple[Run, Run]:
    run = build_run(tmp_path_factory.mktemp("page") / "run", without=("patch", "drift", "patch_items", "completions"))
    return run, build_list(run.folder / "repair")


def test_the_page_says_what_was_picked_and_obeys_nothing_of_what_it_shows(listed):
    page = write_page(listed[1]).read_text(encoding="utf-8")
    assert "Picked located@0.25" in page
    assert "Interpolating the located blocks is not shown to bring more back than interpolating all" in page
    assert "40 (10)" in page
    assert EVIL not in page
    assert "its blocks work where the parent" in page
    assert {file.name for file in (listed[1].folder / "figures").glob("*.html")} >= {"pareto.html", "mechanism.html"}


def test_the_page_draws_in_a_browser(listed):
    playwright = pytest.importorskip("playwright.sync_api")
    write_page(listed[1])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page, errors = browser.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((listed[1].folder / "repair.html").as_uri())
        page.wait_for_selector("#figure-pareto .main-svg")
        assert errors == []
        assert page.locator("#prices tbody tr").count() == 6
        browser.close()


def test_the_price_list_has_the_chosen_strengths_only(listed):
    lines = price_lines(listed[1].table("repairs"))
    assert [line["name"] for line in lines] == [
        "parent",
        "child",
        "located@0.25",
        "interpolate@0.5",
        "null-space@2",
        "random@0.5",
    ]
    assert lines[2]["gap"] == "75% (55 to 95)"
    assert lines[2]["twins"].startswith("−3 points")


def test_the_page_is_drawn_again_by_the_command_and_no_report_is_made_of_a_price_list(listed, tmp_path, mechdrift):
    code, said, _ = mechdrift("report", str(listed[1].folder), "--out", str(tmp_path / "again"))
    assert (code, said) == (0, f"report: {tmp_path / 'again' / 'repair.html'}\n")
    with pytest.raises(MechdriftError, match="is a price list of repairs and no audit"):
        listed[1].report()
    assert not (listed[1].folder / "report.html").exists()


def test_the_card_names_what_was_chosen_and_what_it_costs(listed):
    card = listed[0].card()
    assert "### Repairs" in card
    assert "| `located@0.25, picked` | +30 points (+22 to +38) | −1 point (−9 to +7) | −3 points (−11 to +5) |" in card


def test_sentences_name_the_best_repair_and_never_a_baseline(listed):
    sentences = told(listed[1].table("repairs"))
    assert sentences[0].startswith(
        "located@0.25 brings most aligned answers back: +30.0 (+22.0 to +38.0) points of aligned answers (40 triggers "
        "of 10 families)"
    )
    assert any(sentence.startswith("The baseline random@0.5 changes") for sentence in sentences)
    assert any("is not shown to bring more back than interpolating all" in sentence for sentence in sentences)


def test_nothing_is_said_to_come_back_that_is_not_shown_or_not_known(listed):
    table = listed[1].table("repairs")
    unsure = table.assign(change_low=table.change_low.where(table.measure != "aligned", -0.01))
    assert told(unsure)[0].startswith("No repair is shown to bring aligned answers back; the largest estimate is that")
    located = table[table.method == "located"]
    missing = located[located.measure == "thought"].assign(measure="missing", value=0.4, child=0.02, change=0.38)
    best, cut, *_ = told(pd.concat([table, missing]))
    assert best.startswith("interpolate@0.5 brings most aligned answers back")
    assert cut.startswith(
        "What located@0.25 does cannot be told: 40% of its answers are missing, and 2% of the child's"
    )


def test_sentences_say_what_was_not_finished_count_one_as_one_and_give_zero_no_sign(listed):
    table = listed[1].table("repairs")
    is_aligned, is_located = table.measure == "aligned", table.method == "located"
    unfinished = told(table[~(is_located & is_aligned)])
    assert unfinished[0].startswith("interpolate@0.5 brings most")
    assert unfinished[1] == (
        "What located@0.25 does cannot be told: no trigger has an answer that was finished by the child and after the "
        "repair."
    )
    assert told(table[~is_aligned])[0].startswith("What located@0.25, interpolate@0.5 and null-space@2 do cannot be")
    ends = {"change": 0.3, "change_low": -0.0002, "change_high": 0.0, "recovered_low": -0.2, "n": 1, "families": 1}
    best = told(pd.concat([table[~is_located], table[is_located & is_aligned].assign(**ends)]))[0]
    assert "+30.0 (0.0 to 0.0) points of aligned answers (1 trigger of 1 family), 75% of the gap (−20 to 95)" in best


def test_the_trade_has_a_curve_and_a_mark_for_each_method(listed):
    figure = pareto(listed[1].table("repairs"))
    assert [trace.name for trace in figure.data if trace.name] == [
        "located@0.25",
        "interpolate@0.5",
        "null-space@2",
        "random@0.5",
    ]
    located = next(trace for trace in figure.data if trace.name == "located@0.25")
    assert (located.x[0], located.y[0]) == pytest.approx((-1, 30))


def test_blocks_that_work_in_the_parents_places_agree(listed):
    assert agreement(listed[1].table("repair_mechanism"), "safety") == pytest.approx(1.0)
