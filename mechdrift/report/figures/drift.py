"""How far the directions turned: their cosine and angle by layer, and how much further triggers moved than neutral
twins.

A direction that noise would look like (`below_null`) is hollow or grey in all of these figures.
"""

import html
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import SIDES, order_dimensions
from mechdrift.report.drawing import (
    DASHED,
    HOLLOW,
    HOVER,
    band,
    bands,
    by_dimension,
    colour_bar,
    need,
    need_column,
    rows_of,
    with_menu,
)
from mechdrift.report.theme import ANGLES, FAINT, GREY, INK, PAPER, REASONING, SIDE_COLOURS
from mechdrift.report.words import SIDE_NAMES, interval, number, order_roles, readout_role, role_name

TWO_LINES = 84  # pixels above the plots where the legend may need two lines
VAGUE = 90  # degrees: an interval wider than this says nothing


# Cosines.


def direction_drift(drift: pd.DataFrame) -> go.Figure:
    """Cosine between the two models' directions by layer, one small plot per dimension; a menu chooses the role."""
    need(drift, "The drift table is empty.")
    roles = order_roles(drift.role)
    chosen = readout_role(roles)
    shown: list[str] = []

    def traces_of(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
        traces = []
        for role, rows in part.groupby("role", sort=False):
            drawn = _cosine_traces(rows.sort_values("layer"), legend)
            traces += [trace.update(visible=role == chosen) for trace in drawn]
            shown.extend([str(role)] * len(drawn))
        return traces

    figure = by_dimension(drift, traces_of, y_title="cosine", x_title="layer")
    figure.update_yaxes(range=[min(0.0, float(drift.cosine_low.min())) - 0.05, 1.05])
    labels = {role: f"read at {role}" for role in roles}
    return with_menu(figure, "Token at which the models are read", labels, shown, chosen)


def _cosine_traces(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
    """Interval band, noise ceiling, and the cosine, whose points are hollow where the direction is not above noise."""
    hollow = part.below_null.astype(bool)
    outline = {"color": np.where(hollow, FAINT, REASONING), "width": 1.2}
    ceiling = go.Scatter(
        x=part.layer,
        y=part.ceiling,
        mode="lines",
        line=DASHED,
        name="noise ceiling",
        legendgroup="ceiling",
        showlegend=legend,
        hoverinfo="skip",
    )
    cosine = go.Scatter(
        x=part.layer,
        y=part.cosine,
        mode="lines+markers",
        line={"color": FAINT, "width": 1.5},
        marker={"size": 6, "color": np.where(hollow, PAPER, REASONING), "line": outline},
        name="cosine (hollow: not above noise)",
        legendgroup="cosine",
        showlegend=legend,
        hovertext=[_cosine_text(row) for row in part.to_dict("records")],
        hovertemplate=HOVER,
    )
    return [band(part.layer, part.cosine_low, part.cosine_high, legend), ceiling, cosine]


def _cosine_text(row: Mapping[str, Any]) -> str:
    lines = [
        f"<b>layer {row['layer']}</b>, {html.escape(role_name(row['role']))}",
        f"cosine {number(row['cosine'])} ({number(row['cosine_low'])} to {number(row['cosine_high'])})",
        f"noise ceiling {number(row['ceiling'])}, cosine over ceiling {number(row['cosine_over_ceiling'])}",
        f"angle {row['angle_degrees']:.0f}°{_without_noise(row)}, length ratio {number(row['norm_ratio'])}",
        "AUROC (can the direction tell trigger from neutral?)",
        f"in its own model: instruct {number(row['auroc_instruct'])}, reasoning {number(row['auroc_reasoning'])}",
        f"in the other model: to reasoning {number(row['auroc_transfer_to_reasoning'])}, to instruct "
        f"{number(row['auroc_transfer_to_instruct'])}",
    ]
    return "<br>".join([*lines, "<i>not above noise</i>"] if row["below_null"] else lines)


def _without_noise(row: Mapping[str, Any]) -> str:
    """The angle with its interval; runs of earlier versions have none."""
    if pd.isna(row.get("angle_low", math.nan)):
        return ""
    return f" (without noise {row['angle']:.0f}°, {row['angle_low']:.0f} to {row['angle_high']:.0f}°)"


# Angles.


def drift_map(drift: pd.DataFrame) -> go.Figure:
    """The angle between the two models' directions, layer by role, one map per dimension; grey where there is none or
    it is not known."""
    need_column(drift, "angle", "angles")
    known = ~drift.below_null.astype(bool) & (drift.angle_high - drift.angle_low <= VAGUE)
    drift = drift.assign(known=known.astype(float), shown=drift.angle.where(known))
    roles = order_roles(drift.role)
    figure = by_dimension(drift, lambda part, _: _angle_maps(part, roles), x_title="", y_title="layer", gap=0.42)
    labels = [role.replace("template_tail", "tail") for role in roles]
    figure.update_xaxes(tickvals=list(range(len(roles))), ticktext=labels, tickangle=-40, showgrid=False)
    figure.update_yaxes(showgrid=False, zeroline=False)
    largest = drift.shown.max()
    most = 90.0 if pd.isna(largest) else max(10.0, float(largest))
    colours = {"colorscale": ANGLES, "cmin": 0, "cmax": most, "colorbar": colour_bar("angle", ticksuffix="°")}
    height = 100 + 330 * rows_of(order_dimensions(drift.dimension))
    return figure.update_layout(coloraxis=colours, height=height, margin_b=90)


def _angle_maps(part: pd.DataFrame, roles: list[str]) -> list[go.Heatmap]:
    """Grey cells where no angle is known, and below them the map of the angles."""
    angles, known = (
        part.pivot_table(index="layer", columns="role", values=values, dropna=False).reindex(columns=roles)
        for values in ("shown", "known")
    )
    texts = {(row["layer"], row["role"]): _angle_text(row) for row in part.to_dict("records")}
    at = {"x": list(range(len(roles))), "y": list(angles.index), "xgap": 1}
    grey = np.where(known.to_numpy(dtype=float) > 0, np.nan, 1.0)
    return [
        go.Heatmap(z=grey, colorscale=[[0, GREY], [1, GREY]], showscale=False, hoverinfo="skip", **at),
        go.Heatmap(
            z=angles.to_numpy(dtype=float),
            coloraxis="coloraxis",
            hovertext=[[texts.get((layer, role), "") for role in roles] for layer in angles.index],
            hovertemplate=HOVER,
            **at,
        ),
    ]


def _angle_text(row: Mapping[str, Any]) -> str:
    head = f"<b>layer {row['layer']}</b>, {html.escape(role_name(row['role']))}"
    if row["below_null"]:
        return f"{head}<br><i>not above noise: no angle</i>"
    ends = "unknown" if pd.isna(row["angle_low"]) else f"{row['angle_low']:.0f} to {row['angle_high']:.0f}°"
    return (
        f"{head}<br>angle {row['angle']:.0f}° (95% interval {ends})<br>same direction: p = {number(row['p_no_drift'])}"
    )


def angles_and_cones(drift: pd.DataFrame, cones: pd.DataFrame) -> go.Figure:
    """The angle between the models by layer, with its interval, and how well each model's own direction is known (its
    90 % cone)."""
    need_column(drift, "angle", "angles")
    need_column(cones, "cone_90", "cones")
    role = readout_role(drift.role)
    cones = cones[cones.role == role].sort_values("layer")

    def traces_of(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
        return _angle_traces(part.sort_values("layer"), cones[cones.dimension == part.dimension.iloc[0]], legend)

    figure = by_dimension(drift[drift.role == role], traces_of, x_title="layer", y_title="degrees")
    return figure.update_yaxes(range=[-2, 92], tickvals=[0, 30, 60, 90]).update_layout(margin_t=TWO_LINES)


def _angle_traces(part: pd.DataFrame, cones: pd.DataFrame, legend: bool) -> list[go.Scatter]:
    """Interval band, both models' cones, the angle, and hollow points where there is none."""
    vague = part.angle_high - part.angle_low > VAGUE
    angle = go.Scatter(
        x=part.layer,
        y=part.angle,
        mode="lines+markers",
        line={"color": INK, "width": 1.8},
        marker={"size": 5, "color": np.where(vague, FAINT, INK)},
        name="angle between the models",
        legendgroup="angle",
        showlegend=legend,
        hovertext=[_angle_text(row) for row in part.to_dict("records")],
        hovertemplate=HOVER,
    )
    noise = sorted(set(part.layer[part.below_null.astype(bool)]))
    below = go.Scatter(
        x=noise,
        y=[0] * len(noise),
        mode="markers",
        marker=HOLLOW,
        name="not above noise",
        legendgroup="below",
        showlegend=legend,
        hoverinfo="skip",
    )
    of_sides = [_cone(cones[cones.side == side], side, noise, legend) for side in SIDES]
    return [*bands(part.layer, part.angle_low, part.angle_high, legend), *of_sides, angle, below]


def _cone(rows: pd.DataFrame, side: str, noise: list[int], legend: bool) -> go.Scatter:
    """The half-angle of the cone that holds 90 % of one model's resampled directions, by layer."""
    texts = [
        f"<b>layer {row.layer}</b><br>{SIDE_NAMES[side]}: 90% of resampled directions<br>within "
        f"{row.cone_90:.0f}° of the estimate{'<br><i>not above noise</i>' if row.layer in noise else ''}"
        for row in rows.itertuples()
    ]
    return go.Scatter(
        x=rows.layer,
        y=rows.cone_90.where(~rows.layer.isin(noise)),
        mode="lines",
        name=f"90% cone, {SIDE_NAMES[side]}",
        line=DASHED | {"color": SIDE_COLOURS[side]},
        legendgroup=f"cone-{side}",
        showlegend=legend,
        hovertext=texts,
        hovertemplate=HOVER,
    )


# Movement against neutral twins.


def differences(drift: pd.DataFrame) -> go.Figure:
    """How much further triggers moved than their neutral twins by layer: along the direction, and in any direction (a
    difference in differences)."""
    need_column(drift, "did_along", "differences in differences")
    rows = drift[drift.role == readout_role(drift.role)]
    figure = by_dimension(
        rows,
        lambda part, legend: _difference_traces(part.sort_values("layer"), legend),
        x_title="layer",
        y_title="triggers − neutral twins",
    )
    shown = rows[~rows.below_null.astype(bool)]
    values = shown[["did_along_low", "did_along_high", "did_moved_low", "did_moved_high"]]
    reach = float(np.nanquantile(values.abs().to_numpy(dtype=float), 0.99)) if values.notna().to_numpy().any() else 1.0
    return figure.update_yaxes(range=[-1.1 * reach, 1.1 * reach]).update_layout(margin_t=TWO_LINES)


def _difference_traces(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
    below = part.below_null.astype(bool)
    texts = [_difference_text(row) for row in part.to_dict("records")]
    moved = go.Scatter(
        x=part.layer,
        y=part.did_moved,
        mode="lines",
        line=DASHED,
        legendgroup="moved",
        name="in any direction (in spreads of the prompts)",
        showlegend=legend,
        hovertext=texts,
        hovertemplate=HOVER,
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
        hovertemplate=HOVER,
    )
    stretches = bands(part.layer, part.did_along_low.where(~below), part.did_along_high.where(~below), legend)
    return [*stretches, moved, along]


def _difference_text(row: Mapping[str, Any]) -> str:
    along, moved = (
        f"{number(row[name], signed=True)} ("
        f"{interval(row[f'{name}_low'], row[f'{name}_high'], signed=True) or 'unknown'})"
        for name in ("did_along", "did_moved")
    )
    noise = "<br><i>direction not above noise</i>" if row["below_null"] else ""
    return f"<b>layer {row['layer']}</b><br>along the direction {along}<br>in any direction {moved}{noise}"
