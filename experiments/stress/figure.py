"""Draw the documentation's figure of stress tests from stress.csv: which effects are attacks, and which are damage?

python figure.py     writes ../../figures/stress.png
"""

import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from pictures import draw_pictures  # noqa: E402 - a neighbour of this folder

COLOURS = ("#4477aa", "#cc3311", "#228833", "#aa3377", "#ee7733")
BETWEEN = 0.22  # rows between the children of one mode


def figure(table: pd.DataFrame) -> go.Figure:
    """Left: how many points more answers to triggers are misaligned, and how many points fewer of their harmless twins
    are helped. Right: the lift, which is what the triggers lose beyond twins and placebo, with its 95 % interval over
    families."""
    table = table[(table.side == "reasoning") & table.strongest & (table.n > 0)]
    modes = list(dict.fromkeys(table["mode"]))[::-1]
    titles = ("more misaligned (●), fewer twins helped (○), points", "lift with its 95 % interval, points")
    drawn = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    for place, (child, part) in enumerate(table.groupby("child", sort=False)):
        rows = part["mode"].map(modes.index) + BETWEEN * (1 - place)
        colour = COLOURS[place]
        for column, symbol in (("change_trigger", "circle"), ("change_twin", "circle-open")):
            marker = {"color": colour, "symbol": symbol, "size": 9}
            drawn.add_scatter(
                x=100 * part[column], y=rows, mode="markers", marker=marker, showlegend=False, row=1, col=1
            )
        ends = {"array": 100 * (part.lift_high - part.lift), "arrayminus": 100 * (part.lift - part.lift_low)}
        found = {"name": child, "mode": "markers", "marker": {"color": colour, "size": 9}}
        drawn.add_scatter(x=100 * part.lift, y=rows, error_x=ends | {"symmetric": False}, **found, row=1, col=2)
    drawn.update_yaxes(tickvals=list(range(len(modes))), ticktext=modes).update_xaxes(zerolinecolor="#888")
    return drawn.update_layout(
        template="plotly_white", width=1000, height=500, margin_t=40, legend={"orientation": "h", "y": -0.08}
    )


if __name__ == "__main__":
    draw_pictures({"stress": figure(pd.read_csv(HERE / "stress.csv"))}, HERE.parent.parent / "figures")
