"""The figures of the directions: how far they turned and how surely, against neutral twins, against each other, along
the thinking.

As in `figures`, a public function takes tables of a run and returns a plotly figure, or raises `MechdriftError` with
the reason why there is nothing to draw. A direction that noise would look like (`below_null`) is grey in all of them.
"""

import html
from collections.abc import Mapping, Sequence
from statistics import mode
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.directions.best_layer import best_layers
from mechdrift.records import SIDES, MechdriftError, order_dimensions
from mechdrift.report.drawing import bands, cell, grid, small_multiples, with_menu
from mechdrift.report.theme import ANGLES, DIVERGING, FAINT, GREY, INK, PAPER, QUIET, REASONING, RULE, SIDE_COLOURS
from mechdrift.report.words import SIDE_NAMES, dimension_name, interval, number, order_roles, readout_role, role_name

MOST_LAYERS = 15  # in a menu: of deeper models only every second or third
TWO_LINES = 84  # pixels above the plots where the legend may need two lines
VAGUE = 90  # degrees: an interval wider than this says nothing
OLD = (
    "This run has no {0}: it was made by an earlier version, or there was nothing to compare. Run the audit again for "
    "them."
)
POSITION_NAMES = {
    "think[q1]": "1st quarter",
    "think[q2]": "2nd",
    "think[q3]": "3rd",
    "think[q4]": "4th",
    "think[-1]": "last thought",
    "think_close[-1]": "block closed",
    "answer[0]": "1st word",
    "answer": "answer",
}


