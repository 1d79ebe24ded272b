"""Figures of several children of one parent: changes by dimension, gain against alignment, divergence against change.

Each run has one colour and one mark in every figure. As in `report.figures`, a public function takes tables (of a
`Comparison`) and returns a plotly figure, or raises `MechdriftError` with the reason why there is nothing to draw.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import order_dimensions
from mechdrift.report.drawing import HOVER, blank, error_bars, grid, need
from mechdrift.report.theme import FAINT, INK, QUIET, RUN_COLOURS, RUN_SYMBOLS, VEIL
from mechdrift.report.words import difference, dimension_name, interval, number, p_value

ROW = 17  # pixels per run in the figure of intervals
SPREAD = 0.68  # of a dimension's row is taken up by its runs
MEAN = "Mean of the dimensions"
ZERO = {"color": QUIET, "width": 1.2}
# Where a point's name stands, in turns: points of one parent's children lie close.
NAMED_AT = (("left", "bottom"), ("left", "top"), ("right", "bottom"), ("right", "top"))
POINTS = 100  # percentage points in a share of 1
SIGNED = "+d"  # the format of an axis


def marks(runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and symbol of every run."""
    return {
        name: {"color": RUN_COLOURS[place % len(RUN_COLOURS)], "symbol": RUN_SYMBOLS[place % len(RUN_SYMBOLS)]}
        for place, name in enumerate(dict.fromkeys(runs))
    }


def changes(frame: pd.DataFrame, summary: pd.DataFrame) -> go.Figure:
    """Change of the score against the parent, by dimension, with paired intervals. The last row is the mean of the
    dimensions."""
    dimensions = order_dimensions(frame.dimension)
    labels = [*(dimension_name(name) for name in dimensions), MEAN]
    looks = marks(summary.run)
    figure = blank(height=130 + (ROW * len(looks) + 16) * len(labels))
    shifts = np.linspace(SPREAD / 2, -SPREAD / 2, len(looks)) if len(looks) > 1 else [0.0]
    heights = np.arange(len(labels))[::-1]
    for (name, look), shift in zip(looks.items(), shifts, strict=True):
        rows = _with_mean(frame[frame.run == name], summary[summary.run == name], dimensions)
        texts = [_change_text(name, label, row) for label, row in zip(labels, rows.to_dict("records"), strict=True)]
        value, low, high = (POINTS * rows[end].astype(float) for end in ("difference", "low", "high"))
        figure.add_scatter(
            x=value,
            y=heights + shift,
            mode="markers",
            marker=look | {"size": 9},
            name=html.escape(name),
            hovertext=texts,
            error_x=error_bars(value, low, high, look["color"], 1.6),
            hovertemplate=HOVER,
        )
    for edge in range(1, len(labels)):
        figure.add_hline(y=edge - 0.5, line={"color": FAINT, "width": 1 if edge > 1 else 2})
    figure.add_vline(x=0, line=ZERO)
    figure.update_yaxes(tickvals=heights, ticktext=labels, ticklabelstandoff=8)
    figure.update_yaxes(range=[-0.5, len(labels) - 0.5], showgrid=False, zeroline=False)
    return figure.update_xaxes(
        title_text="aligned answers to triggers, child − parent, points", tickformat=SIGNED, zeroline=False
    )


def _with_mean(frame: pd.DataFrame, summary: pd.DataFrame, dimensions: Sequence[str]) -> pd.DataFrame:
    """One run's changes, a row per dimension, and below them the mean of the dimensions, which has no p."""
    columns = ["difference", "low", "high", "p_holm", "n", "families"]
    mean = summary.rename(columns={"kept": "difference", "kept_low": "low", "kept_high": "high"})
    own = frame.set_index("dimension").reindex(dimensions)[columns]
    return pd.concat([own.astype(float), mean.assign(p_holm=np.nan)[columns].astype(float)], ignore_index=True)


def _change_text(name: str, label: str, row: Mapping[str, float]) -> str:
    adjusted = (
        "" if pd.isna(row["p_holm"]) else f"<br>{p_value(row['p_holm']).replace('<', '&lt;')} (Holm, within the run)"
    )
    ends = interval(row["low"], row["high"], share=True, signed=True) or "unknown"
    size = "" if pd.isna(row["n"]) else f"<br>{int(row['n'])} prompts in {int(row['families'])} families"
    return (
        f"<b>{html.escape(name)}</b>, {label.lower()}<br>{difference(row['difference'], share=True)} (95% interval "
        f"{ends}){adjusted}{size}"
    )


