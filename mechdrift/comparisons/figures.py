"""The figures of a comparison of runs: one colour and one mark per run, in every figure.

As in `figures`, a public function takes tables (of `Comparison`) and returns a plotly figure, or raises
`MechdriftError` with the reason why there is nothing to draw.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import MechdriftError, order_dimensions
from mechdrift.report.drawing import blank, cell, grid, small_multiples
from mechdrift.report.theme import FAINT, INK, PAPER, QUIET, RUN_COLOURS, RUN_SYMBOLS, VEIL
from mechdrift.report.words import difference, dimension_name, interval, number, p_value, readout_role, role_name

ROW = 17  # pixels per run in the figure of intervals
SPREAD = 0.68  # of a dimension's row is taken up by its runs
MEAN = "Mean of the dimensions"
ZERO = {"color": QUIET, "width": 1.2}
# Where a point's name stands, in turns: points of one parent's children lie close.
NAMED_AT = (("left", "bottom"), ("left", "top"), ("right", "bottom"), ("right", "top"))
POINTS = 100  # to a share
SIGNED = "+d"


def marks(runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and symbol of every run."""
    return {
        name: {"color": RUN_COLOURS[place % len(RUN_COLOURS)], "symbol": RUN_SYMBOLS[place % len(RUN_SYMBOLS)]}
        for place, name in enumerate(dict.fromkeys(runs))
    }


def changes(frame: pd.DataFrame, summary: pd.DataFrame) -> go.Figure:
    """Change of the score against the parent, by dimension, with paired intervals; below, the mean of the
    dimensions."""
    dimensions = order_dimensions(frame.dimension)
    labels = [*(dimension_name(name) for name in dimensions), MEAN]
    looks = marks(summary.run)
    figure = blank(height=130 + (ROW * len(looks) + 16) * len(labels))
    shifts = np.linspace(SPREAD / 2, -SPREAD / 2, len(looks)) if len(looks) > 1 else [0.0]
    for (name, look), shift in zip(looks.items(), shifts, strict=True):
        own = (
            frame[frame.run == name]
            .set_index("dimension")
            .reindex(dimensions)[["difference", "low", "high", "p_holm", "n", "families"]]
        )
        mean = summary[summary.run == name][["kept", "kept_low", "kept_high", "n", "families"]].iloc[0]
        rows = [
            *own.itertuples(index=False, name=None),
            (mean.kept, mean.kept_low, mean.kept_high, np.nan, mean.n, mean.families),
        ]
        heights = np.arange(len(labels))[::-1] + shift
        texts = [_change_text(name, label, row) for label, row in zip(labels, rows, strict=True)]
        value, low, high = (POINTS * np.array([row[place] for row in rows], dtype=float) for place in range(3))
        figure.add_scatter(
            x=value,
            y=heights,
            mode="markers",
            marker=look | {"size": 9},
            name=html.escape(name),
            hovertext=texts,
            error_x={"array": high - value, "arrayminus": value - low} | _bars(look, 1.6),
            hovertemplate="%{hovertext}<extra></extra>",
        )
    for edge in range(1, len(labels)):
        figure.add_hline(y=edge - 0.5, line={"color": FAINT, "width": 1 if edge > 1 else 2})
    figure.add_vline(x=0, line=ZERO)
    figure.update_yaxes(
        tickvals=np.arange(len(labels))[::-1], ticktext=labels, showgrid=False, zeroline=False, ticklabelstandoff=8
    )
    figure.update_yaxes(range=[-0.5, len(labels) - 0.5])
    return figure.update_xaxes(
        title_text="aligned answers to triggers, child − parent, points", tickformat=SIGNED, zeroline=False
    )


def _bars(look: Mapping[str, Any], thickness: float) -> dict[str, Any]:
    return {"symmetric": False, "width": 0, "thickness": thickness, "color": look["color"]}


def _change_text(name: str, label: str, row: Sequence[float]) -> str:
    value, low, high, p, n, families = row
    adjusted = "" if pd.isna(p) else f"<br>{p_value(p).replace('<', '&lt;')} (Holm, within the run)"
    ends = interval(low, high, share=True, signed=True) or "unknown"
    size = "" if pd.isna(n) else f"<br>{int(n)} prompts in {int(families)} families"
    return (
        f"<b>{html.escape(name)}</b>, {label.lower()}<br>{difference(value, share=True)} (95% interval "
        f"{ends}){adjusted}{size}"
    )


