"""The figures of the page: which table each cannot do without, and the sentence in its place when that is missing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import MechdriftError, order_dimensions
from mechdrift.report import figures, figures_lengths
from mechdrift.report import figures_directions as inside
from mechdrift.report import figures_steering as causes
from mechdrift.report.figures_origins import origins
from mechdrift.report.words import dimension_name

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A figure to be drawn. `tab` is its label where several share a place; a `narrow` one fits a phone's screen."""

    name: str
    table: str
    draw: Callable[[Tables], go.Figure]
    tab: str = ""
    narrow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure, or the sentence that stands in its place."""

    exhibit: Exhibit
    figure: go.Figure | None
    missing: str = ""


NOTHING = pd.DataFrame({"dimension": [], "role": []})
FIXED = (
    Exhibit(name="scores", table="scores", draw=lambda t: figures.scores_side_by_side(t["scores"]), narrow=True),
    Exhibit(name="lengths", table="lengths", draw=lambda t: figures_lengths.lengths(t["lengths"])),
    Exhibit(name="signal_detection", table="scores", draw=lambda t: figures.signal_detection(t["scores"])),
    Exhibit(name="missed_and_over", table="scores", draw=lambda t: figures.missed_and_over(t["scores"])),
    Exhibit(name="direction_drift", table="drift", draw=lambda t: figures.direction_drift(t["drift"])),
    Exhibit(name="drift_map", table="drift", draw=lambda t: inside.drift_map(t["drift"])),
    Exhibit(name="angles", table="cones", draw=lambda t: inside.angles_and_cones(t.get("drift", NOTHING), t["cones"])),
    Exhibit(name="differences", table="drift", draw=lambda t: inside.differences(t["drift"])),
    Exhibit(
        name="dimensions",
        table="dimensions",
        draw=lambda t: inside.dimensions_matrix(t["dimensions"], t.get("drift", NOTHING)),
    ),
    Exhibit(name="thinking", table="thinking", draw=lambda t: inside.along_thinking(t["thinking"])),
    Exhibit(name="selection", table="selection", draw=lambda t: causes.selection(t["selection"])),
    Exhibit(name="steering", table="steering", draw=lambda t: causes.steering(t["steering"])),
    Exhibit(name="kl", table="kl", draw=lambda t: figures.kl_by_position(t["kl"], t.get("kl_tokens"))),
    Exhibit(name="weights", table="weights", draw=lambda t: figures.weight_change(t["weights"]), narrow=True),
    Exhibit(name="tasks", table="tasks", draw=lambda t: figures.task_accuracy(t["tasks"]), narrow=True),
)


def draw_all(tables: Tables) -> dict[str, Drawn]:
    """Every figure by name; those of one dimension, the patch grids and what they and the grafts say by layer, come
    last."""
    return draw_these((*FIXED, *_patch_exhibits(tables), *_origin_exhibits(tables)), tables)


def draw_these(exhibits: Iterable[Exhibit], tables: Tables) -> dict[str, Drawn]:
    """These figures by name, or what stands in their place."""
    return {exhibit.name: _draw(exhibit, tables) for exhibit in exhibits}


def missing_sentence(table: str) -> str:
    return f"Not in this run: the table “{table}” has not been computed (its stage was not run)."


def _draw(exhibit: Exhibit, tables: Tables) -> Drawn:
    if exhibit.table not in tables:
        return Drawn(exhibit=exhibit, figure=None, missing=missing_sentence(exhibit.table))
    try:
        return Drawn(exhibit=exhibit, figure=exhibit.draw(tables))
    except MechdriftError as reason:
        return Drawn(exhibit=exhibit, figure=None, missing=str(reason))


def _patch_exhibits(tables: Tables) -> list[Exhibit]:
    """One per patched dimension; a single one, to say what is missing, when nothing was patched."""
    patched = order_dimensions(tables["patch"].dimension) if "patch" in tables else []
    return [
        Exhibit(name=f"patch_{dimension}", table="patch", draw=_patch_drawer(dimension), tab=dimension_name(dimension))
        for dimension in patched or ["any dimension"]
    ]


def _patch_drawer(dimension: str) -> Callable[[Tables], go.Figure]:
    def draw(tables: Tables) -> go.Figure:
        completions = tables.get("completions")
        prompts = {} if completions is None else dict(zip(completions.item, completions.prompt, strict=True))
        return figures.patch_grid(tables["patch"], dimension, tables.get("patch_items"), prompts)

    return draw


def _origin_exhibits(tables: Tables) -> list[Exhibit]:
    patched = order_dimensions(tables["patch"].dimension) if "patch" in tables else []
    return [
        Exhibit(name=f"origins_{dimension}", table="grafts", draw=_origin_drawer(dimension)) for dimension in patched
    ]


def _origin_drawer(dimension: str) -> Callable[[Tables], go.Figure]:
    return lambda tables: origins(tables["patch"], tables.get("placebos", NOTHING), tables["grafts"], dimension)