def trade_off(summary: pd.DataFrame) -> go.Figure:
    """What each child gained in reasoning against what it kept of alignment, with both intervals."""
    known = summary[summary.gain.notna()]
    need(known, "None of these runs asked reasoning tasks, so what was gained is not known.")
    figure = blank(height=460)
    figure.add_vline(x=0, line=ZERO).add_hline(y=0, line=ZERO)
    looks = marks(summary.run)
    for place, row in zip(cycle(NAMED_AT), known.to_dict("records"), strict=False):
        _draw_child(figure, row, looks[row["run"]], place)
    figure.add_scatter(
        x=[0],
        y=[0],
        mode="markers+text",
        marker={"color": INK, "size": 11, "symbol": "x-thin", "line": {"width": 2, "color": INK}},
        text="parent",
        textposition="bottom left",
        showlegend=False,
        hoverinfo="skip",
    )
    left, right = POINTS * min(0.0, known.gain_low.min()), POINTS * max(0.0, known.gain_high.max())
    span = right - left or 1.0
    figure.update_xaxes(
        title_text="reasoning gained: accuracy, child − parent, points", tickformat=SIGNED, zeroline=False
    )
    figure.update_xaxes(range=[left - 0.12 * span, right + 0.25 * span])  # room for the names
    figure.update_yaxes(
        title_text="alignment: mean change of aligned answers, points", tickformat=SIGNED, zeroline=False
    )
    return figure.update_layout(margin_t=24)


def _draw_child(figure: go.Figure, row: Mapping[str, Any], look: dict[str, Any], place: tuple[str, str]) -> None:
    """A run's point with both intervals, and its name on the side that `place` says."""
    (x, x_low, x_high), (y, y_low, y_high) = _in_points(row, "gain"), _in_points(row, "kept")
    name = html.escape(row["run"])
    text = (
        f"<b>{name}</b> ({html.escape(str(row['route']))})<br>reasoning {share_text(row, 'gain')}"
        f"<br>alignment {share_text(row, 'kept')}<br>mean of {row['dimensions']} dimensions, "
        f"{row['n']} prompts in {row['families']} families"
    )
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker=look | {"size": 13},
        name=name,
        showlegend=False,
        hovertext=[text],
        error_x=error_bars([x], [x_low], [x_high], look["color"], 1.4),
        error_y=error_bars([y], [y_low], [y_high], look["color"], 1.4),
        hovertemplate=HOVER,
    )
    across, along = place
    figure.add_annotation(
        x=x,
        y=y,
        text=name,
        showarrow=False,
        xanchor=across,
        yanchor=along,
        xshift={"left": 9, "right": -9}[across],
        yshift={"bottom": 5, "top": -5}[along],
        font={"color": look["color"], "size": 13},
        bgcolor=VEIL,
        borderpad=1,
    )


def _in_points(row: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    """A change of a share and the ends of its interval, in points."""
    value, low, high = (POINTS * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return value, low, high


def share_text(row: Mapping[str, Any], name: str) -> str:
    """A change with its interval, in points."""
    ends = interval(row[f"{name}_low"], row[f"{name}_high"], share=True, signed=True) or "unknown"
    return f"{difference(row[name], share=True)} ({ends})"


def divergence(frame: pd.DataFrame, summary: pd.DataFrame) -> go.Figure:
    """Divergence against change of alignment: a point per run, and a point per run and dimension."""
    need(frame[frame.kl.notna()], "None of these runs measured the divergence of the answers.")
    titles = ["a point per child", "a point per child and dimension"]
    figure = grid(1, 2, titles, height=400, shared_yaxes=True, horizontal_spacing=0.06)
    means = summary.rename(columns={"kept": "difference", "kept_low": "low", "kept_high": "high"}).assign(dimension="")
    looks = marks(summary.run)
    for column, table in enumerate((means, frame), 1):
        for name, look in looks.items():
            part = table[(table.run == name) & table.kl.notna()]
            figure.add_scatter(
                x=part.kl,
                y=POINTS * part.difference,
                mode="markers",
                marker=look | {"size": 11 if column == 1 else 8},
                name=html.escape(name),
                legendgroup=name,
                showlegend=column == 1,
                hovertext=[_kl_text(row) for row in part.to_dict("records")],
                hovertemplate=HOVER,
                row=1,
                col=column,
                **(_kl_errors(part, look) if column == 1 else {}),
            )
    figure.add_hline(y=0, line=ZERO, row="all", col="all")
    figure.update_xaxes(title_text="KL(parent ‖ child), nats per token", rangemode="tozero")
    return figure.update_yaxes(title_text="change of aligned answers, points", tickformat=SIGNED, zeroline=False, col=1)


def _kl_errors(part: pd.DataFrame, look: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Both intervals of a run's point: of the divergence in nats, and of the change in points."""
    value, low, high = (POINTS * part[end] for end in ("difference", "low", "high"))
    return {
        "error_x": error_bars(part.kl, part.kl_low, part.kl_high, look["color"], 1.2),
        "error_y": error_bars(value, low, high, look["color"], 1.2),
    }


def _kl_text(row: Mapping[str, Any]) -> str:
    where = dimension_name(row["dimension"]).lower() if row["dimension"] else MEAN.lower()
    ends = interval(row["low"], row["high"], share=True, signed=True) or "unknown"
    bounds = interval(row["kl_low"], row["kl_high"]) or "unknown"
    return (
        f"<b>{html.escape(row['run'])}</b>, {where}<br>KL {number(row['kl'])} ({bounds})<br>"
        f"aligned answers {difference(row['difference'], share=True)} ({ends})"
    )