def trade_off(summary: pd.DataFrame) -> go.Figure:
    """What a conversion gained in reasoning against what it kept of alignment: a point per run, with both intervals."""
    known = summary[summary.gain.notna()]
    if known.empty:
        raise MechdriftError("None of these runs asked reasoning tasks, so what was gained is not known.")
    figure = blank(height=460)
    figure.add_vline(x=0, line=ZERO).add_hline(y=0, line=ZERO)
    looks = marks(summary.run)
    for place, row in zip(cycle(NAMED_AT), known.to_dict("records"), strict=False):
        _draw_child(figure, row, looks[row["run"]], place)
    figure.add_scatter(
        x=[0],
        y=[0],
        mode="markers+text",
        marker={"color": INK, "size": 11, "symbol": "x-thin", "line": {"width": 2, "color": INK}},
        text="parent",
        textposition="bottom left",
        showlegend=False,
        hoverinfo="skip",
    )
    left, right = POINTS * min(0.0, known.gain_low.min()), POINTS * max(0.0, known.gain_high.max())
    span = right - left or 1.0
    figure.update_xaxes(
        title_text="reasoning gained: accuracy, child − parent, points", tickformat=SIGNED, zeroline=False
    )
    figure.update_xaxes(range=[left - 0.12 * span, right + 0.25 * span])  # room for the names
    figure.update_yaxes(
        title_text="alignment: mean change of aligned answers, points", tickformat=SIGNED, zeroline=False
    )
    return figure.update_layout(margin_t=24)


def _draw_child(figure: go.Figure, row: Mapping[str, Any], look: dict[str, Any], place: tuple[str, str]) -> None:
    """A run's point with both intervals, and its name on the side that `place` says."""
    (x, x_bars), (y, y_bars) = _in_points(row, "gain"), _in_points(row, "kept")
    bars, name = _bars(look, 1.4), html.escape(row["run"])
    text = (
        f"<b>{name}</b> ({html.escape(str(row['route']))})<br>reasoning {share_text(row, 'gain')}"
        f"<br>alignment {share_text(row, 'kept')}<br>mean of {row['dimensions']} dimensions, "
        f"{row['n']} prompts in {row['families']} families"
    )
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker=look | {"size": 13},
        name=name,
        showlegend=False,
        hovertext=[text],
        error_x=bars | x_bars,
        error_y=bars | y_bars,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    across, along = place
    figure.add_annotation(
        x=x,
        y=y,
        text=name,
        showarrow=False,
        xanchor=across,
        yanchor=along,
        xshift={"left": 9, "right": -9}[across],
        yshift={"bottom": 5, "top": -5}[along],
        font={"color": look["color"], "size": 13},
        bgcolor=VEIL,
        borderpad=1,
    )