def drift_map(drift: pd.DataFrame) -> go.Figure:
    """The angle between the two models' directions, layer by role, one map per dimension; grey where there is none or
    it is not known."""
    _need(drift, "angle", "angles")
    known = ~drift.below_null.astype(bool) & (drift.angle_high - drift.angle_low <= VAGUE)
    drift = drift.assign(known=known, shown=drift.angle.where(known))
    dimensions, roles = order_dimensions(drift.dimension), order_roles(drift.role)
    figure = small_multiples([dimension_name(d) for d in dimensions], x_title="", y_title="layer", gap=0.42)
    for place, dimension in enumerate(dimensions):
        part = drift[drift.dimension == dimension]
        tables = {name: _table(part, name, roles) for name in ("shown", "known")}
        texts = {(row["layer"], row["role"]): _angle_text(row) for row in part.to_dict("records")}
        layers = list(tables["shown"].index)
        at = {"x": list(range(len(roles))), "y": layers, "xgap": 1}
        grey = np.where(tables["known"].to_numpy(dtype=float) > 0, np.nan, 1.0)
        figure.add_heatmap(
            z=grey, colorscale=[[0, GREY], [1, GREY]], showscale=False, hoverinfo="skip", **at, **cell(place)
        )
        figure.add_heatmap(
            z=tables["shown"].to_numpy(dtype=float),
            coloraxis="coloraxis",
            hovertemplate="%{hovertext}<extra></extra>",
            hovertext=[[texts.get((layer, role), "") for role in roles] for layer in layers],
            **at,
            **cell(place),
        )
        labels = [role.replace("template_tail", "tail") for role in roles]
        figure.update_xaxes(tickvals=at["x"], ticktext=labels, tickangle=-40, showgrid=False, **cell(place))
    largest = drift.shown.max()
    bar = {"title": {"text": "angle", "font": {"size": 12}}, "ticksuffix": "°", "thickness": 12, "outlinewidth": 0}
    colours = {
        "colorscale": ANGLES,
        "cmin": 0,
        "cmax": 90.0 if pd.isna(largest) else max(10.0, float(largest)),
        "colorbar": bar,
    }
    rows = -(-len(dimensions) // 3)
    figure.update_yaxes(showgrid=False, zeroline=False)
    return figure.update_layout(coloraxis=colours, height=100 + 330 * rows, margin_b=90)


def angles_and_cones(drift: pd.DataFrame, cones: pd.DataFrame) -> go.Figure:
    """The angle between the models with its interval by layer, and how far each model's own direction is known (its 90
    % cone)."""
    _need(drift, "angle", "angles")
    _need(cones, "cone_90", "cones")
    role = readout_role(drift.role)
    dimensions = order_dimensions(drift.dimension)
    figure = small_multiples([dimension_name(d) for d in dimensions], x_title="layer", y_title="degrees")
    for place, dimension in enumerate(dimensions):
        part = drift[(drift.dimension == dimension) & (drift.role == role)].sort_values("layer")
        own = cones[(cones.dimension == dimension) & (cones.role == role)].sort_values("layer")
        for trace in _angle_traces(part, own, legend=place == 0):
            figure.add_trace(trace, **cell(place))
    return figure.update_yaxes(range=[-2, 92], tickvals=[0, 30, 60, 90]).update_layout(margin_t=TWO_LINES)


def _angle_traces(part: pd.DataFrame, own: pd.DataFrame, legend: bool) -> list[go.Scatter]:
    below = _below_layers(part)
    traces = bands(part.layer, part.angle_low, part.angle_high, legend)
    for side in SIDES:
        rows = own[own.side == side]
        texts = [
            f"<b>layer {row.layer}</b><br>{SIDE_NAMES[side]}: 90% of resampled directions<br>within "
            f"{row.cone_90:.0f}° of the estimate"
            f"{'<br><i>not above noise</i>' if row.layer in below else ''}"
            for row in rows.itertuples()
        ]
        traces.append(
            go.Scatter(
                x=rows.layer,
                y=rows.cone_90.where(~rows.layer.isin(below)),
                mode="lines",
                name=f"90% cone, {SIDE_NAMES[side]}",
                line={"color": SIDE_COLOURS[side], "width": 1.4, "dash": "4px,3px"},
                legendgroup=f"cone-{side}",
                showlegend=legend,
                hovertext=texts,
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    vague = part.angle_high - part.angle_low > VAGUE
    traces.append(
        go.Scatter(
            x=part.layer,
            y=part.angle,
            mode="lines+markers",
            line={"color": INK, "width": 1.8},
            marker={"size": 5, "color": np.where(vague, FAINT, INK)},
            name="angle between the models",
            legendgroup="angle",
            showlegend=legend,
            hovertext=[_angle_text(row) for row in part.to_dict("records")],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    grey = sorted(below)
    traces.append(
        go.Scatter(
            x=grey,
            y=[0] * len(grey),
            mode="markers",
            marker={"size": 6, "color": PAPER, "line": {"color": FAINT, "width": 1.2}},
            name="not above noise",
            legendgroup="below",
            showlegend=legend,
            hoverinfo="skip",
        )
    )
    return traces


def _below_layers(part: pd.DataFrame) -> set[int]:
    return set(part.layer[part.below_null.astype(bool)])


def _angle_text(row: Mapping[str, Any]) -> str:
    head = f"<b>layer {row['layer']}</b>, {html.escape(role_name(row['role']))}"
    if row["below_null"]:
        return f"{head}<br><i>not above noise: no angle</i>"
    ends = "unknown" if pd.isna(row["angle_low"]) else f"{row['angle_low']:.0f} to {row['angle_high']:.0f}°"
    return (
        f"{head}<br>angle {row['angle']:.0f}° (95% interval {ends})<br>same direction: p = {number(row['p_no_drift'])}"
    )


def differences(drift: pd.DataFrame) -> go.Figure:
    """Difference in differences by layer: how much further triggers moved than their neutral twins, along the direction
    and in all."""
    _need(drift, "did_along", "differences in differences")
    role = readout_role(drift.role)
    dimensions = order_dimensions(drift.dimension)
    figure = small_multiples(
        [dimension_name(d) for d in dimensions], x_title="layer", y_title="triggers − neutral twins"
    )
    for place, dimension in enumerate(dimensions):
        part = drift[(drift.dimension == dimension) & (drift.role == role)].sort_values("layer")
        for trace in _difference_traces(part, legend=place == 0):
            figure.add_trace(trace, **cell(place))
    shown = drift[(drift.role == role) & ~drift.below_null.astype(bool)]
    values = shown[["did_along_low", "did_along_high", "did_moved_low", "did_moved_high"]]
    reach = float(np.nanquantile(values.abs().to_numpy(dtype=float), 0.99)) if values.notna().to_numpy().any() else 1.0
    return figure.update_yaxes(range=[-1.1 * reach, 1.1 * reach]).update_layout(margin_t=TWO_LINES)


def _difference_traces(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
    below = part.below_null.astype(bool)
    texts = [
        f"<b>layer {row['layer']}</b><br>along the direction {number(row['did_along'], signed=True)} "
        f"({interval(row['did_along_low'], row['did_along_high'], signed=True) or 'unknown'})<br>"
        f"in any direction {number(row['did_moved'], signed=True)} "
        f"({interval(row['did_moved_low'], row['did_moved_high'], signed=True)})"
        f"{'<br><i>direction not above noise</i>' if row['below_null'] else ''}"
        for row in part.to_dict("records")
    ]
    moved = go.Scatter(
        x=part.layer,
        y=part.did_moved,
        mode="lines",
        line={"color": QUIET, "width": 1.4, "dash": "4px,3px"},
        legendgroup="moved",
        name="in any direction (in spreads of the prompts)",
        showlegend=legend,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    along = go.Scatter(
        x=part.layer,
        y=part.did_along.where(~below),
        mode="lines+markers",
        line={"color": REASONING, "width": 1.8},
        marker={"size": 5},
        legendgroup="along",
        name="along the direction (in class differences)",
        showlegend=legend,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    return [
        *bands(part.layer, part.did_along_low.where(~below), part.did_along_high.where(~below), legend),
        moved,
        along,
    ]


def dimensions_matrix(dimensions: pd.DataFrame, drift: pd.DataFrame) -> go.Figure:
    """Cosines between the dimensions' directions in each model and across; a menu chooses the layer, `default_layer` is
    shown first."""
    _need(dimensions, "change", "comparison of dimensions (it takes two of them)")
    _need(drift, "below_null_instruct", "drift of directions")
    role = readout_role(dimensions.role)
    table, at_role = dimensions[dimensions.role == role], drift[drift.role == role]
    names = order_dimensions([*table["first"], *table["second"]])
    labels = [dimension_name(name) for name in names]
    titles = ["instruct model", "reasoning model", "instruct (rows) to reasoning (columns)"]
    figure = grid(1, 3, titles, height=480, shared_yaxes=True, horizontal_spacing=0.03)
    chosen = default_layer(at_role)
    every = sorted(set(table.layer))
    layers = sorted({*every[:: -(-len(every) // MOST_LAYERS)], chosen})
    for layer in layers:
        panels = _panels(table[table.layer == layer], at_role[at_role.layer == layer], names)
        for column, (values, texts) in enumerate(panels, 1):
            shown = [["" if np.isnan(value) else number(value) for value in row] for row in values]
            figure.add_heatmap(
                z=values,
                x=labels,
                y=labels,
                text=shown,
                texttemplate="%{text}",
                hovertext=texts,
                coloraxis="coloraxis",
                xgap=1,
                ygap=1,
                hovertemplate="%{hovertext}<extra></extra>",
                visible=layer == chosen,
                row=1,
                col=column,
            )
    figure.update_yaxes(autorange="reversed", showgrid=False).update_xaxes(tickangle=-40, showgrid=False)
    bar = {"title": {"text": "cosine", "font": {"size": 12}}, "thickness": 12, "outlinewidth": 0}
    figure.update_layout(coloraxis={"colorscale": DIVERGING, "cmin": -1, "cmax": 1, "colorbar": bar}, plot_bgcolor=GREY)
    shown = [layer for layer in layers for _ in titles]
    return with_menu(figure, "Layer", {layer: f"layer {layer}" for layer in layers}, shown, chosen)


def default_layer(drift: pd.DataFrame) -> int:
    """The layer that separates best (`directions.best_layer`) in most dimensions; the first of several."""
    found = best_layers(drift, readout_role(drift.role))
    return mode(found.values()) if found else int(drift.layer.min())


Panel = tuple[np.ndarray, list[list[str]]]


def _panels(rows: pd.DataFrame, drift: pd.DataFrame, names: Sequence[str]) -> list[Panel]:
    """Values and hover texts of the three panels; cells with a direction below its null are NaN."""
    kept = drift.set_index("dimension")
    cells = {(row["first"], row["second"]): row for row in rows.to_dict("records")}
    panels = []
    for side in (*SIDES, "across"):
        values, texts = np.full((len(names), len(names)), np.nan), [["" for _ in names] for _ in names]
        for i, first in enumerate(names):
            for j, second in enumerate(names):
                value, text = _pair_cell(cells, kept, first, second, side)
                if _is_above(kept, first, second, side):
                    values[i, j] = value
                else:
                    text += "<br><i>one of the directions is not above noise</i>"
                texts[i][j] = text
        panels.append((values, texts))
    return panels


def _is_above(drift: pd.DataFrame, first: str, second: str, side: str) -> bool:
    sides = SIDES if side == "across" else (side, side)
    return not any(
        bool(drift[f"below_null_{which}"].get(name, True)) for name, which in zip((first, second), sides, strict=True)
    )


def _pair_cell(
    cells: Mapping[tuple[str, str], Mapping], drift: pd.DataFrame, first: str, second: str, side: str
) -> tuple[float, str]:
    """One cell's cosine, and what its hover box says."""
    head = f"<b>{dimension_name(first)}, {dimension_name(second).lower()}</b>"
    if first == second:
        value = float(drift.cosine.get(first, np.nan)) if side == "across" else 1.0
        return (
            value,
            f"{head}<br>{'the same dimension in both models' if side == 'across' else 'itself'}: {number(value)}",
        )
    turned = (first, second) not in cells
    row = cells.get((second, first) if turned else (first, second))
    if row is None:
        return np.nan, f"{head}<br>not compared"
    name = side if side != "across" else "reasoning_to_instruct" if turned else "instruct_to_reasoning"
    change = (
        f"change {number(row['change'], signed=True)} "
        f"({interval(row['change_low'], row['change_high'], signed=True) or 'unknown'})"
    )
    within = f"instruct {number(row['instruct'])}, reasoning {number(row['reasoning'])}"
    return float(row[name]), f"{head}<br>cosine {number(row[name])}<br>{within}<br>{change}"


def along_thinking(thinking: pd.DataFrame) -> go.Figure:
    """Both models' projections along the reasoning model's thinking, triggers (solid) and neutral twins (dotted), per
    dimension."""
    _need(thinking, "projection", "projections along the thinking")
    dimensions = order_dimensions(thinking.dimension)
    figure = small_multiples(
        [_thinking_title(thinking[thinking.dimension == d]) for d in dimensions],
        x_title="",
        y_title="projection (neutral 0, trigger 1)",
        gap=0.36,
    )
    figure.update_yaxes(matches=None, showticklabels=True)
    for place, dimension in enumerate(dimensions):
        part = thinking[(thinking.dimension == dimension) & thinking.position.isin(POSITION_NAMES)]
        for side in SIDES:
            for contrast in ("trigger", "neutral"):
                rows = (
                    part[(part.side == side) & (part.contrast == contrast)]
                    .set_index("position")
                    .reindex(list(POSITION_NAMES))
                )
                figure.add_trace(_curve(rows.reset_index(), side, contrast, legend=place == 0), **cell(place))
    figure.update_xaxes(
        tickvals=list(range(len(POSITION_NAMES))), ticktext=list(POSITION_NAMES.values()), tickangle=-40, showgrid=False
    )
    rows = -(-len(dimensions) // 3)
    figure.add_vline(x=4.5, line={"color": RULE, "width": 1.5}, row="all", col="all")
    return figure.update_layout(height=150 + 290 * rows, margin_b=80, margin_t=TWO_LINES)


def _thinking_title(part: pd.DataFrame) -> str:
    row = part.iloc[0]
    noise = ", not above noise" if bool(row.below_null) else ""
    return f"{dimension_name(row.dimension)} · layer {row.layer}{noise}"


def _curve(rows: pd.DataFrame, side: str, contrast: str, legend: bool) -> go.Scatter:
    colour = FAINT if bool(rows.below_null.iloc[0]) else SIDE_COLOURS[side]
    shift = {"instruct": -0.06, "reasoning": 0.06}[side]
    bars = {"symmetric": False, "array": rows.high - rows.projection, "arrayminus": rows.projection - rows.low}
    texts = [
        f"<b>{POSITION_NAMES[row['position']]}</b>, {contrast} prompts<br>{SIDE_NAMES[side]}: "
        f"{number(row['projection'])} "
        f"({interval(row['low'], row['high']) or 'unknown'})<br>{row['n']} prompts, {row['families']} families"
        for row in rows.to_dict("records")
    ]
    return go.Scatter(
        x=np.arange(len(rows)) + shift,
        y=rows.projection,
        mode="lines+markers",
        marker={"size": 5, "color": colour},
        line={"color": colour, "width": 1.8, "dash": "solid" if contrast == "trigger" else "dot"},
        error_y=bars | {"thickness": 1, "width": 0, "color": colour},
        name=f"{SIDE_NAMES[side]}, {contrast}",
        legendgroup=f"{side}-{contrast}",
        showlegend=legend,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _table(part: pd.DataFrame, values: str, roles: Sequence[str]) -> pd.DataFrame:
    numbers = part.assign(**{values: part[values].astype(float)})
    return numbers.pivot_table(index="layer", columns="role", values=values, dropna=False).reindex(columns=list(roles))


def _need(table: pd.DataFrame, column: str, what: str) -> None:
    if table.empty:
        raise MechdriftError(f"This run has no {what}.")
    if column not in table or table[column].isna().all():
        raise MechdriftError(OLD.format(what))
