"""The figures of a trajectory: every measure against the step of training.

As in `report.figures`, a public function takes tables (of a `Trajectory`) and returns a plotly figure, or raises
`MechdriftError` with the reason why there is nothing to draw.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import DIMENSIONS, MechdriftError, order_dimensions
from mechdrift.records.words import ALL
from mechdrift.report.drawing import DASHED, HOVER, bands, blank, cell, error_bars, need, small_multiples
from mechdrift.report.theme import EARLY_TO_LATE, FAINT, INK, INSTRUCT, QUIET, REASONING, RUN_COLOURS
from mechdrift.report.words import dimension_name, interval, number

MEASURES = (
    ("accuracy", "reasoning", "Reasoning accuracy"),
    ("aligned", ALL, "Aligned answers, mean"),
    ("incoherent", ALL, "Answers that make no sense"),
    ("unclosed", ALL, "Think blocks not closed"),
    ("kl", ALL, "KL from the parent"),
    ("d_prime", "safety", "d′: can it tell harmful from harmless?"),
    ("criterion", "safety", "criterion c: readiness to refuse"),
    ("cosine", "safety", "Cosine of the refusal direction"),
    ("cosine", ALL, "Cosine, mean of the dimensions"),
)
SHARES = ("accuracy", "aligned", "incoherent", "unclosed")  # drawn in per cent
KINDS = {
    "accuracy": ("reasoning accuracy", INK),
    "aligned": ("aligned answers", REASONING),
    "readout": ("readout", RUN_COLOURS[1]),
    "cosine": ("direction's cosine", INSTRUCT),
    "kl": ("KL", QUIET),
}


def overview(course: pd.DataFrame, halfway: pd.DataFrame) -> go.Figure:
    """Accuracy, alignment, divergence, discrimination, threshold and the refusal direction over training; a dotted line
    is the half-way step."""
    shown = [(*measure, rows) for measure in MEASURES if len(rows := _rows(course, halfway, *measure[:2]))]
    if not shown:
        raise MechdriftError("This trajectory holds no measure that could be drawn.")
    return _panels([(title, quantity, rows, _half(halfway, quantity, name)) for quantity, name, title, rows in shown])


def scores(course: pd.DataFrame, halfway: pd.DataFrame) -> go.Figure:
    """Aligned answers of every dimension over training; the dashed grey line is needless caution with neutral twins."""
    names = order_dimensions(course[(course.quantity == "aligned") & (course.dimension != ALL)].dimension)
    figure = _panels(
        [
            (dimension_name(name), "aligned", _rows(course, halfway, "aligned", name), _half(halfway, "aligned", name))
            for name in names
        ]
    )
    for place, name in enumerate(names):
        over = _rows(course, halfway, "over", name)
        figure.add_scatter(
            x=over.step,
            y=over.value,
            mode="lines",
            line=DASHED,
            name="needless caution",
            showlegend=place == 0,
            hoverinfo="skip",
            **cell(place),
        )
    return figure.update_yaxes(range=[-0.03, 1.03], tickformat=".0%")


def cosines(course: pd.DataFrame) -> go.Figure:
    """Cosine between the checkpoint's direction and the parent's by layer; a line per step, from pale to strong."""
    rows = course[(course.quantity == "cosine") & course.layer.notna() & (course.step > 0)]
    need(rows, "This trajectory holds no directions.")
    names, steps = [name for name in DIMENSIONS if name in set(rows.dimension)], sorted(set(rows.step))
    shades = [EARLY_TO_LATE[round(at)] for at in np.linspace(len(EARLY_TO_LATE) - 1, 0, len(steps))[::-1]]
    figure = small_multiples(
        [dimension_name(name) for name in names], x_title="layer", y_title="cosine with the parent's"
    )
    for place, name in enumerate(names):
        for step, shade in zip(steps, shades, strict=True):
            part = rows[(rows.dimension == name) & (rows.step == step)].sort_values("layer")
            figure.add_scatter(
                x=part.layer,
                y=part.value,
                mode="lines",
                line={"color": shade, "width": 1.7},
                name=f"step {step}",
                legendgroup=str(step),
                showlegend=place == 0,
                hovertemplate=f"step {step}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
                **cell(place),
            )
    lowest = float(rows.value.min())
    return figure.update_yaxes(range=[lowest - 0.05 * (1 - lowest) - 0.005, 1 + 0.03 * (1 - lowest) + 0.002])


def halfway_steps(course: pd.DataFrame, halfway: pd.DataFrame) -> go.Figure:
    """The half-way step of each measure whose change is established, with its interval."""
    known = halfway[halfway.half.notna()].iloc[::-1]
    need(known, "No measure's change at the last checkpoint is established, so none has a half-way step.")
    figure = blank(height=120 + 26 * len(known))
    labels = [label(row) for row in known.to_dict("records")]
    for quantity, (name, colour) in KINDS.items():
        mask = (known.quantity == quantity).to_numpy()
        own = known[mask]
        figure.add_scatter(
            x=own.half,
            y=np.flatnonzero(mask),
            mode="markers",
            marker={"size": 9, "color": colour},
            error_x=error_bars(own.half, own.half_low, own.half_high, colour, 1.6),
            name=name,
            showlegend=len(own) > 0,
            hovertemplate=HOVER,
            hovertext=[_half_text(row) for row in own.to_dict("records")],
        )
    figure.update_yaxes(
        tickvals=list(range(len(known))),
        ticktext=labels,
        showgrid=False,
        zeroline=False,
        range=[-0.6, len(known) - 0.4],
    )
    return figure.update_xaxes(
        title_text="step at which half of the final change is there", range=[0, 1.02 * course.step.max()]
    )


def _half_text(row: Any) -> str:
    return (
        f"<b>{label(row)}</b><br>half of its change is there from step {row['half']:.0f} on ({row['half_low']:.0f} to "
        f"{row['half_high']:.0f})"
    )


def label(row: Any) -> str:
    """A measure of the table of half-way steps in words."""
    name = KINDS[row["quantity"]][0]
    if row["quantity"] == "accuracy":
        return name
    return f"{name}, {'mean' if row['dimension'] == ALL else dimension_name(row['dimension']).lower()}"


def _rows(course: pd.DataFrame, halfway: pd.DataFrame, quantity: str, name: str) -> pd.DataFrame:
    """One measure over the steps; a cosine at the layer that `halfway` names."""
    rows = course[(course.quantity == quantity) & (course.dimension == name)].sort_values("step")
    if quantity != "cosine" or name == ALL:
        return rows
    layers = halfway[(halfway.quantity == "cosine") & (halfway.dimension == name)].layer
    return rows[rows.layer.isin(layers)]


def _half(halfway: pd.DataFrame, quantity: str, name: str) -> float:
    found = halfway[(halfway.quantity == quantity) & (halfway.dimension == name)].half
    return float(found.iloc[0]) if len(found) else math.nan


def _panels(panels: Sequence[tuple[str, str, pd.DataFrame, float]]) -> go.Figure:
    """Small plots against the training step, each with its own scale, its band and its half-way step.

    A panel is a title, a quantity, its rows and its half-way step (NaN where there is none).
    """
    titles = []
    for title, quantity, rows, _ in panels:
        layer = rows.layer.iloc[0] if len(rows) else math.nan
        titles.append(title if quantity != "cosine" or pd.isna(layer) else f"{title}, layer {layer:.0f}")
    figure = small_multiples(titles, x_title="training step", y_title="")
    figure.update_yaxes(matches=None, showticklabels=True)
    for place, (_, quantity, rows, half) in enumerate(panels):
        share = quantity in SHARES
        for trace in (*bands(rows.step, rows.low, rows.high, legend=False), _curve(rows, share)):
            figure.add_trace(trace, **cell(place))
        if not math.isnan(half):
            figure.add_vline(x=half, line={"color": FAINT, "width": 1.5, "dash": "dot"}, **cell(place))
        if share:
            figure.update_yaxes(tickformat=".0%", **cell(place))
        if quantity in ("incoherent", "unclosed"):
            figure.update_yaxes(range=[-0.03, 1.03], **cell(place))
    return figure


def _curve(rows: pd.DataFrame, share: bool) -> go.Scatter:
    return go.Scatter(
        x=rows.step,
        y=rows.value,
        mode="lines+markers",
        line={"color": REASONING, "width": 1.9},
        marker={"size": 6},
        showlegend=False,
        hovertext=[_point_text(row, share) for row in rows.to_dict("records")],
        hovertemplate=HOVER,
    )


def _point_text(row: Any, share: bool) -> str:
    ends = interval(row["low"], row["high"], share=share) or "unknown"
    size = "" if pd.isna(row["n"]) else f"<br>n = {row['n']:.0f} in {row['families']:.0f} families"
    head = f"<b>step {row['step']}</b>, {row['tokens']:,} tokens"
    return f"{head}<br>{number(row['value'], share=share)} (95% interval {ends}){size}"
