"""Where both models stand along the reasoning model's thinking, on the instruct model's direction."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import SIDES, order_dimensions
from mechdrift.report.drawing import HOVER, by_dimension, error_bars, need_column, rows_of
from mechdrift.report.figures.drift import TWO_LINES
from mechdrift.report.theme import FAINT, RULE, SIDE_COLOURS
from mechdrift.report.words import SIDE_NAMES, dimension_name, interval, number

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
BEFORE_CLOSED = list(POSITION_NAMES).index("think_close[-1]") - 0.5
SHIFTS = {"instruct": -0.06, "reasoning": 0.06}  # so that the bars of the two models stand side by side


def along_thinking(thinking: pd.DataFrame) -> go.Figure:
    """Both models' projections along the reasoning model's thinking, one small plot per dimension: triggers solid,
    neutral twins dotted."""
    need_column(thinking, "projection", "projections along the thinking")
    figure = by_dimension(
        thinking,
        _curves,
        title_of=_title,
        x_title="",
        y_title="projection (neutral 0, trigger 1)",
        gap=0.36,
    )
    figure.update_yaxes(matches=None, showticklabels=True)
    places = list(range(len(POSITION_NAMES)))
    figure.update_xaxes(tickvals=places, ticktext=list(POSITION_NAMES.values()), tickangle=-40, showgrid=False)
    figure.add_vline(x=BEFORE_CLOSED, line={"color": RULE, "width": 1.5}, row="all", col="all")
    height = 150 + 290 * rows_of(order_dimensions(thinking.dimension))
    return figure.update_layout(height=height, margin_b=80, margin_t=TWO_LINES)


def _title(part: pd.DataFrame) -> str:
    row = part.iloc[0]
    noise = ", not above noise" if bool(row.below_null) else ""
    return f"{dimension_name(row.dimension)} · layer {row.layer}{noise}"


def _curves(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
    curves = []
    for side in SIDES:
        for contrast in ("trigger", "neutral"):
            rows = part[(part.side == side) & (part.contrast == contrast)].set_index("position")
            curves.append(_curve(rows.reindex(list(POSITION_NAMES)).reset_index(), side, contrast, legend))
    return curves


def _curve(rows: pd.DataFrame, side: str, contrast: str, legend: bool) -> go.Scatter:
    colour = FAINT if bool(rows.below_null.iloc[0]) else SIDE_COLOURS[side]
    texts = [
        f"<b>{POSITION_NAMES[row['position']]}</b>, {contrast} prompts<br>{SIDE_NAMES[side]}: "
        f"{number(row['projection'])} "
        f"({interval(row['low'], row['high']) or 'unknown'})<br>{row['n']} prompts, {row['families']} families"
        for row in rows.to_dict("records")
    ]
    return go.Scatter(
        x=np.arange(len(rows)) + SHIFTS[side],
        y=rows.projection,
        mode="lines+markers",
        marker={"size": 5, "color": colour},
        line={"color": colour, "width": 1.8, "dash": "solid" if contrast == "trigger" else "dot"},
        error_y=error_bars(rows.projection, rows.low, rows.high, colour, 1),
        name=f"{SIDE_NAMES[side]}, {contrast}",
        legendgroup=f"{side}-{contrast}",
        showlegend=legend,
        hovertext=texts,
        hovertemplate=HOVER,
    )
