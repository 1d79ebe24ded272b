"""The figures of a page: the table that each one needs, its words, the rows that it hands out, and the sentence that
stands in its place where the table is missing.

`Exhibit` and `draw_these` serve every page; `all_exhibits` lists the figures of a run's page.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import MechdriftError, order_dimensions
from mechdrift.report.captions import CAPTIONS, Caption
from mechdrift.report.figures.dimensions import dimensions_matrix
from mechdrift.report.figures.divergence import kl_by_position
from mechdrift.report.figures.drift import angles_and_cones, differences, direction_drift, drift_map
from mechdrift.report.figures.grafts import origins
from mechdrift.report.figures.lengths import length_curves
from mechdrift.report.figures.patches import patch_grid
from mechdrift.report.figures.scores import missed_and_over, scores_side_by_side, signal_detection
from mechdrift.report.figures.steering import candidates, steering_effects
from mechdrift.report.figures.tasks import task_accuracy
from mechdrift.report.figures.thinking import along_thinking
from mechdrift.report.figures.weights import weight_change
from mechdrift.report.words import dimension_name

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A figure to be drawn from the tables of a run, with its words and the rows that the page hands out with it.

    `table` names the table that the figure needs, and `beside` the tables that it also shows where they are there.
    `rows` are conditions (column and value) on the rows that it shows; none by default. `tab` is the figure's label
    where several share a place. A `narrow` figure fits a phone's screen.
    """

    name: str
    table: str
    draw: Callable[[Tables], go.Figure]
    caption: Caption
    beside: tuple[str, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)
    tab: str = ""
    narrow: bool = False

    def sheets(self, tables: Tables) -> dict[str, pd.DataFrame]:
        """The rows that the figure shows, by a name that figures of the same rows share: "drift", "patch-safety"."""
        found = {}
        for name in (self.table, *self.beside):
            if name in tables:
                table = tables[name]
                for column, value in self.rows.items():
                    table = table[table[column] == value]
                found["-".join([name, *self.rows.values()])] = table
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure with its sheets of data, or the sentence that stands in its place."""

    exhibit: Exhibit
    figure: go.Figure | None
    sheets: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    missing: str = ""


NOTHING = pd.DataFrame({"dimension": [], "role": []})


def exhibit(
    name: str,
    table: str,
    draw: Callable[[Tables], go.Figure],
    captions: Mapping[str, Caption] = CAPTIONS,
    **options: Any,
) -> Exhibit:
    """A figure whose words stand under its own name in `captions`."""
    return Exhibit(name=name, table=table, draw=draw, caption=captions[name], **options)


FIXED = (
    exhibit("scores", "scores", lambda t: scores_side_by_side(t["scores"]), narrow=True),
    exhibit("lengths", "lengths", lambda t: length_curves(t["lengths"])),
    exhibit("signal_detection", "scores", lambda t: signal_detection(t["scores"])),
    exhibit("missed_and_over", "scores", lambda t: missed_and_over(t["scores"])),
    exhibit("direction_drift", "drift", lambda t: direction_drift(t["drift"])),
    exhibit("drift_map", "drift", lambda t: drift_map(t["drift"])),
    exhibit("angles", "cones", lambda t: angles_and_cones(t.get("drift", NOTHING), t["cones"]), beside=("drift",)),
    exhibit("differences", "drift", lambda t: differences(t["drift"])),
    exhibit("dimensions", "dimensions", lambda t: dimensions_matrix(t["dimensions"], t.get("drift", NOTHING))),
    exhibit("thinking", "thinking", lambda t: along_thinking(t["thinking"])),
    exhibit("selection", "selection", lambda t: candidates(t["selection"])),
    exhibit("steering", "steering", lambda t: steering_effects(t["steering"])),
    exhibit("kl", "kl", lambda t: kl_by_position(t["kl"], t.get("kl_tokens"))),
    exhibit("weights", "weights", lambda t: weight_change(t["weights"]), narrow=True),
    exhibit("tasks", "tasks", lambda t: task_accuracy(t["tasks"]), narrow=True),
)


def all_exhibits(tables: Tables) -> tuple[Exhibit, ...]:
    """Every figure of a run's page. Those of one dimension come last: its patch grid, and its grafts by layer."""
    return (*FIXED, *_patch_exhibits(tables), *_origin_exhibits(tables))


def draw_all(tables: Tables) -> dict[str, Drawn]:
    """Every figure of a run's page by name."""
    return draw_these(all_exhibits(tables), tables)


def draw_these(exhibits: Iterable[Exhibit], tables: Tables) -> dict[str, Drawn]:
    """These figures by name, or what stands in their place."""
    return {exhibit.name: _draw(exhibit, tables) for exhibit in exhibits}


def missing_sentence(table: str) -> str:
    """What stands in place of a figure whose table the run does not have."""
    return f"Not in this run: the table “{table}” has not been computed (its stage was not run)."


def _draw(exhibit: Exhibit, tables: Tables) -> Drawn:
    if exhibit.table not in tables:
        return Drawn(exhibit=exhibit, figure=None, missing=missing_sentence(exhibit.table))
    try:
        return Drawn(exhibit=exhibit, figure=exhibit.draw(tables), sheets=exhibit.sheets(tables))
    except MechdriftError as reason:
        return Drawn(exhibit=exhibit, figure=None, missing=str(reason))


def _patch_exhibits(tables: Tables) -> list[Exhibit]:
    """One per patched dimension; a single one, to say what is missing, when nothing was patched."""
    return [
        Exhibit(
            name=f"patch_{dimension}",
            table="patch",
            draw=_patch_drawer(dimension),
            caption=_of(dimension, CAPTIONS["patch"]),
            rows={"dimension": dimension},
            tab=dimension_name(dimension),
        )
        for dimension in _patched(tables) or ["any dimension"]
    ]


def _patched(tables: Tables) -> list[str]:
    return order_dimensions(tables["patch"].dimension) if "patch" in tables else []


def _of(dimension: str, caption: Caption) -> Caption:
    return replace(caption, title=f"{dimension_name(dimension)}. {caption.title}")


def _patch_drawer(dimension: str) -> Callable[[Tables], go.Figure]:
    def draw(tables: Tables) -> go.Figure:
        completions = tables.get("completions")
        prompts = {} if completions is None else dict(zip(completions.item, completions.prompt, strict=True))
        return patch_grid(tables["patch"], dimension, tables.get("patch_items"), prompts)

    return draw


def _origin_exhibits(tables: Tables) -> list[Exhibit]:
    return [
        Exhibit(
            name=f"origins_{dimension}",
            table="grafts",
            draw=_origin_drawer(dimension),
            caption=_of(dimension, CAPTIONS["origins"]),
            beside=("patch", "placebos"),
            rows={"dimension": dimension},
        )
        for dimension in _patched(tables)
    ]


def _origin_drawer(dimension: str) -> Callable[[Tables], go.Figure]:
    return lambda tables: origins(tables["patch"], tables.get("placebos", NOTHING), tables["grafts"], dimension)
