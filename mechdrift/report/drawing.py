"""The parts that several figures share: subplots with quiet titles, small multiples, menus, dumbbells, interval bands.

`theme` has the colours and the plotly template.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdrift.records import SIDES, MechdriftError, Side, order_dimensions
from mechdrift.report.theme import BAND, FAINT, INK, PAPER, QUIET, SIDE_COLOURS, TEMPLATE
from mechdrift.report.words import SIDE_NAMES, dimension_name, is_share, metric_name, number

COLUMNS = 3
OFFSET = 0.13  # of a dumbbell's row: the two models' dots stand this far above and below its middle
SIDE_COLUMNS = [f"{side}{end}" for side in SIDES for end in ("", "_low", "_high")]
DASHED = {"color": QUIET, "width": 1.4, "dash": "4px,3px"}
DOTTED = {"color": FAINT, "dash": "dot", "width": 1.5}
HOLLOW = {"size": 6, "color": PAPER, "line": {"color": FAINT, "width": 1.2}}
HOVER = "%{hovertext}<extra></extra>"
"""The hover template of traces that bring their own `hovertext`."""
EARLIER_VERSION = (
    "This run has no {0}: it was made by an earlier version, or there was nothing to compare. Run the audit again for "
    "them."
)


def need(rows: pd.DataFrame, otherwise: str) -> None:
    """Raise `MechdriftError` with the sentence `otherwise` where there is no row to draw."""
    if rows.empty:
        raise MechdriftError(otherwise)


def need_column(table: pd.DataFrame, column: str, what: str) -> None:
    """Raise `MechdriftError` where a table is empty or has no value in a column, as in runs of earlier versions."""
    need(table, f"This run has no {what}.")
    if column not in table or table[column].isna().all():
        raise MechdriftError(EARLIER_VERSION.format(what))


# Subplots.


def blank(height: int) -> go.Figure:
    """An empty figure of so many pixels."""
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
    columns, rows = min(COLUMNS, len(titles)), rows_of(titles)
    spacing = {"horizontal_spacing": 0.05, "vertical_spacing": gap / rows}
    figure = grid(rows, columns, titles, height=100 + 215 * rows, shared_yaxes="all", **spacing)
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text=x_title, row=rows, col=column)
    return figure.update_yaxes(title_text=y_title, col=1)


def rows_of(titles: Sequence[str]) -> int:
    """How many rows the small multiples with these titles take."""
    return math.ceil(len(titles) / COLUMNS)


def cell(place: int) -> dict[str, int]:
    """Row and column of the small multiple number `place`."""
    return {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}


def by_dimension(
    table: pd.DataFrame,
    traces_of: Callable[[pd.DataFrame, bool], Sequence[go.Scatter | go.Heatmap]],
    *,
    title_of: Callable[[pd.DataFrame], str] = lambda part: dimension_name(part.dimension.iloc[0]),
    **titles: Any,
) -> go.Figure:
    """Small multiples with a plot per dimension of `table`, in the project's order.

    `traces_of(part, legend)` draws the rows of one dimension; `legend` is true for the first plot, which speaks for
    all. `titles` go to `small_multiples`.
    """
    parts = [table[table.dimension == dimension] for dimension in order_dimensions(table.dimension)]
    figure = small_multiples([title_of(part) for part in parts], **titles)
    for place, part in enumerate(parts):
        for trace in traces_of(part, place == 0):
            figure.add_trace(trace, **cell(place))
    return figure


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


def colour_bar(title: str, **options: Any) -> dict[str, Any]:
    """The scale of colours beside a heat map."""
    return {"title": {"text": title, "font": {"size": 12}}, "thickness": 12, "outlinewidth": 0, **options}


# Intervals.


def error_bars(value: Any, low: Any, high: Any, colour: str, thickness: float = 1.5) -> dict[str, Any]:
    """Plotly's error bars for intervals from `low` to `high`: numbers in a list, or columns."""
    above, below = np.subtract(high, value), np.subtract(value, low)
    bars = {"symmetric": False, "array": above, "arrayminus": below}
    return bars | {"width": 0, "thickness": thickness, "color": colour}


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
    return go.Scatter(
        x=values,
        y=heights,
        mode="markers",
        marker={"size": 10, "color": colour},
        name=SIDE_NAMES[side],
        error_x=error_bars(values, low, high, colour),
        legendgroup=side,
        showlegend=legend,
        hovertext=[_dot_text(row, side) for row in rows.to_dict("records")],
        hovertemplate=HOVER,
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
