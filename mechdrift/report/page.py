"""The page of a run: sentences, figures and tables go into one template, and one HTML file comes out.

    write_report(run)               report.html in the run's folder, and each figure in figures/
    write_figures(run, "out")       each figure as a page that needs no other file

It reads the run folder and nothing else: no model, no network. `templating` says how pages are made safe to open.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechdrift.behaviour.verdicts import withheld
from mechdrift.records import SIDES
from mechdrift.report.exhibits import Drawn, Tables, draw_all, missing_sentence
from mechdrift.report.narrative.certainty import certainty, simulated_power
from mechdrift.report.narrative.changes import findings
from mechdrift.report.narrative.directions import describe_directions
from mechdrift.report.narrative.places import find_places
from mechdrift.report.narrative.reader_warnings import reader_warnings
from mechdrift.report.narrative.summary import lead, reasoning_sentence
from mechdrift.report.provenance import facts_of, lineage_of, probes_of
from mechdrift.report.readout_rows import path_rows, validation_rows
from mechdrift.report.rows import browser_of, conventions, judges, length_rows, score_rows, task_examples
from mechdrift.report.sheets import sheets_of
from mechdrift.report.templating import place_figures, slug, templates
from mechdrift.report.waves import waves_shown
from mechdrift.report.words import (
    ROUTE_NAMES,
    SIDE_NAMES,
    dimension_name,
    dimension_questions,
    order_roles,
    readout_role,
    role_name,
)
from mechdrift.runs import Run

SECTIONS: dict[str, Any] = {
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
"""The parts of a manifest. An unfinished run has not written every one yet."""
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


def write_report(run: Run, out: Path | None = None, *, is_running: bool = False) -> Path:
    """Write `report.html`, and in `figures/` each figure, beside one plotly.js for all; returns the page's path.

    Args:
        run: an audit's run, finished or not.
        out: the folder to write to; by default the run's own.
        is_running: whether the audit goes on while the page is read: then the page reloads itself.

    Raises:
        MechdriftError: where a table is damaged, or the folder cannot be written to.

    Example:
        >>> write_report(run, Path("out")).name
        'report.html'
    """
    tables, folder = load_tables(run), Run(run.folder if out is None else out)
    drawn = draw_all(tables)
    place_figures(folder, drawn, folder.folder / "figures", inline=False)
    return folder.write_text("report.html", render(run.manifest, tables, drawn, is_running=is_running))


def write_figures(run: Run, folder: str | Path) -> tuple[Path, ...]:
    """Write every figure of a run as a page of its own that needs no other file (about 5 MB each); returns their
    paths."""
    return place_figures(run, draw_all(load_tables(run)), Path(folder), inline=True)


def load_tables(run: Run) -> Tables:
    """The tables that the folder holds; a damaged one raises, a missing one is left out."""
    return {name: run.table(name) for name in TABLES if run.has(f"{name}.parquet")}


def render(manifest: dict[str, Any], tables: Tables, drawn: dict[str, Drawn], *, is_running: bool) -> str:
    """The page as text."""
    pair, validation = manifest.get("pair", {}), tables.get("readout_validation")
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            run=SECTIONS | manifest,
            verdict=_verdict(manifest, tables),
            waves=waves_shown(manifest, tables.get("waves"), is_running=is_running),
            figures=drawn,
            patches=[d for d in drawn.values() if d.exhibit.table == "patch"],
            scores=score_rows(tables["scores"]) if "scores" in tables else [],
            conventions=conventions(tables["scores"]) if "scores" in tables else [],
            judges=judges(tables["scores"]) if "scores" in tables else [],
            lengths=length_rows(tables.get("length_scores")),
            pilot=manifest.get("pilot", {}),
            directions=describe_directions(
                manifest, tables.get("drift"), tables.get("thinking"), tables.get("steering")
            ),
            validation=validation_rows(validation),
            passage=path_rows(tables.get("passage"), validation),
            roles=_roles(tables),
            browser=browser_of(tables),
            examples=task_examples(tables["tasks"]) if "tasks" in tables else [],
            missing=missing_sentence,
            facts=facts_of(pair),
            lineage=lineage_of(pair),
            probes=probes_of(manifest.get("probes", {})),
            route=ROUTE_NAMES.get(pair.get("route", "unknown"), pair.get("route")),
            dimension_name=dimension_name,
            side_names=SIDE_NAMES,
            sides=SIDES,
            tables=tables,
            sheets=sheets_of(drawn.values()),
            stem=_stem(manifest),
        )
    )


def _verdict(manifest: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    """The sentences of the part "In short"."""
    scores = None if "scores" not in tables else withheld(tables["scores"], manifest)
    found = [] if scores is None else findings(scores)
    established = {f.dimension for f in found if f.verdict in ("fell", "rose")}
    ends = [abs(end) for f in found for end in (f.low, f.high) if not math.isnan(end)]
    is_asked = "answers" in manifest.get("stages", ())
    return {
        "lead": lead(found),
        "findings": found,
        "scale": max(ends, default=1.0) or 1.0,
        "questions": dimension_questions(),
        "reasoning": missing_sentence("scores") if scores is None else reasoning_sentence(scores, is_asked=is_asked),
        "certainty": [] if scores is None else [*certainty(scores, found), *simulated_power(manifest)],
        "inside": find_places(tables.get("patch"), tables.get("grafts"), established),
        "warnings": reader_warnings(manifest, scores, tables.get("readout_validation")),
    }


def _roles(tables: Tables) -> list[tuple[str, str]]:
    """Roles of the grids in prompt order, each in words."""
    found = [role for name in ("drift", "patch") if name in tables for role in tables[name].role.unique()]
    last = readout_role(found) if found else ""
    return [
        (role, role_name(role) + (" (the readout position)" if role == last else "")) for role in order_roles(found)
    ]


def _stem(manifest: Mapping[str, Any]) -> str:
    """The pair's name, as the beginning of the name of a file that the page hands out."""
    return slug(str(manifest.get("pair", {}).get("name") or manifest.get("config", {}).get("pair") or "run"))
