"""How long the models think and answer: the figure of the lengths, and their table in words."""

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import SIDES, MechdriftError
from mechdrift.report.drawing import grid
from mechdrift.report.theme import FAINT, SIDE_COLOURS
from mechdrift.report.words import SIDE_NAMES, difference, interval, number

PARTS = {"think": "tokens of thinking", "answer": "tokens of the answer"}


def lengths(table: pd.DataFrame) -> go.Figure:
    """The share of completions that are at most so long, in both models; a cut one is at least as long as its budget,
    which a dotted line marks."""
    asked = table[table.phase == "asked"]
    if asked.empty:
        raise MechdriftError("The table of lengths holds no answer.")
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


def length_rows(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The measures of length as rows for the page: both models, and the paired difference."""
    rows = []
    for row in () if table is None else table.to_dict("records"):
        share = not row["measure"].endswith("tokens")
        shown = {name: _shown(row, name, share) for name in SIDES}
        change = (
            (difference(row["difference"], share=True), interval(row["low"], row["high"], share=True, signed=True))
            if share
            else (_tokens(row["difference"], signed=True), _ends(row["low"], row["high"], signed=True))
        )
        rows.append(
            {"measure": row["convention"], "n": row["n"], "families": row["families"], "change": change} | shown
        )
    return rows


def _shown(row: dict[str, Any], side: str, share: bool) -> tuple[str, str]:
    if share:
        return number(row[side], share=True), interval(row[f"{side}_low"], row[f"{side}_high"], share=True)
    return _tokens(row[side]), _ends(row[f"{side}_low"], row[f"{side}_high"])


def _tokens(value: float, signed: bool = False) -> str:
    """A number of tokens without decimals."""
    text = number(round(value) if math.isfinite(value) else value, signed=signed)
    return text.removesuffix(".00")


def _ends(low: float, high: float, signed: bool = False) -> str:
    return f"{_tokens(low, signed)} to {_tokens(high, signed)}" if math.isfinite(low) and math.isfinite(high) else ""
