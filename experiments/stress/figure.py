"""Draw the documentation's figure of stress tests from stress.csv: which modes are attacks, and which are damage?

python figure.py     writes ../../figures/stress.png
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from pictures import draw_pictures  # noqa: E402 - a neighbour of this folder

SIGNS = {"breaks": "✖", "as placebo": "○", "protects": "▲", "damage": "▽", "holds": "–", "cannot tell": ""}
PANELS = {"change_trigger": "more harmful requests answered badly, points", "change_twin": "fewer twins helped, points"}


def figure(table: pd.DataFrame) -> go.Figure:
    """Two heat maps, modes by children within dimensions: how many points more answers to triggers are misaligned, and
    how many points fewer twins are helped. Where both have one colour, the prompt is damaged. A sign is the finding;
    grey: the mode does not apply, or too many answers are missing."""
    table = table[(table.side == "reasoning") & table.strongest.astype(bool)]
    told = table[(table.n > 0) & table.reason.isna()]
    modes, children = list(dict.fromkeys(table["mode"]))[::-1], list(dict.fromkeys(table.child))
    dimensions = list(dict.fromkeys(table.dimension))
    places = [(dimension, child) for dimension in dimensions for child in children]
    names = [f"{child.removeprefix('smollm2-')}" for _, child in places]
    drawn = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.06, subplot_titles=list(PANELS.values()))
    for row, column in enumerate(PANELS, 1):
        cells = told.set_index(["mode", "dimension", "child"])
        values = [[_at(cells, column, mode, *place) for place in places] for mode in modes]
        signs = [[SIGNS.get(_at(cells, "finding", mode, *place), "") for place in places] for mode in modes]
        drawn.add_heatmap(
            z=100 * np.array(values, dtype=float), x=list(range(len(places))), y=modes, text=signs,
            texttemplate="%{text}", zmin=-60, zmid=0, zmax=60, colorscale="RdBu_r", xgap=1, ygap=1, row=row, col=1,
            colorbar={"len": 0.5, "y": 0.78 if row == 1 else 0.22, "title": "points"},
        )  # fmt: skip
    for number, dimension in enumerate(dimensions):
        middle = len(children) * (number + 0.5) - 0.5
        drawn.add_annotation(x=middle, y=1.06, yref="paper", text=f"<b>{dimension}</b>", showarrow=False, font_size=14)
        if number:
            drawn.add_vline(x=len(children) * number - 0.5, line_width=2, line_color="#444")
    drawn.update_xaxes(tickvals=list(range(len(places))), ticktext=names, tickangle=-90, showgrid=False, zeroline=False)
    drawn.update_yaxes(showgrid=False, zeroline=False)
    return drawn.update_layout(template="plotly_white", width=1200, height=1000, plot_bgcolor="#ddd", margin_t=80)


def _at(cells: pd.DataFrame, column: str, mode: str, dimension: str, child: str):
    return cells[column].get((mode, dimension, child), np.nan)


if __name__ == "__main__":
    draw_pictures({"stress": figure(pd.read_csv(HERE / "stress.csv"))}, HERE.parent.parent / "figures")
