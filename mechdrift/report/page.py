"""Assembles the page from a run folder: sentences, figures and tables go into one template, one HTML file comes out.

The page opens from disk, years later and offline: style, scripts, plotly.js and data are all inside it, and its content
security policy forbids every request. What models and prompts say is text, never markup: the template escapes
(`autoescape=True`), data for scripts is JSON without `<`, and the scripts only ever set `textContent`. Control
characters and marks of writing direction are replaced wherever they stand (`shown`). Each figure's own page is made
in the same way.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mechdrift.behaviour.verdicts import withheld
from mechdrift.records import SIDES, MechdriftError, order_dimensions
from mechdrift.records.foreign import INSTEAD, OBEYED, shown
from mechdrift.records.notebook import counted
from mechdrift.report import narrative
from mechdrift.report.exhibits import Drawn, Tables, draw_all, missing_sentence
from mechdrift.report.figures_lengths import length_rows
from mechdrift.report.rows import browser_rows, conventions, judges, reliability_note, score_rows, task_examples
from mechdrift.report.sheets import sheets_of
from mechdrift.report.theme import CONFIG, DARK, POLICY, POLICY_BESIDE
from mechdrift.report.waves import power_said, waves_shown
from mechdrift.report.words import (
    PAGE_WORDS,
    ROUTE_NAMES,
    SIDE_NAMES,
    THINK_NAMES,
    dimension_name,
    dimension_questions,
    interval,
    number,
    order_roles,
    readout_role,
    role_name,
)
from mechdrift.runs import Run

TEMPLATES = Path(__file__).parent / "templates"
# An unfinished run has not written every part of its manifest yet.
_SECTIONS: dict[str, Any] = {
    name: {}
    for name in (
        "identity",
        "config",
        "versions",
        "dtypes",
        "engines",
        "pair",
        "probes",
        "budgets",
        "stages",
        "self_tests",
    )
}
ESCAPED = re.compile(r"\\\\|\\u([0-9a-f]{4})", re.IGNORECASE)  # two backslashes are one backslash, and no beginning
TABLES = (
    "scores",
    "waves",
    "lengths",
    "length_scores",
    "completions",
    "readouts",
    "readout_validation",
    "drift",
    "cones",
    "dimensions",
    "thinking",
    "selection",
    "steering",
    "patch",
    "patch_items",
    "placebos",
    "grafts",
    "kl",
    "kl_tokens",
    "tasks",
    "variants",
    "passage",
    "weights",
)


def write_report(run: Run, out: Path | None = None) -> Path:
    """Write `report.html`, and in `figures/` each figure, beside one plotly.js for all; returns the page's path.

    They go into the run's folder, or into `out`.
    """
    tables, folder = load_tables(run), Run(run.folder if out is None else out)
    drawn = draw_all(tables)
    place_figures(folder, drawn, folder.folder / "figures", inline=False)
    return folder.write_text("report.html", render(run.manifest, tables, drawn))


def write_figures(run: Run, folder: str | Path) -> tuple[Path, ...]:
    """Write every figure as a page of its own that needs no other file (about 5 MB each)."""
    return place_figures(run, draw_all(load_tables(run)), Path(folder), inline=True)


def place_figures(run: Run, drawn: Mapping[str, Drawn], folder: Path, inline: bool) -> tuple[Path, ...]:
    """Each figure as a file of its own in `folder`, with plotly.js inside (`inline`) or once beside them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdriftError(
            f"{folder} cannot be made ({error.strerror}): make room for a folder of that name."
        ) from error
    written = []
    for name, exhibit in drawn.items():
        if exhibit.figure is not None:
            text = figure_page(exhibit, inline, slug(run.folder.name))
            # An absolute path wins over the run's folder when the two are joined.
            written.append(run.write_text(str(folder.resolve() / f"{name}.html"), text))
    if written and not inline:
        run.write_text(str(folder.resolve() / "plotly.min.js"), get_plotlyjs())
    return tuple(written)


