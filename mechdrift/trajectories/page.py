"""The page of a trajectory: every measure of one training run against its steps (`report.templating` says how pages are
made)."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechdrift.report.exhibits import draw_these, exhibit
from mechdrift.report.sheets import sheets_of
from mechdrift.report.templating import place_figures, slug, templates
from mechdrift.report.words import DASH, MINUS, ROUTE_NAMES, number
from mechdrift.trajectories import figures as training
from mechdrift.trajectories.captions import CAPTIONS

if TYPE_CHECKING:
    from mechdrift.trajectories.run import Trajectory

PAGE = "trajectory.html"
EXHIBITS = (
    exhibit("overview", "course", lambda t: training.overview(t["course"], t["halfway"]), CAPTIONS),
    exhibit("halfway", "halfway", lambda t: training.halfway_steps(t["course"], t["halfway"]), CAPTIONS),
    exhibit("scores", "course", lambda t: training.scores(t["course"], t["halfway"]), CAPTIONS),
    exhibit("cosines", "course", lambda t: training.cosines(t["course"]), CAPTIONS),
)


def write_trajectory(found: "Trajectory") -> Path:
    """Write `trajectory.html` and, in `figures/`, each figure; returns the page's path."""
    drawn = draw_these(EXHIBITS, {"course": found.frame, "halfway": found.halfway})
    place_figures(found.run, drawn, found.run.folder / "figures", inline=False)
    history, manifest = found.history, found.run.manifest
    route = ROUTE_NAMES.get(history.route, ROUTE_NAMES.get(history.route.upper(), history.route))
    facts = [
        ("parent", history.parent),
        ("route", route),
        ("seed of the training", str(history.seed)),
        ("steps", f"{', '.join(map(str, history.steps))} ({history.unit})"),
        ("trained tokens at the last step", f"{history.tokens[-1]:,}"),
        ("preset", manifest["config"]["preset"]),
        ("seed of the audit", str(manifest["config"]["seed"])),
        *(manifest.get("versions", {}).items()),
    ]
    rows = [_row(row) for row in found.halfway.to_dict("records")]
    text = (
        templates()
        .get_template("trajectory.html.j2")
        .render(
            history=history,
            sentences=found.sentences,
            figures=drawn,
            sheets=sheets_of(drawn.values()),
            stem=slug(history.name),
            facts=facts,
            rows=rows,
        )
    )
    return found.run.write_text(PAGE, text)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A measure of the table of half-way steps, formatted."""
    known = not math.isnan(row["half"])
    return {
        "name": training.label(row),
        "layer": DASH if math.isnan(row["layer"]) else f"{row['layer']:.0f}",
        "first": _number(row, "first"),
        "last": _number(row, "last"),
        "change": _number(row, "change", signed=True),
        "interval": " to ".join(
            _number(row, end, signed=True).removesuffix("%") for end in ("change_low", "change_high")
        ),
        "established": bool(row["established"]),
        "half": f"{row['half']:.0f}" if known else DASH,
        "ends": f"{row['half_low']:.0f} to {row['half_high']:.0f}" if known else "",
        "n": f"{row['n']} ({row['families']})",
    }


def _number(row: dict[str, Any], name: str, *, signed: bool = False) -> str:
    """A number in words: shares in per cent, log-odds with two decimals, cosines and KL, whose changes are small, with
    four."""
    if row["quantity"] not in ("cosine", "kl"):
        return number(row[name], share=row["quantity"] in ("accuracy", "aligned"), signed=signed)
    text = f"{abs(row[name]):.4f}"
    sign = "" if float(text) == 0 else MINUS if row[name] < 0 else "+" if signed else ""
    return sign + text
