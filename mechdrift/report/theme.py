"""How every figure looks: one plotly template and a handful of colours, the same as in `templates/style.css`.

Blue and orange, and blue-white-red, stay apart for all common kinds of colour blindness. Figures are drawn in the
light colours. `DARK` has the counterpart of each, which the page puts in their place where a reader prefers dark pages:
paper becomes night, ink becomes pale, and of a scale the end that stands out against white stands out against black.
"""

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

INSTRUCT, REASONING = "#2F6DB5", "#D9762B"
SIDE_COLOURS = {"instruct": INSTRUCT, "reasoning": REASONING}
# Several runs in one figure: marks differ in shape as well, for those who cannot tell all of these colours apart.
RUN_COLOURS = ("#D9762B", "#1B7F79", "#7B4FA3", "#B3294E", "#8A7A00", "#3F9BD8", "#7A5230", "#5B636D")
RUN_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "hexagon")
INK, QUIET, FAINT, RULE = "#1F2328", "#5B636D", "#B9BFC7", "#E4E7EB"
PAPER, GREY, OUTLINE = "#FFFFFF", "#D5D9DE", "#111111"  # the page; a cell without a value; the border of marked cells
VEIL = "rgba(255,255,255,0.85)"  # behind a name, so that lines do not strike it through
BAND = "rgba(80, 90, 105, 0.16)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# What every page may do: run what it holds and show pictures that it holds; no request leaves it.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
POLICY_BESIDE = POLICY.replace("script-src", "script-src 'self' file:")  # and the script in the file beside it

# Red is less aligned, blue more aligned.
DIVERGING = [
    [0.0, "#8E1B2C"],
    [0.2, "#CF5246"],
    [0.4, "#F4C3B0"],
    [0.5, "#FFFFFF"],
    [0.6, "#BCD5EA"],
    [0.8, "#4A8AC4"],
    [1.0, "#1B4A80"],
]
SEQUENTIAL = [[0.0, "#FFFFFF"], [0.5, "#9AA5B4"], [1.0, "#333D4B"]]
ANGLES = [[0.0, "#FFFFFF"], [0.5, "#EDB488"], [1.0, "#9C4A12"]]  # has no grey, which stands for a cell without a value
_SHADES = np.linspace(0, 1, 24)
EARLY_TO_LATE = sample_colorscale([[0.0, "#F0C9A6"], [0.5, "#D9762B"], [1.0, "#6E3208"]], _SHADES)

DARK = {
    PAPER: "#14171B",
    INK: "#E6E9ED",
    QUIET: "#A7B0BA",
    FAINT: "#5F6873",
    RULE: "#2B3138",
    GREY: "#383F48",
    OUTLINE: "#F4F6F8",
    VEIL: "rgba(20,23,27,0.85)",
    BAND: "rgba(170, 182, 198, 0.2)",
    INSTRUCT: "#6FA9EA",
    REASONING: "#F09A5A",
    **dict(zip(RUN_COLOURS[1:7], ("#4FBDB5", "#B68BE2", "#F0708F", "#CDBE45", "#8ACBF7", "#C79C7B"), strict=True)),
    **dict(
        zip(
            [c for _, c in DIVERGING if c != PAPER],
            ("#FFA396", "#CE5A4C", "#54302B", "#223D57", "#4386C6", "#A3D0FB"),
            strict=True,
        )
    ),
    **dict(zip([c for _, c in SEQUENTIAL[1:]], ("#6C7886", "#DEE4EB"), strict=True)),
    **dict(zip([c for _, c in ANGLES[1:]], ("#87501F", "#FFBE85"), strict=True)),
    **dict(
        zip(
            EARLY_TO_LATE,
            sample_colorscale([[0.0, "#5E3A1E"], [0.5, "#D9762B"], [1.0, "#FFDDBF"]], _SHADES),
            strict=True,
        )
    ),
}

_AXIS = {
    "gridcolor": RULE,
    "linecolor": FAINT,
    "zerolinecolor": FAINT,
    "zerolinewidth": 1,
    "ticks": "",
    "automargin": True,
    "title": {"font": {"size": 13, "color": QUIET}, "standoff": 10},
    "tickfont": {"size": 12, "color": INK},
}

# Only buttons that stay on this machine: plotly also offers to send a figure to a server.
CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]]}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 44, "b": 44},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {
            "align": "left",
            "bgcolor": PAPER,
            "bordercolor": FAINT,
            "font": {"family": FONT, "size": 13, "color": INK},
        },
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "yref": "container"},
        "annotationdefaults": {"font": {"size": 13, "color": INK}},
        "dragmode": False,
        "modebar": {"bgcolor": VEIL, "color": FAINT, "activecolor": QUIET},
    }
)
