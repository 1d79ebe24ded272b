"""One dimension by layer: what passes through each layer (patches at the last role before the answer, beside placebos)
and what originates there (grafts)."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.report.drawing import DOTTED, HOVER, band, error_bars, grid, need
from mechdrift.report.theme import FAINT, INK, INSTRUCT, QUIET, REASONING
from mechdrift.report.words import interval, layer_range, number, p_value, readout_role
from mechdrift.statistics.grids import ALPHA

PLACEBO_NAMES = {
    "unrelated": "placebo: unrelated prompt",
    "random": "placebo: random difference",
    "null model": "from the null model",
}
PLACEBO_DASHES = {"unrelated": "dash", "random": "dot", "null model": "dashdot"}
WAYS = {"instruct": ("instruct → reasoning", INSTRUCT), "reasoning": ("reasoning → instruct", REASONING)}
UNRELIABLE = {"text": "<b>Unreliable readout</b>: do not read this figure", "font": {"size": 13}, "y": 0.99, "x": 0}


def origins(patch: pd.DataFrame, placebos: pd.DataFrame, grafts: pd.DataFrame, dimension: str) -> go.Figure:
    """On the left, what passes through the last role before the answer, by layer. Beside it, what originates in groups
    of neighbouring layers, in both directions."""
    grafted = grafts[grafts.dimension == dimension]
    need(grafted, "No weights were grafted in this run: its preset leaves that out.")
    rows = patch[(patch.dimension == dimension) & (patch.donor == "instruct")]
    role = readout_role(rows.role)
    titles = [
        f"<b>passes through</b>, instruct → reasoning<br>patched at {role}",
        *(f"<b>originates here</b>, {words}<br>layers grafted" for words, _ in WAYS.values()),
    ]
    figure = grid(
        1, 3, titles, height=360, shared_yaxes=True, horizontal_spacing=0.04, column_widths=[0.36, 0.32, 0.32]
    )
    _add_profile(figure, rows[rows.role == role].sort_values("layer"))
    same_cells = placebos[(placebos.dimension == dimension) & (placebos.role == role)]
    for source, part in same_cells.groupby("source", sort=False):
        _add_placebo(figure, part.sort_values("layer"), str(source))
    for column, (donor, (_, colour)) in enumerate(WAYS.items(), 2):
        _add_grafts(figure, grafted[grafted.donor == donor].sort_values("layer"), colour, column)
    figure.update_xaxes(title_text="layer").update_yaxes(title_text="effect (log-odds)", col=1)
    if not bool(grafted.reliable.all()):
        figure.update_layout(title=UNRELIABLE)
    legend = {"orientation": "h", "x": 0, "y": -0.24, "yanchor": "top", "yref": "paper"}
    return figure.update_layout(margin_t=74, margin_b=88, legend=legend)


def _add_profile(figure: go.Figure, rows: pd.DataFrame) -> None:
    """The patch effect by layer with its band; significant layers have larger dots."""
    if rows.empty:
        return
    figure.add_trace(band(rows.layer, rows.low, rows.high, legend=False), row=1, col=1)
    figure.add_scatter(
        x=rows.layer,
        y=rows.effect,
        mode="lines+markers",
        line={"color": INSTRUCT, "width": 2},
        name="patched",
        marker={"size": [8 if p <= ALPHA else 4 for p in rows.p_adjusted], "color": INSTRUCT},
        hovertext=[_text(row) for row in rows.itertuples()],
        hovertemplate=HOVER,
        row=1,
        col=1,
    )
    _add_gap(figure, float(rows.gap.iloc[0]), 1)


def _add_placebo(figure: go.Figure, rows: pd.DataFrame, source: str) -> None:
    line = {"color": INK if source == "null model" else QUIET, "dash": PLACEBO_DASHES.get(source, "dot"), "width": 1.5}
    figure.add_scatter(
        x=rows.layer,
        y=rows.effect,
        mode="lines",
        line=line,
        name=PLACEBO_NAMES.get(source, source),
        row=1,
        col=1,
        hovertext=[_text(row) for row in rows.itertuples()],
        hovertemplate=HOVER,
    )


def _add_grafts(figure: go.Figure, rows: pd.DataFrame, colour: str, column: int) -> None:
    """A bar per group of layers; a significant one is filled, and framed where it carries the change both ways."""
    if rows.empty:
        return
    layers = rows.layer.tolist()
    width = min(np.diff(layers).tolist(), default=1)
    names = [layer_range({layer, layer + width - 1}) for layer in layers]
    significant = (rows.p_adjusted <= ALPHA).to_numpy()
    figure.add_bar(
        x=[layer + (width - 1) / 2 for layer in layers],
        y=rows.effect,
        width=0.8 * width,
        error_y=error_bars(rows.effect, rows.low, rows.high, QUIET, 1.2),
        showlegend=False,
        marker={
            "color": [colour if shown else FAINT for shown in significant],
            "line": {"color": INK, "width": [2.0 if both else 0.0 for both in rows.both_ways]},
        },
        hovertext=[_text(row, name) for row, name in zip(rows.itertuples(), names, strict=True)],
        hovertemplate=HOVER,
        row=1,
        col=column,
    )
    _add_gap(figure, float(rows.gap.iloc[0]), column)


def _add_gap(figure: go.Figure, gap: float, column: int) -> None:
    figure.add_hline(
        y=gap,
        line=DOTTED,
        annotation_text="whole gap",
        annotation_position="top left",
        annotation_font={"size": 11, "color": QUIET},
        row=1,
        col=column,
    )


def _text(row, layers: str = "") -> str:
    """The hover box of a patched layer, or of a graft of these layers."""
    place = layers or f"layer {row.layer}"
    both = "<br>carries the change both ways" if layers and row.both_ways else ""
    return (
        f"<b>{place}</b><br>effect {number(row.effect, signed=True)} "
        f"({interval(row.low, row.high, signed=True)}, 95% band over all cells)"
        f"<br>family-wise {p_value(row.p_adjusted)}; {row.n} prompts, {row.families} families{both}"
    )