def figure_page(drawn: Drawn, inline: bool, stem: str) -> str:
    """One figure as a page, with plotly.js inside (`inline`) or in the file beside it; its data are saved as
    `<stem>-….csv`."""
    page = templates().get_template("figure.html.j2")
    policy = Markup(POLICY if inline else POLICY_BESIDE)
    return page.render(drawn=drawn, inline=inline, policy=policy, stem=stem, sheets=sheets_of([drawn]))


def load_tables(run: Run) -> Tables:
    """The tables that the folder holds; a damaged one raises, a missing one is left out."""
    return {name: run.table(name) for name in TABLES if run.has(f"{name}.parquet")}


def render(manifest: dict[str, Any], tables: Tables, drawn: dict[str, Drawn]) -> str:
    """The page as text."""
    template = templates().get_template("page.html.j2")
    return template.render(
        run=_SECTIONS | manifest,
        verdict=_verdict(manifest, tables),
        waves=waves_shown(manifest, tables.get("waves")),
        figures=drawn,
        patches=[d for d in drawn.values() if d.exhibit.table == "patch"],
        scores=score_rows(tables["scores"]) if "scores" in tables else [],
        conventions=conventions(tables["scores"]) if "scores" in tables else [],
        judges=judges(tables["scores"]) if "scores" in tables else [],
        lengths=length_rows(tables.get("length_scores")),
        pilot=manifest.get("pilot", {}),
        directions=narrative.directions(manifest, tables.get("drift"), tables.get("thinking"), tables.get("steering")),
        validation=_validation(tables.get("readout_validation")),
        passage=_passage(tables.get("passage"), tables.get("readout_validation")),
        roles=_roles(tables),
        browser=_browser(tables),
        examples=task_examples(tables["tasks"]) if "tasks" in tables else [],
        missing=missing_sentence,
        facts=_facts(manifest),
        lineage=_lineage(manifest.get("pair", {})),
        probes=_probes(manifest.get("probes", {})),
        route=ROUTE_NAMES.get(manifest.get("pair", {}).get("route", "unknown"), manifest.get("pair", {}).get("route")),
        dimension_name=dimension_name,
        side_names=SIDE_NAMES,
        sides=SIDES,
        tables=tables,
        sheets=sheets_of(drawn.values()),
        stem=_slug(manifest),
    )


def _slug(manifest: Mapping[str, Any]) -> str:
    """The pair's name as the beginning of a file's name."""
    name = manifest.get("pair", {}).get("name") or manifest.get("config", {}).get("pair") or "run"
    return slug(str(name))


def slug(name: str) -> str:
    """A name without what a file's name cannot hold."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"


@cache
def templates() -> Environment:
    """The templates, with what they all use: text is escaped, and a name that is not there is an error.

    Each is compiled once: a run's page and its figures are made of a dozen.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        asset=_asset,
        data=_embedded,
        json=_json,
        plotly=lambda: Markup(get_plotlyjs()),
        plot_config=CONFIG,
        policy=Markup(POLICY),
        plot_dark=DARK,
        words=PAGE_WORDS,
    )
    environment.globals["flat"] = lambda section: [
        (key.replace("_", " "), _flat(value)) for key, value in section.items() if value is not None
    ]
    environment.filters["seconds"] = _seconds
    return environment


def _asset(name: str) -> Markup:
    """A style sheet or script of this package, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _json(value: Any) -> str:
    """A value as JSON; numpy scalars become Python ones."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=lambda scalar: scalar.item())


def _instead(escape: re.Match[str]) -> str:
    number = escape[1]
    is_obeyed = number is not None and OBEYED.match(chr(int(number, 16))) and not 0xD800 <= int(number, 16) <= 0xDFFF
    return INSTEAD if is_obeyed else escape[0]


def _embedded(text: str) -> Markup:
    """JSON for a `<script>` of data: without `<`, `>` and `&`, no text can close the element or open a comment. What
    `shown` replaces is replaced, also where the JSON names it by its number."""
    text = ESCAPED.sub(_instead, shown(text))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _verdict(manifest: dict[str, Any], tables: Tables) -> dict[str, Any]:
    scores = None if "scores" not in tables else withheld(tables["scores"], manifest)
    found = [] if scores is None else narrative.findings(scores)
    established = {f.dimension for f in found if f.verdict in ("fell", "rose")}
    bounds = [abs(bound) for f in found for bound in (f.low, f.high) if not math.isnan(bound)]
    return {
        "lead": narrative.lead(found),
        "findings": found,
        "scale": max(bounds, default=1.0) or 1.0,
        "questions": dimension_questions(),
        "reasoning": missing_sentence("scores") if scores is None else narrative.reasoning_sentence(scores),
        "certainty": [] if scores is None else [*narrative.certainty(scores, found), *power_said(manifest)],
        "inside": narrative.inside(tables.get("patch"), tables.get("grafts"), established),
        "warnings": narrative.warnings(manifest, scores, tables.get("readout_validation")),
    }


