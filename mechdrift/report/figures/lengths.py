"""How long both models think and answer."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import SIDES
from mechdrift.report.drawing import grid, need
from mechdrift.report.theme import FAINT, SIDE_COLOURS
from mechdrift.report.words import SIDE_NAMES

PARTS = {"think": "tokens of thinking", "answer": "tokens of the answer"}


def length_curves(table: pd.DataFrame) -> go.Figure:
    """The share of completions that have at most so many tokens, in both models. Dotted lines are the budgets; a
    completion that was cut is at least as long as its budget."""
    asked = table[table.phase == "asked"]
    need(asked, "The table of lengths holds no answer.")
    figure = grid(1, len(PARTS), list(PARTS.values()), height=320)
    for column, part in enumerate(PARTS, 1):
        for side in SIDES:
            rows = asked[asked.side == side]
            tokens = np.sort(rows[f"{part}_tokens"].to_numpy())
            if not tokens.any():
                continue  # this model was not asked to think
            figure.add_scatter(
                x=tokens,
                y=np.arange(1, len(tokens) + 1) / len(tokens),
                mode="lines",
                line={"color": SIDE_COLOURS[side], "width": 2, "shape": "hv"},
                name=SIDE_NAMES[side],
                legendgroup=side,
                showlegend=column == len(PARTS),
                hovertemplate="%{y:.0%} have %{x} tokens or fewer<extra></extra>",
                row=1,
                col=column,
            )
            figure.add_vline(
                x=int(rows[f"{part}_budget"].max()), line={"color": FAINT, "dash": "dot"}, row=1, col=column
            )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure.update_xaxes(rangemode="tozero")