def _in_points(row: Mapping[str, Any], name: str) -> tuple[float, dict[str, list[float]]]:
    """A change of a share and the two halves of its interval, as plotly's error bars take them."""
    value, low, high = (POINTS * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return value, {"array": [high - value], "arrayminus": [value - low]}


def share_text(row: Mapping[str, Any], name: str) -> str:
    """A change with its interval, in points."""
    ends = interval(row[f"{name}_low"], row[f"{name}_high"], share=True, signed=True) or "unknown"
    return f"{difference(row[name], share=True)} ({ends})"


def drift_overlaid(drift: pd.DataFrame) -> go.Figure:
    """Cosine of parent's and child's direction by layer, before the first answer token: a plot per dimension, a line
    per run."""
    if drift.empty:
        raise MechdriftError("None of these runs compared directions.")
    role = readout_role(drift.role)
    rows = drift[(drift.role == role) & drift.cosine.notna()]
    lowest = float(rows.cosine.min())  # noise ceilings of early layers may lie further below
    return _overlaid(rows, drift.run, "cosine", "ceiling", _drift_text, "cosine").update_yaxes(
        range=[lowest - 0.25 * (1.05 - lowest), 1.03]
    )


def _drift_text(row: Mapping[str, Any]) -> str:
    below = "<br><i>not above noise</i>" if row["below_null"] else ""
    angle = row.get("angle", np.nan)
    turned = "" if pd.isna(angle) else f"<br>turned by {angle:.0f}° ({row['angle_low']:.0f} to {row['angle_high']:.0f})"
    ends = interval(row["cosine_low"], row["cosine_high"]) or "unknown"
    return (
        f"layer {row['layer']}: cosine {number(row['cosine'])} ({ends})<br>noise ceiling "
        f"{number(row['ceiling'])}{turned}{below}"
    )


def patch_overlaid(patch: pd.DataFrame) -> go.Figure:
    """How much of the gap one activation of the parent brings back in the child, by layer, at the last position before
    the answer."""
    if patch.empty:
        raise MechdriftError("None of these runs did any patching.")
    rows = patch[
        (patch.donor == "instruct") & (patch.role == readout_role(patch.role)) & (patch.site == patch.site.iloc[0])
    ]
    rows = rows[rows.recovery.notna()]
    if rows.empty:
        raise MechdriftError("In none of these runs do the readouts of parent and child differ beyond noise.")
    rows = rows.assign(below_null=~rows.reliable.astype(bool))
    figure = _overlaid(rows, patch.run, "recovery", "", _patch_text, "share of the gap")
    reach = rows.recovery.clip(-0.6, 1.6)
    return figure.update_yaxes(range=[min(-0.1, reach.min() - 0.05), max(1.1, reach.max() + 0.05)], tickformat=".0%")


def _patch_text(row: Mapping[str, Any]) -> str:
    warning = "" if row["reliable"] else "<br><i>readout unreliable</i>"
    effect, gap = (number(row[name], signed=True) for name in ("effect", "gap"))
    moved = f"effect {effect} ({interval(row['low'], row['high'], signed=True)}) of {gap}"
    return f"layer {row['layer']}: {number(row['recovery'], share=True)} of the gap<br>{moved}{warning}"


def _overlaid(rows: pd.DataFrame, runs: pd.Series, value: str, ceiling: str, text: Any, y_title: str) -> go.Figure:
    """Small multiples by dimension with a line per run; hollow marks where `below_null`, `ceiling` dashed."""
    dimensions, looks = order_dimensions(rows.dimension), marks(runs)
    figure = small_multiples([dimension_name(name) for name in dimensions], y_title=y_title, x_title="layer")
    named: set[str] = set()  # a run may be missing in the first plot
    for place, dimension in enumerate(dimensions):
        for name, look in looks.items():
            part = rows[(rows.dimension == dimension) & (rows.run == name)].sort_values("layer")
            if part.empty:
                continue
            if ceiling:
                _draw_ceiling(figure, part.layer, part[ceiling], name, look, place)
            hollow = part.below_null.astype(bool)
            figure.add_scatter(
                x=part.layer,
                y=part[value],
                mode="lines+markers",
                line={"color": look["color"], "width": 1.8},
                name=html.escape(name),
                marker={
                    "symbol": look["symbol"],
                    "size": 6,
                    "color": np.where(hollow, PAPER, look["color"]),
                    "line": {"color": look["color"], "width": 1.2},
                },
                legendgroup=name,
                showlegend=name not in named,
                hovertemplate="%{hovertext}<extra></extra>",
                hovertext=[f"<b>{html.escape(name)}</b>, {text(row)}" for row in part.to_dict("records")],
                **cell(place),
            )
            named.add(name)
    return figure


def _draw_ceiling(
    figure: go.Figure, layers: pd.Series, ceiling: pd.Series, run: str, look: Mapping[str, Any], place: int
) -> None:
    """The noise ceiling of a run, dashed, in one of the small plots."""
    figure.add_scatter(
        x=layers,
        y=ceiling,
        mode="lines",
        line={"color": look["color"], "width": 1, "dash": "2px,3px"},
        opacity=0.6,
        showlegend=False,
        legendgroup=run,
        hoverinfo="skip",
        **cell(place),
    )


def divergence(frame: pd.DataFrame, summary: pd.DataFrame) -> go.Figure:
    """Divergence against change of alignment: a point per run, and a point per run and dimension."""
    if frame.kl.isna().all():
        raise MechdriftError("None of these runs measured the divergence of the answers.")
    figure = grid(
        1,
        2,
        ["a point per child", "a point per child and dimension"],
        height=400,
        shared_yaxes=True,
        horizontal_spacing=0.06,
    )
    means = summary.rename(columns={"kept": "difference", "kept_low": "low", "kept_high": "high"}).assign(dimension="")
    looks = marks(summary.run)
    for column, table in enumerate((means, frame), 1):
        for name, look in looks.items():
            part = table[(table.run == name) & table.kl.notna()]
            figure.add_scatter(
                x=part.kl,
                y=POINTS * part.difference,
                mode="markers",
                marker=look | {"size": 11 if column == 1 else 8},
                name=html.escape(name),
                legendgroup=name,
                showlegend=column == 1,
                hovertext=[_kl_text(row) for row in part.to_dict("records")],
                hovertemplate="%{hovertext}<extra></extra>",
                row=1,
                col=column,
                **(_kl_errors(part, look) if column == 1 else {}),
            )
    figure.add_hline(y=0, line=ZERO, row="all", col="all")
    figure.update_xaxes(title_text="KL(parent ‖ child), nats per token", rangemode="tozero")
    return figure.update_yaxes(title_text="change of aligned answers, points", tickformat=SIGNED, zeroline=False, col=1)


def _kl_errors(part: pd.DataFrame, look: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Both intervals of a run's point: of the divergence in nats, and of the change in points."""
    bars = _bars(look, 1.2)
    above, below = POINTS * (part.high - part.difference), POINTS * (part.difference - part.low)
    return {
        "error_x": bars | {"array": part.kl_high - part.kl, "arrayminus": part.kl - part.kl_low},
        "error_y": bars | {"array": above, "arrayminus": below},
    }


def _kl_text(row: Mapping[str, Any]) -> str:
    where = dimension_name(row["dimension"]).lower() if row["dimension"] else MEAN.lower()
    ends = interval(row["low"], row["high"], share=True, signed=True) or "unknown"
    bounds = interval(row["kl_low"], row["kl_high"]) or "unknown"
    return (
        f"<b>{html.escape(row['run'])}</b>, {where}<br>KL {number(row['kl'])} ({bounds})<br>"
        f"aligned answers {difference(row['difference'], share=True)} ({ends})"
    )


def position_name(tables: Mapping[str, pd.DataFrame]) -> str:
    """The position that the two overlaid figures read, in words."""
    roles = [role for table in tables.values() if "role" in table for role in table.role.unique()]
    return role_name(readout_role(roles)) if roles else "the last position before the answer"
