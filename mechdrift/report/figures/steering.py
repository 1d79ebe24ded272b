"""Does the refusal direction do anything? The candidates that were tried, and what the selected one does when it is
taken out or added, beside comparison vectors of the same length."""

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.report.drawing import DOTTED, HOVER, error_bars, grid, need
from mechdrift.report.theme import FAINT, INK, INSTRUCT, QUIET, REASONING
from mechdrift.report.words import SIDE_NAMES, interval, number, role_name

SCORES = (
    ("bypass", "baseline_trigger", "bypass: triggers, taken out"),
    ("induce", "baseline_neutral", "induce: neutral, added"),
)
VECTORS = {
    "direction": (REASONING, "solid"),
    "wrong layer": (QUIET, "dash"),
    "permuted": (QUIET, "dot"),
    "random": (FAINT, "solid"),
}
UNEDITED = {"none": "reasoning<br>as it is", "other model": "instruct<br>as it is"}


# Candidates.


def candidates(table: pd.DataFrame) -> go.Figure:
    """Bypass, induce and KL of every candidate that was run, by layer; the one that is then steered with stands out."""
    run = table[table.bypass.notna()]
    need(run, "No direction was tried in this run: it asks too few items for that.")
    first = run.iloc[0]
    titles = [*(title for _, _, title in SCORES), "KL on neutral prompts"]
    figure = grid(1, 3, titles, height=330, horizontal_spacing=0.07)
    for column, (name, baseline, _) in enumerate(SCORES, 1):
        _add_candidates(figure, run, name, column)
        figure.add_hline(y=first[baseline], line=DOTTED, row=1, col=column)
    _add_candidates(figure, run, "kl", 3)
    figure.add_hline(y=first.kl_at_most, line=DOTTED, row=1, col=3)
    figure.update_xaxes(title_text="layer").update_yaxes(title_text="readout (log-odds)", col=1)
    return figure.update_yaxes(title_text="nats", type="log", tickvals=[0.01, 0.03, 0.1, 0.3, 1, 3, 10], col=3)


def _add_candidates(figure: go.Figure, run: pd.DataFrame, name: str, column: int) -> None:
    groups = (
        ("not eligible", run[~run.eligible.astype(bool)], FAINT, 6),
        ("eligible", run[run.eligible.astype(bool)], INSTRUCT, 8),
        ("used below", run[run.used.astype(bool)], REASONING, 11),
    )
    for label, rows, colour, size in groups:
        texts = [
            f"<b>layer {row.layer}, {html.escape(role_name(row.role))}</b><br>bypass {number(row.bypass)}, induce "
            f"{number(row.induce)}, KL {number(row.kl)}<br>{html.escape(row.why) or 'eligible'}"
            for row in rows.itertuples()
        ]
        figure.add_scatter(
            x=rows.layer,
            y=rows[name],
            mode="markers",
            marker={"color": colour, "size": size},
            name=label,
            legendgroup=label,
            showlegend=column == 1 and len(rows) > 0,
            hovertext=texts,
            hovertemplate=HOVER,
            row=1,
            col=column,
        )


# Effects.


def steering_effects(table: pd.DataFrame) -> go.Figure:
    """The readout without the direction in its own model, the readout with it in the other model, by strength, and its
    price in KL."""
    need(table, "Nothing was steered in this run: it asks too few items for that.")
    titles = ["taken out of the instruct model", "added to the reasoning model", "price: KL on neutral prompts"]
    figure = grid(1, 3, titles, height=380, horizontal_spacing=0.12, column_widths=[0.3, 0.4, 0.3])
    _add_ablation(figure, table[(table.arm == "ablate") & (table.measure == "trigger")])
    added = table[table.arm == "add"]
    added = added[added.layer.isna() | (added.layer == added.layer.min())]
    for measure, column in (("trigger", 2), ("kl", 3)):
        for vector in VECTORS:
            rows = added[(added.measure == measure) & (added.vector == vector)]
            figure.add_trace(_strength_curve(rows, vector, legend=column == 2), row=1, col=column)
    _add_levels(figure, added[added.measure == "trigger"])
    figure.update_yaxes(title_text="readout on triggers (log-odds)", col=1)
    figure.update_yaxes(title_text="readout on triggers", col=2).update_yaxes(title_text="nats", col=3)
    return figure.update_xaxes(title_text="strength", col=2).update_xaxes(title_text="strength", col=3)


def _add_ablation(figure: go.Figure, rows: pd.DataFrame) -> None:
    """The instruct model as it is, and without each vector."""
    names = [name for name in ("none", *VECTORS) if name in set(rows.vector)]
    for name in names:
        own = rows[rows.vector == name]
        colour = INK if name == "none" else VECTORS[name][0]
        figure.add_scatter(
            x=[names.index(name) + shift for shift in _spread(len(own))],
            y=own.estimate,
            error_y=error_bars(own.estimate, own.low, own.high, colour),
            mode="markers",
            marker={"size": 9, "color": colour},
            showlegend=False,
            hovertext=[_row_text(row) for row in own.itertuples()],
            hovertemplate=HOVER,
            row=1,
            col=1,
        )
    labels = ["as it is" if name == "none" else name for name in names]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=labels, tickangle=-40, showgrid=False, row=1, col=1)


def _spread(count: int) -> np.ndarray:
    """Shifts that set several dots of one vector side by side."""
    return np.linspace(-0.12, 0.12, count) if count > 1 else np.zeros(count)


def _strength_curve(rows: pd.DataFrame, vector: str, legend: bool) -> go.Scatter:
    """One vector's mean over its draws, by strength; the direction with its interval."""
    rows, (colour, dash) = rows.sort_values("strength"), VECTORS[vector]
    mean = rows.groupby("strength").estimate.mean()
    texts = [
        "<br>".join(_row_text(row) for row in rows[rows.strength == strength].itertuples()) for strength in mean.index
    ]
    return go.Scatter(
        x=mean.index,
        y=mean,
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 1.8},
        marker={"size": 6},
        error_y=error_bars(rows.estimate, rows.low, rows.high, colour) if vector == "direction" else None,
        name=vector,
        legendgroup=vector,
        showlegend=legend and len(rows) > 0,
        hovertext=texts,
        hovertemplate=HOVER,
    )


def _add_levels(figure: go.Figure, rows: pd.DataFrame) -> None:
    """The readouts of both models without any edit, as dotted lines beside the curves."""
    for vector, label in UNEDITED.items():
        level = rows[rows.vector == vector].estimate
        if len(level):
            figure.add_hline(
                y=float(level.iloc[0]),
                line={"color": INK, "dash": "dot", "width": 1.2},
                annotation_text=label,
                annotation_position="right",
                annotation_font={"size": 11, "color": QUIET},
                annotation_align="left",
                row=1,
                col=2,
            )


def _row_text(row) -> str:
    strength = "" if pd.isna(row.strength) else f", strength {number(row.strength)}"
    place = "" if pd.isna(row.place) else f", layer {row.place:.0f}"
    ends = interval(row.low, row.high) or "unknown"
    return (
        f"<b>{row.vector}</b>{place}{strength}, {SIDE_NAMES[row.side]}<br>{number(row.estimate)} ({ends}), n = {row.n}"
    )
