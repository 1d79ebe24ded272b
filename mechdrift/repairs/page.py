"""The page of a price list, from its folder alone; see `report.page` for how pages are made."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.records import SIDES
from mechdrift.repairs import figures as drawing
from mechdrift.repairs.mechanism import mechanism_sentences
from mechdrift.repairs.registry import REPAIRS
from mechdrift.repairs.sentences import name_of, row_of, told
from mechdrift.report.captions import Caption
from mechdrift.report.exhibits import Exhibit, draw_these
from mechdrift.report.sheets import sheets_of
from mechdrift.report.templating import place_figures, slug, templates
from mechdrift.report.words import DASH, difference, interval, number
from mechdrift.runs import Run, made

PAGE = "repair.html"
EXHIBITS = (
    Exhibit(
        name="pareto",
        table="repairs",
        draw=lambda t: drawing.pareto(t["repairs"]),
        caption=Caption(
            title="Reasoning kept against alignment recovered",
            see=(
                "Up is more alignment, right is more reasoning, and the child is where the lines cross. Large marks "
                "are each method's chosen strength on families that nothing saw, with paired 95% intervals. Dotted "
                "curves are all strengths, on the families that the choice saw. Look for marks above the child that "
                "do not lie left of it."
            ),
            fooled=(
                "The curves are what the choice was made on, so they flatter; the marks do not. A model that refuses "
                "everything stands high here: the table has the twins."
            ),
        ),
    ),
    Exhibit(
        name="by_dimension",
        table="repairs",
        draw=lambda t: drawing.by_dimension(t["repairs"]),
        caption=Caption(
            title="What each repair does to each dimension",
            see=(
                "Change of aligned answers against the child, in points, at the chosen strength on the reported half. "
                "The dotted line is the parent. Look whether a repair of refusals also moves bias or privacy."
            ),
            fooled="Half of the families are here: bars are wide, and what they hold may be no change.",
        ),
    ),
    Exhibit(
        name="mechanism",
        table="repair_mechanism",
        draw=lambda t: drawing.mechanism(t["repair_mechanism"]),
        caption=Caption(
            title="Did the parent's mechanism come back?",
            see=(
                "Separation is how far apart triggers and twins lie along the parent's direction, in units of the "
                "parent's. Graft effects are what single blocks do in the child: the parent's, and the repaired "
                "model's. Patch effects are what the parent's activations still restore. Look whether the repaired "
                "model's line follows the parent's, or rises elsewhere."
            ),
            fooled=(
                "An interpolation moves along the parent's weights, so its blocks agree with the parent's by design."
            ),
        ),
    ),
)


def draw_again(run: Run, out: Path | None = None) -> Path:
    """Draw the page of a finished list again, in its own folder or in `out`, which is made."""
    into = Run(run.folder if out is None else made(out))
    with into.locked("report"):
        return write_page(run, into.folder)


def write_page(run: Run, out: Path | None = None) -> Path:
    """Write `repair.html` and, in `figures/`, each figure, into the run's folder or `out`; loads no model."""
    into = Run(run.folder if out is None else out)
    run.check_has("repairs", "price list of repairs")
    names = [name for name in ("repairs", "repair_mechanism") if run.has(f"{name}.parquet")]
    tables = {name: run.table(name) for name in names}
    table, manifest = tables["repairs"], run.manifest
    name = str(manifest["config"].get("pair", DASH))
    drawn = draw_these(EXHIBITS, tables)
    place_figures(into, drawn, into.folder / "figures", inline=False)
    inside = mechanism_sentences(tables["repair_mechanism"]) if "repair_mechanism" in tables else []
    text = (
        templates()
        .get_template("repair.html.j2")
        .render(
            pair=name,
            models=dict.fromkeys(SIDES, DASH) | manifest.get("models", {}),
            sentences=[*([manifest["picked"]] if "picked" in manifest else []), *told(table)],
            inside=inside,
            figures=drawn,
            sheets=sheets_of(drawn.values()),
            stem=slug(name),
            rows=price_lines(table),
            facts=[
                ("judge of refusals", manifest.get("judge", DASH)),
                ("seed", str(manifest["config"].get("seed", DASH))),
                *manifest.get("versions", {}).items(),
            ],
        )
    )
    return into.write_text(PAGE, text)


def price_lines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One line per repair at its chosen strength, on the reported half; parent and child come first."""
    rows = table[(table.half == "reported") & (table.chosen.astype(bool) | table.strength.isna())]
    lines = []
    for (method, _), part in rows.groupby(["method", "strength"], sort=False, dropna=False):
        known = REPAIRS.get(str(method))
        lines.append(
            {
                "name": str(method) if part.strength.isna().all() else name_of(str(method), part),
                "title": known.title if known else f"the {method} as it is",
                "kind": part.kind.iloc[0],
                "n": _size(row_of(part, "aligned")),
                "aligned": _with_ends(row_of(part, "aligned")),
                "gap": _gap(row_of(part, "aligned")),
                **{name: _change(row_of(part, name)) for name in ("reasoning", "twins", "thought")},
                "ratio": _plain(row_of(part, "think_ratio")),
                "loops": _level(row_of(part, "loops")),
                "unclosed": _level(row_of(part, "unclosed")),
                "missing": _level(row_of(part, "missing")),
                "kl": " / ".join(_plain(row_of(part, f"kl_{text}"), 3) for text in ("tasks", "harmless")),
                "make": _plain(row_of(part, "seconds_to_make"), 1),
                "use": _plain(row_of(part, "seconds_per_token"), 4),
            }
        )
    return lines


def _level(row: "pd.Series | None") -> str:
    return DASH if row is None else number(row.value, share=True)


def _with_ends(row: "pd.Series | None") -> str:
    return DASH if row is None else f"{_level(row)} ({interval(row.low, row.high, share=True)})"


def _size(row: "pd.Series | None") -> str:
    return DASH if row is None else f"{row.n:.0f} ({row.families:.0f})"


def _gap(row: "pd.Series | None") -> str:
    if row is None or math.isnan(row.recovered):
        return DASH
    ends = interval(row.recovered_low, row.recovered_high, share=True)
    return f"{number(row.recovered, share=True)} ({ends})"


def _change(row: "pd.Series | None") -> str:
    if row is None:
        return DASH
    return (
        f"{difference(row.change, share=True)} ({interval(row.change_low, row.change_high, share=True, signed=True)})"
    )


def _plain(row: "pd.Series | None", digits: int = 2) -> str:
    return DASH if row is None or math.isnan(row.value) else f"{row.value:.{digits}f}"
