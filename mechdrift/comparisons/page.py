"""The page of a comparison: a few children of one parent on one page (`report.templating` says how pages are made)."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mechdrift.comparisons.captions import CAPTIONS
from mechdrift.comparisons.figures import changes, divergence, share_text, trade_off
from mechdrift.comparisons.figures_by_layer import drift_overlaid, patch_overlaid, position_name
from mechdrift.records import order_dimensions
from mechdrift.records.notebook import counted
from mechdrift.records.words import ALL
from mechdrift.report.exhibits import draw_these, exhibit
from mechdrift.report.sheets import sheets_of
from mechdrift.report.templating import place_figures, slug, templates
from mechdrift.report.words import DASH, ROUTE_NAMES, bare_p, difference, dimension_name, interval, number
from mechdrift.runs import Run, check_target
from mechdrift.statistics.grids import ALPHA

if TYPE_CHECKING:
    from mechdrift.comparisons.children import Comparison

EXHIBITS = (
    exhibit("trade_off", "summary", lambda t: trade_off(t["summary"]), CAPTIONS),
    exhibit("changes", "frame", lambda t: changes(t["frame"], t["summary"]), CAPTIONS),
    exhibit("divergence", "frame", lambda t: divergence(t["frame"], t["summary"]), CAPTIONS),
    exhibit("drift_overlaid", "drift", lambda t: drift_overlaid(t["drift"]), CAPTIONS),
    exhibit("patch_overlaid", "patch", lambda t: patch_overlaid(t["patch"]), CAPTIONS),
)


def write_comparison(compared: "Comparison", out: Path) -> Path:
    """Write the page to `out` and its figures into `<its name>-figures` beside it."""
    out = check_target(out)
    tables = {name: getattr(compared, name) for name in ("frame", "summary", "drift", "patch")}
    drawn = draw_these(EXHIBITS, tables)
    folder = Run(out.parent)
    place_figures(folder, drawn, out.parent / f"{out.stem}-figures", inline=False)
    text = (
        templates()
        .get_template("compare.html.j2")
        .render(
            parent=compared.parent,
            runs=[_described(name, run) for name, run in compared.runs.items()],
            figures=drawn,
            sheets=sheets_of(drawn.values()),
            stem=slug(out.stem),
            lead=[lead(row) for row in compared.summary.to_dict("records")],
            notes=compared.notes,
            rows=_rows(compared),
            dimensions=[name.capitalize() for name in order_dimensions(compared.frame.dimension)],
            children=[_child_row(row) for row in compared.children.to_dict("records")],
            found=_found(compared.children),
            prediction=[prediction(compared, per_dimension) for per_dimension in (False, True)],
            position=position_name(tables),
        )
    )
    return folder.write_text(out.name, text)


def lead(row: dict[str, Any]) -> str:
    """One run in one sentence."""
    gain = "reasoning was not asked" if math.isnan(row["gain"]) else f"reasoning {share_text(row, 'gain')}"
    gain = f"reasoning: cannot tell: {row['gain_reason']}" if row["gain_reason"] else gain
    if row["reason"]:
        return f"{row['run']}: {gain}; alignment: cannot tell: {row['reason']}."
    return f"{row['run']}: {gain}, alignment {share_text(row, 'kept')}."


def prediction(compared: "Comparison", per_dimension: bool) -> str:
    """The correlation of divergence and change, with its number of points."""
    found = compared.correlation(per_dimension)
    n = int(found["n"])
    points = (
        counted(n, "point, one per child and dimension", "points, one per child and dimension")
        if per_dimension
        else counted(n, "child", "children")
    )
    if math.isnan(found["r"]):
        return f"No correlation can be computed over {points}: it takes three that differ."
    said = f"Over {points}: r = {number(found['r'])}, Spearman's ρ = {number(found['rho'])}"
    if per_dimension:
        return f"{said}. Points of one child, or of one dimension, are not independent, so no p is given."
    return f"{said}. With so few points, even chance gives large correlations." if n < 10 else f"{said}."


def _described(name: str, run: Run) -> tuple[str, str]:
    manifest = run.manifest
    route = ROUTE_NAMES.get(manifest["pair"].get("route", "unknown"), manifest["pair"].get("route"))
    print_ = manifest["pair"].get("fingerprints", {}).get("reasoning", DASH)
    return (
        name,
        (
            f"{route}; preset {manifest['config'].get('preset', DASH)}, seed "
            f"{manifest['config'].get('seed', DASH)}; weights {print_}"
        ),
    )


def _rows(compared: "Comparison") -> list[dict[str, Any]]:
    """A line per run: accuracy, the change of every dimension, their mean, and the divergence."""
    rows = []
    for row in compared.summary.to_dict("records"):
        own = compared.frame[compared.frame.run == row["run"]].set_index("dimension")
        cells = []
        for name in order_dimensions(compared.frame.dimension):
            cells.append(_cell(own.loc[name]) if name in own.index else (DASH, ""))
        rows.append(
            {
                "run": row["run"],
                "route": row["route"],
                "accuracy": _levels(row["accuracy_before"], row["accuracy"]),
                "gain": (
                    difference(row["gain"], share=True),
                    interval(row["gain_low"], row["gain_high"], share=True, signed=True),
                ),
                "cells": cells,
                "n": f"{row['n']} ({row['families']})",
                "kept": (
                    difference(row["kept"], share=True),
                    interval(row["kept_low"], row["kept_high"], share=True, signed=True),
                ),
                "kl": (number(row["kl"]), interval(row["kl_low"], row["kl_high"])),
            }
        )
    return rows


def _cell(row: pd.Series) -> tuple[str, str]:
    if row.reason:
        return "cannot tell", row.reason
    star = "*" if row.p_holm < ALPHA and (row.low > 0 or row.high < 0) else ""
    return f"{number(row.difference, share=True, signed=True)}{star}", interval(
        row.low, row.high, share=True, signed=True
    )


def _levels(before: float, after: float) -> str:
    return f"{number(before, share=True)} → {number(after, share=True)}"


def _is_clear(row: dict[str, Any]) -> bool:
    return bool(not row["reason"] and row["p_holm"] < ALPHA and (row["low"] > 0 or row["high"] < 0))


def _child_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "first": row["first"],
        "second": row["second"],
        "scores": _levels(row["first_score"], row["second_score"]),
        "dimension": "mean of the dimensions" if row["dimension"] == ALL else dimension_name(row["dimension"]).lower(),
        "difference": difference(row["difference"], share=True),
        "interval": interval(row["low"], row["high"], share=True, signed=True),
        **{name: "cannot tell" if row["reason"] else bare_p(row[name]) for name in ("p", "p_holm")},
        "n": f"{row['n']} ({row['families']})",
        "clear": _is_clear(row),
    }


def _found(children: pd.DataFrame) -> tuple[str, list[str]]:
    """Which children differ: one sentence for all of them, and one for each difference."""
    if children.empty:
        return (
            "No two of these runs were asked the same prompts, so their children cannot be compared with each other.",
            [],
        )
    clear = [row for row in children.to_dict("records") if _is_clear(row)]
    if not clear:
        seen = children[children.dimension != ALL].mde.median()
        size = (
            ""
            if math.isnan(seen)
            else (
                f"; without that correction, a difference of {difference(seen, share=True).lstrip('+')} would be "
                "found in 80% of comparisons like these"
            )
        )
        return (
            (
                f"No difference between two children is established after Holm's correction over {len(children)} "
                f"comparisons{size}."
            ),
            [],
        )
    said = []
    for row in clear:
        where = "on average" if row["dimension"] == ALL else f"in {dimension_name(row['dimension']).lower()}"
        more, less = (row["second"], row["first"]) if row["difference"] > 0 else (row["first"], row["second"])
        said.append(
            f"{more} is more aligned than {less} {where}, by "
            f"{difference(abs(row['difference']), share=True).lstrip('+')}."
        )
    return f"After Holm's correction over {len(children)} comparisons:", said
