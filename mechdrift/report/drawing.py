"""The parts that several figures share: subplots with quiet titles, dumbbells, interval bands."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdrift.records import SIDES, Side
from mechdrift.report.theme import BAND, FAINT, INK, PAPER, SIDE_COLOURS, TEMPLATE
from mechdrift.report.words import SIDE_NAMES, is_share, metric_name, number

COLUMNS = 3
OFFSET = 0.13
SIDE_COLUMNS = [f"{side}{end}" for side in SIDES for end in ("", "_low", "_high")]


def blank(height: int) -> go.Figure:
    return go.Figure(layout={"template": TEMPLATE, "height": height})


def grid(rows: int, columns: int, titles: Sequence[str], height: int, **options: Any) -> go.Figure:
    """Subplots with quiet titles, flush left."""
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=titles, **options)
    figure.update_layout(template=TEMPLATE, height=height, margin_t=64)
    for note, axis in zip(figure.layout.annotations, figure.select_xaxes(), strict=False):
        note.update(x=axis.domain[0], xanchor="left", align="left", font={"size": 13, "color": INK})
    return figure


def small_multiples(titles: Sequence[str], x_title: str, y_title: str, gap: float = 0.28) -> go.Figure:
    """One small plot per title, three in a row, with one scale for all; `cell` says where each one is. Slanted labels
    need a wider gap."""
    columns = min(COLUMNS, len(titles))
    rows = math.ceil(len(titles) / columns)
    spacing = {"horizontal_spacing": 0.05, "vertical_spacing": gap / rows}
    figure = grid(rows, columns, titles, height=100 + 215 * rows, shared_yaxes="all", **spacing)
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text=x_title, row=rows, col=column)
    return figure.update_yaxes(title_text=y_title, col=1)


def cell(place: int) -> dict[str, int]:
    """Row and column of the small multiple number `place`."""
    return {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}


def with_menu(figure: go.Figure, title: str, labels: Mapping[Any, str], shown: Sequence[Any], chosen: Any) -> go.Figure:
    """A drop-down menu `title` of the keys of `labels`; a choice shows the traces for which `shown` holds its key.

    A plotly menu cannot be reached by keyboard, so the page puts a list of its own in the menu's place.
    """
    buttons = [
        {"label": label, "method": "restyle", "args": ["visible", [key == each for each in shown]]}
        for key, label in labels.items()
    ]
    menu = {
        "name": title,
        "buttons": buttons,
        "active": list(labels).index(chosen),
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 30},
        "bgcolor": PAPER,
        "bordercolor": FAINT,
        "font": {"size": 12},
        "showactive": False,
    }
    return figure.update_layout(updatemenus=[menu], margin_t=98)


def dumbbells(figure: go.Figure, rows: pd.DataFrame, legend: bool = True, **place: Any) -> None:
    """One line per row of `rows` (`label`, `metric`, then value and interval per side), the first row on top."""
    heights = np.arange(len(rows))[::-1].astype(float)
    x = [end for a, b in zip(rows.instruct, rows.reasoning, strict=True) for end in (a, b, None)]
    y = [end for h in heights for end in (h + OFFSET, h - OFFSET, None)]
    line = {"color": FAINT, "width": 2}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, **place)
    for side, shift in zip(SIDES, (OFFSET, -OFFSET), strict=True):
        figure.add_trace(_dots(rows, side, heights + shift, legend), **place)
    figure.update_yaxes(tickvals=heights, ticktext=list(rows.label), ticklabelstandoff=8, **place)
    figure.update_yaxes(range=[-0.6, len(rows) - 0.4], showgrid=False, zeroline=False, **place)


def _dots(rows: pd.DataFrame, side: Side, heights: np.ndarray, legend: bool) -> go.Scatter:
    values, low, high = (rows[f"{side}{end}"].astype(float) for end in ("", "_low", "_high"))
    colour = SIDE_COLOURS[side]
    bars = {"symmetric": False, "array": high - values, "arrayminus": values - low}
    return go.Scatter(
        x=values,
        y=heights,
        mode="markers",
        marker={"size": 10, "color": colour},
        name=SIDE_NAMES[side],
        error_x=bars | {"thickness": 1.5, "width": 0, "color": colour},
        legendgroup=side,
        showlegend=legend,
        hovertext=[_dot_text(row, side) for row in rows.to_dict("records")],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _dot_text(row: Mapping[str, Any], side: Side) -> str:
    share = is_share(row["metric"])
    value, low, high = (number(row[f"{side}{end}"], share=share) for end in ("", "_low", "_high"))
    n = "" if pd.isna(row.get("n")) else f", n = {int(row['n'])}"
    head = f"<b>{html.escape(row['label'])}</b>, {html.escape(metric_name(row['metric']))}"
    return f"{head}<br>{SIDE_NAMES[side]}: {value} ({low} to {high}{n})"


def bands(x: pd.Series, low: pd.Series, high: pd.Series, legend: bool) -> list[go.Scatter]:
    """A band per unbroken stretch of points that have an interval."""
    known = (low.notna() & high.notna()).to_numpy()
    stretch = np.cumsum(~known)
    parts = [(stretch == number) & known for number in np.unique(stretch[known])]
    return [band(x[part], low[part], high[part], legend and place == 0) for place, part in enumerate(parts)]


def band(x: pd.Series, low: pd.Series, high: pd.Series, legend: bool) -> go.Scatter:
    """The area between `low` and `high`, leaving out points that have no interval."""
    known = (low.notna() & high.notna()).to_numpy()
    across, bottom, top = x.to_numpy()[known], low.to_numpy()[known], high.to_numpy()[known]
    return go.Scatter(
        x=np.concatenate([across, across[::-1]]),
        y=np.concatenate([top, bottom[::-1]]),
        fill="toself",
        fillcolor=BAND,
        mode="lines",
        line={"width": 0},
        name="95% interval",
        legendgroup="band",
        showlegend=legend,
        hoverinfo="skip",
    )