def _validation(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    rows = [] if table is None else table.to_dict("records")
    return [
        {
            **row,
            "dimension": dimension_name(row["dimension"]),
            "think": THINK_NAMES.get(row["think"], row["think"]),
            "auroc": number(row["auroc"]),
            "interval": interval(row["low"], row["high"]),
        }
        for row in rows
    ]


def _passage(table: pd.DataFrame | None, validation: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Per dimension the change of the readout on each path, formatted, and how well that readout follows either model's
    behaviour."""
    if table is None or table.empty:
        return []
    rows = []
    for dimension in order_dimensions(table.dimension):
        part = table[table.dimension == dimension].set_index("path")
        cells = {
            path: (number(row.effect, signed=True), interval(row.low, row.high, signed=True))
            for path, row in part.iterrows()
        }
        checks = [None] * 2 if validation is None else [_check(validation, dimension, side) for side in SIDES]
        rows.append(
            {
                "dimension": dimension_name(dimension),
                "cells": cells,
                "n": int(part.n.iloc[0]),
                "families": int(part.families.iloc[0]),
                "reliability": [reliability_note(check) for check in checks],
            }
        )
    return rows


def _check(validation: pd.DataFrame, dimension: str, side: str) -> Any:
    """How the readout with an empty think block, which serves both models, did in one of them."""
    found = validation[(validation.dimension == dimension) & (validation.side == side) & (validation.think == "off")]
    return next(found.itertuples(), None)


def _roles(tables: Tables) -> list[tuple[str, str]]:
    """Roles of the grids in prompt order, each in words."""
    found = [role for name in ("drift", "patch") if name in tables for role in tables[name].role.unique()]
    last = readout_role(found) if found else ""
    return [
        (role, role_name(role) + (" (the readout position)" if role == last else "")) for role in order_roles(found)
    ]


def _browser(tables: Tables) -> dict[str, Any] | None:
    if "completions" not in tables:
        return None
    rows = browser_rows(
        tables["completions"], tables.get("readouts"), tables.get("variants"), tables.get("readout_validation")
    )
    names = {d: dimension_name(d) for d in order_dimensions(tables["completions"].dimension)}
    labels = sorted({label for label in tables["completions"].label if label})
    return {
        "rows": rows,
        "dimensions": names,
        "labels": labels,
        "thinks": THINK_NAMES,
        "count": counted(len(rows), "prompt"),
    }


def _facts(manifest: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The pair audit side by side: a name and the two sides' values."""
    facts = manifest.get("pair", {}).get("facts", {})
    names = dict.fromkeys(name for side in SIDES for name in facts.get(side, {}))
    return [(name.replace("_", " "), [_flat(facts.get(side, {}).get(name, "—")) for side in SIDES]) for name in names]


def _lineage(pair: dict[str, Any]) -> list[tuple[str, str]]:
    same = pair.get("same_tokens")
    return [
        ("parent named by the child", pair.get("stated_parent") or "none found"),
        ("prompts tokenised alike", "—" if same is None else number(same, share=True)),
    ]


def _probes(probes: dict[str, Any]) -> list[tuple[str, str]]:
    def counts(facts: dict[str, Any]) -> str:
        families = counted(facts["families"], "family", "families")
        return f"{facts['n']} of {facts.get('sampled_from', facts['n'])}, {families}"

    return [(dimension_name(name), counts(facts)) for name, facts in probes.items()]


def _flat(value: Any) -> str:
    """A manifest value on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_flat(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(entry) for entry in value)
    return (
        {True: "yes", False: "no", None: "—"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
