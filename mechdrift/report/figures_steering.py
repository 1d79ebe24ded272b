"""The figures of causes: which direction was selected, and what taking it out and adding it does, beside controls.

As in `figures`, a public function takes tables of a run and returns a plotly figure, or raises `MechdriftError` with
the reason why there is nothing to draw.
"""

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import MechdriftError
from mechdrift.report.drawing import grid
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
UNEDITED = ("none", "other model")


def selection(table: pd.DataFrame) -> go.Figure:
    """Bypass, induce and KL of every candidate that was run, by layer; the one that is then steered with stands out."""
    run = table[table.bypass.notna()]
    if run.empty:
        raise MechdriftError("No direction was tried in this run: it asks too few items for that.")
    first = run.iloc[0]
    figure = grid(
        1, 3, [*(title for _, _, title in SCORES), "KL on neutral prompts"], height=330, horizontal_spacing=0.07
    )
    for column, (name, baseline, _) in enumerate(SCORES, 1):
        _add_candidates(figure, run, name, column)
        figure.add_hline(y=first[baseline], line={"color": FAINT, "dash": "dot", "width": 1.5}, row=1, col=column)
    _add_candidates(figure, run, "kl", 3)
    figure.add_hline(y=first.kl_at_most, line={"color": FAINT, "dash": "dot", "width": 1.5}, row=1, col=3)
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
            f"{number(row.induce)}, "
            f"KL {number(row.kl)}<br>{html.escape(row.why) or 'eligible'}"
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
            hovertemplate="%{hovertext}<extra></extra>",
            row=1,
            col=column,
        )


def steering(table: pd.DataFrame) -> go.Figure:
    """What is left without the direction in its own model; what it brings back in the other one, by strength; and the
    price in KL."""
    if table.empty:
        raise MechdriftError("Nothing was steered in this run: it asks too few items for that.")
    titles = ["taken out of the instruct model", "added to the reasoning model", "price: KL on neutral prompts"]
    figure = grid(1, 3, titles, height=380, horizontal_spacing=0.12, column_widths=[0.3, 0.4, 0.3])
    _add_ablation(figure, table[(table.arm == "ablate") & (table.measure == "trigger")])
    added = table[(table.arm == "add") & (table.layer.isna() | (table.layer == table[table.arm == "add"].layer.min()))]
    for measure, column in (("trigger", 2), ("kl", 3)):
        for vector, (colour, dash) in VECTORS.items():
            rows = added[(added.measure == measure) & (added.vector == vector)]
            figure.add_trace(_strength_curve(rows, vector, colour, dash, legend=column == 2), row=1, col=column)
    for vector, label in zip(UNEDITED, ("reasoning<br>as it is", "instruct<br>as it is"), strict=True):
        level = added[(added.measure == "trigger") & (added.vector == vector)].estimate
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
    figure.update_yaxes(title_text="readout on triggers (log-odds)", col=1).update_yaxes(
        title_text="readout on triggers", col=2
    ).update_yaxes(title_text="nats", col=3)
    figure.update_xaxes(title_text="strength", col=2).update_xaxes(title_text="strength", col=3)
    return figure


def _add_ablation(figure: go.Figure, rows: pd.DataFrame) -> None:
    names = [name for name in ("none", *VECTORS) if name in set(rows.vector)]
    for name in names:
        own = rows[rows.vector == name]
        colour = INK if name == "none" else VECTORS[name][0]
        bars = {
            "symmetric": False,
            "array": own.high - own.estimate,
            "arrayminus": own.estimate - own.low,
            "width": 0,
            "thickness": 1.5,
        }
        figure.add_scatter(
            x=[names.index(name) + shift for shift in _spread(len(own))],
            y=own.estimate,
            error_y=bars | {"color": colour},
            mode="markers",
            marker={"size": 9, "color": colour},
            showlegend=False,
            hovertext=[_row_text(row) for row in own.itertuples()],
            hovertemplate="%{hovertext}<extra></extra>",
            row=1,
            col=1,
        )
    labels = ["as it is" if name == "none" else name for name in names]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=labels, tickangle=-40, showgrid=False, row=1, col=1)


def _spread(count: int) -> np.ndarray:
    return np.linspace(-0.12, 0.12, count) if count > 1 else np.zeros(count)


def _strength_curve(rows: pd.DataFrame, vector: str, colour: str, dash: str, legend: bool) -> go.Scatter:
    """One vector's mean over its draws, by strength; the direction with its interval."""
    rows = rows.sort_values("strength")
    mean = rows.groupby("strength").estimate.mean()
    texts = [
        "<br>".join(_row_text(row) for row in rows[rows.strength == strength].itertuples()) for strength in mean.index
    ]
    bars = {
        "symmetric": False,
        "array": rows.high - rows.estimate,
        "arrayminus": rows.estimate - rows.low,
        "width": 0,
        "thickness": 1.5,
    }
    return go.Scatter(
        x=mean.index,
        y=mean,
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 1.8},
        marker={"size": 6},
        error_y=bars | {"color": colour} if vector == "direction" else None,
        name=vector,
        legendgroup=vector,
        showlegend=legend and len(rows) > 0,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _row_text(row) -> str:
    strength = "" if pd.isna(row.strength) else f", strength {number(row.strength)}"
    place = "" if pd.isna(row.place) else f", layer {row.place:.0f}"
    ends = interval(row.low, row.high) or "unknown"
    return (
        f"<b>{row.vector}</b>{place}{strength}, {SIDE_NAMES[row.side]}<br>{number(row.estimate)} ({ends}), n = {row.n}"
    )
