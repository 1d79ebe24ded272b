"""Cosines between the dimensions' directions: does one direction serve several of them?"""

from collections.abc import Mapping, Sequence
from statistics import mode

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.directions.best_layer import best_layers
from mechdrift.records import SIDES, order_dimensions
from mechdrift.report.drawing import HOVER, colour_bar, grid, need_column, with_menu
from mechdrift.report.theme import DIVERGING, GREY
from mechdrift.report.words import dimension_name, interval, number, readout_role

MOST_LAYERS = 15  # in a menu: of deeper models only every second or third
ACROSS = "across"
PANELS = {
    "instruct": "instruct model",
    "reasoning": "reasoning model",
    ACROSS: "instruct (rows) to reasoning (columns)",
}


def dimensions_matrix(dimensions: pd.DataFrame, drift: pd.DataFrame) -> go.Figure:
    """Cosines between the dimensions' directions in each model and across. A menu chooses the layer, and
    `default_layer` is shown first."""
    need_column(dimensions, "change", "comparison of dimensions (it takes two of them)")
    need_column(drift, "below_null_instruct", "drift of directions")
    role = readout_role(dimensions.role)
    table, at_role = dimensions[dimensions.role == role], drift[drift.role == role]
    chosen = default_layer(at_role)
    every = sorted(set(table.layer))
    layers = sorted({*every[:: -(-len(every) // MOST_LAYERS)], chosen})
    names = order_dimensions([*table["first"], *table["second"]])
    figure = grid(1, 3, list(PANELS.values()), height=480, shared_yaxes=True, horizontal_spacing=0.03)
    for layer in layers:
        rows, kept = table[table.layer == layer], at_role[at_role.layer == layer].set_index("dimension")
        for column, panel in enumerate(PANELS, 1):
            trace = _matrix(rows, kept, names, panel).update(visible=layer == chosen)
            figure.add_trace(trace, row=1, col=column)
    figure.update_yaxes(autorange="reversed", showgrid=False).update_xaxes(tickangle=-40, showgrid=False)
    colours = {"colorscale": DIVERGING, "cmin": -1, "cmax": 1, "colorbar": colour_bar("cosine")}
    figure.update_layout(coloraxis=colours, plot_bgcolor=GREY)
    shown = [layer for layer in layers for _ in PANELS]
    return with_menu(figure, "Layer", {layer: f"layer {layer}" for layer in layers}, shown, chosen)


def default_layer(drift: pd.DataFrame) -> int:
    """The layer that separates best (`directions.best_layer`) in most dimensions; the first of several."""
    found = best_layers(drift, readout_role(drift.role))
    return mode(found.values()) if found else int(drift.layer.min())


def _matrix(rows: pd.DataFrame, drift: pd.DataFrame, names: Sequence[str], panel: str) -> go.Heatmap:
    """One panel at one layer; cells with a direction that is not above noise are empty."""
    pairs = {(row["first"], row["second"]): row for row in rows.to_dict("records")}
    cells = [[_cell(pairs, drift, first, second, panel) for second in names] for first in names]
    values = np.array([[value for value, _ in row] for row in cells])
    labels = [dimension_name(name) for name in names]
    return go.Heatmap(
        z=values,
        x=labels,
        y=labels,
        text=[["" if np.isnan(value) else number(value) for value in row] for row in values],
        texttemplate="%{text}",
        hovertext=[[text for _, text in row] for row in cells],
        hovertemplate=HOVER,
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )


def _cell(
    pairs: Mapping[tuple[str, str], Mapping], drift: pd.DataFrame, first: str, second: str, panel: str
) -> tuple[float, str]:
    """The value of a cell, NaN where a direction is not above noise, and the text of its hover box."""
    value, text = _cosine(pairs, drift, first, second, panel)
    if _is_above_noise(drift, first, second, panel):
        return value, text
    return np.nan, f"{text}<br><i>one of the directions is not above noise</i>"


def _is_above_noise(drift: pd.DataFrame, first: str, second: str, panel: str) -> bool:
    sides = SIDES if panel == ACROSS else (panel, panel)
    return not any(
        bool(drift[f"below_null_{side}"].get(name, True)) for name, side in zip((first, second), sides, strict=True)
    )


def _cosine(
    pairs: Mapping[tuple[str, str], Mapping], drift: pd.DataFrame, first: str, second: str, panel: str
) -> tuple[float, str]:
    """The cosine of two dimensions' directions in a panel, in words too; `pairs` holds each two dimensions once."""
    head = f"<b>{dimension_name(first)}, {dimension_name(second).lower()}</b>"
    if first == second:
        value = float(drift.cosine.get(first, np.nan)) if panel == ACROSS else 1.0
        words = "the same dimension in both models" if panel == ACROSS else "itself"
        return value, f"{head}<br>{words}: {number(value)}"
    turned = (first, second) not in pairs
    row = pairs.get((second, first) if turned else (first, second))
    if row is None:
        return np.nan, f"{head}<br>not compared"
    column = panel if panel != ACROSS else "reasoning_to_instruct" if turned else "instruct_to_reasoning"
    ends = interval(row["change_low"], row["change_high"], signed=True) or "unknown"
    within = f"instruct {number(row['instruct'])}, reasoning {number(row['reasoning'])}"
    change = f"change {number(row['change'], signed=True)} ({ends})"
    return float(row[column]), f"{head}<br>cosine {number(row[column])}<br>{within}<br>{change}"
