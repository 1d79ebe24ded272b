"""Directions and patches of several children by layer: a small plot per dimension, a line per run."""

import html
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.comparisons.figures import marks
from mechdrift.records import order_dimensions
from mechdrift.report.drawing import HOVER, cell, need, small_multiples
from mechdrift.report.theme import PAPER
from mechdrift.report.words import dimension_name, interval, number, readout_role, role_name


def drift_overlaid(drift: pd.DataFrame) -> go.Figure:
    """Cosine of parent's and child's direction by layer, at the last token before the answer."""
    need(drift, "None of these runs compared directions.")
    role = readout_role(drift.role)
    rows = drift[(drift.role == role) & drift.cosine.notna()]
    figure = _overlaid(rows, drift.run, "cosine", _drift_text, y_title="cosine", ceiling="ceiling")
    lowest = float(rows.cosine.min())  # noise ceilings of early layers may lie further below
    return figure.update_yaxes(range=[lowest - 0.25 * (1.05 - lowest), 1.03])


def _drift_text(row: Mapping[str, Any]) -> str:
    below = "<br><i>not above noise</i>" if row["below_null"] else ""
    angle = row.get("angle", np.nan)
    turned = "" if pd.isna(angle) else f"<br>turned by {angle:.0f}° ({row['angle_low']:.0f} to {row['angle_high']:.0f})"
    ends = interval(row["cosine_low"], row["cosine_high"]) or "unknown"
    return (
        f"layer {row['layer']}: cosine {number(row['cosine'])} ({ends})<br>noise ceiling "
        f"{number(row['ceiling'])}{turned}{below}"
    )


def patch_overlaid(patch: pd.DataFrame) -> go.Figure:
    """How much of the gap one activation of the parent brings back in the child, by layer, at the last token before the
    answer."""
    need(patch, "None of these runs did any patching.")
    rows = patch[
        (patch.donor == "instruct") & (patch.role == readout_role(patch.role)) & (patch.site == patch.site.iloc[0])
    ]
    rows = rows[rows.recovery.notna()]
    need(rows, "In none of these runs do the readouts of parent and child differ beyond noise.")
    rows = rows.assign(below_null=~rows.reliable.astype(bool))
    figure = _overlaid(rows, patch.run, "recovery", _patch_text, y_title="share of the gap")
    reach = rows.recovery.clip(-0.6, 1.6)
    return figure.update_yaxes(range=[min(-0.1, reach.min() - 0.05), max(1.1, reach.max() + 0.05)], tickformat=".0%")


def _patch_text(row: Mapping[str, Any]) -> str:
    warning = "" if row["reliable"] else "<br><i>readout unreliable</i>"
    effect, gap = (number(row[name], signed=True) for name in ("effect", "gap"))
    moved = f"effect {effect} ({interval(row['low'], row['high'], signed=True)}) of {gap}"
    return f"layer {row['layer']}: {number(row['recovery'], share=True)} of the gap<br>{moved}{warning}"


def _overlaid(
    rows: pd.DataFrame,
    runs: pd.Series,
    value: str,
    text_of: Callable[[Mapping[str, Any]], str],
    *,
    y_title: str,
    ceiling: str = "",
) -> go.Figure:
    """Small multiples by dimension with a line per run; marks are hollow where `below_null`, the column `ceiling` is
    dashed."""
    dimensions, looks = order_dimensions(rows.dimension), marks(runs)
    figure = small_multiples([dimension_name(name) for name in dimensions], y_title=y_title, x_title="layer")
    named: set[str] = set()  # a run may be missing in the first plot
    for place, dimension in enumerate(dimensions):
        for name, look in looks.items():
            part = rows[(rows.dimension == dimension) & (rows.run == name)].sort_values("layer")
            if part.empty:
                continue
            if ceiling:
                _draw_ceiling(figure, part.layer, part[ceiling], name, look, place)
            texts = [f"<b>{html.escape(name)}</b>, {text_of(row)}" for row in part.to_dict("records")]
            figure.add_trace(_line(part, value, name, look, texts).update(showlegend=name not in named), **cell(place))
            named.add(name)
    return figure


def _line(part: pd.DataFrame, value: str, name: str, look: dict[str, Any], texts: list[str]) -> go.Scatter:
    """One run's line in a small plot, in the run's colour and mark."""
    hollow = part.below_null.astype(bool)
    fill = np.where(hollow, PAPER, look["color"])
    return go.Scatter(
        x=part.layer,
        y=part[value],
        mode="lines+markers",
        line={"color": look["color"], "width": 1.8},
        marker=look | {"size": 6, "color": fill, "line": {"color": look["color"], "width": 1.2}},
        name=html.escape(name),
        legendgroup=name,
        hovertext=texts,
        hovertemplate=HOVER,
    )


def _draw_ceiling(
    figure: go.Figure, layers: pd.Series, ceiling: pd.Series, run: str, look: Mapping[str, Any], place: int
) -> None:
    """The noise ceiling of a run, dashed, in one of the small plots."""
    figure.add_scatter(
        x=layers,
        y=ceiling,
        mode="lines",
        line={"color": look["color"], "width": 1, "dash": "2px,3px"},
        opacity=0.6,
        showlegend=False,
        legendgroup=run,
        hoverinfo="skip",
        **cell(place),
    )


def position_name(tables: Mapping[str, pd.DataFrame]) -> str:
    """The position that the two overlaid figures read, in words."""
    roles = [role for table in tables.values() if "role" in table for role in table.role.unique()]
    return role_name(readout_role(roles)) if roles else "the last position before the answer"
