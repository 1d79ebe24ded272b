"""Draw the documentation's figure of audits in waves from waves.csv: boundaries, and the questions that are saved.

python waves_figure.py     writes ../../figures/waves.png
"""

import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdrift.statistics.sequential import boundaries

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from pictures import draw_pictures  # noqa: E402 - a neighbour of this folder

LOOKS = (0.25, 0.5, 0.75, 1.0)


def figure() -> go.Figure:
    """Left: |z| to be reached at each look. Right: prompts saved by the size of the fall and the parent's share."""
    drawn = make_subplots(cols=2, subplot_titles=("|z| that a change has to reach", "prompts saved, %"))
    families = [f"{look:.0%}" for look in LOOKS]
    drawn.add_scatter(x=families, y=boundaries(LOOKS), name="four looks", mode="lines+markers", col=1, row=1)
    drawn.add_scatter(x=families, y=[1.96] * 4, name="one look", mode="lines", line_dash="dot", col=1, row=1)
    table = pd.read_csv(HERE / "waves.csv").query("fall > 0")
    for parent, part in table.groupby("parent"):
        falls = [f"{fall * 100:.0f} points" for fall in part.fall]
        drawn.add_bar(x=falls, y=100 * part["prompts saved"], name=f"parent {parent:.0%} aligned", col=2, row=1)
    drawn.update_xaxes(title="families asked", col=1).update_xaxes(title="fall of one dimension", col=2)
    return drawn.update_layout(template="plotly_white", width=1000, height=380, barmode="group")


if __name__ == "__main__":
    draw_pictures({"waves": figure()}, HERE.parent.parent / "figures")
