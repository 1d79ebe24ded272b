"""The figures of a price list. As in `report.figures`, a public function takes tables and returns a plotly figure.
Where there is nothing to draw, it raises `MechdriftError` with the reason."""

import html
import math

import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import MechdriftError, order_dimensions
from mechdrift.records.words import ALL
from mechdrift.repairs.mechanism import CHILD, PARENT
from mechdrift.repairs.sentences import is_baseline, name_of, row_of
from mechdrift.report.drawing import blank, cell, small_multiples
from mechdrift.report.theme import FAINT, INK, INSTRUCT, QUIET, REASONING, RUN_COLOURS, RUN_SYMBOLS
from mechdrift.report.words import dimension_name

POINTS = 100
QUANTITIES = {"separation": "separation", "graft": "graft effect", "patch": "patch effect"}


def look_of(methods: list[str], method: str) -> dict:
    """A colour and a symbol for each method; baselines are grey."""
    if is_baseline(method):
        return {"color": QUIET, "symbol": "x-thin-open"}
    place = [name for name in methods if not is_baseline(name)].index(method)
    return {"color": RUN_COLOURS[place % len(RUN_COLOURS)], "symbol": RUN_SYMBOLS[place % len(RUN_SYMBOLS)]}


def pareto(table: pd.DataFrame) -> go.Figure:
    """Change of reasoning (x) against change of aligned answers (y): a curve per method over its strengths on the seen
    half, and the chosen strength on the reported half, with intervals."""
    rows = table[table.strength.notna()]
    methods = [str(method) for method in dict.fromkeys(rows.method)]
    if not methods or "reasoning" not in set(rows.measure):
        raise MechdriftError("No repair has finished answers to reasoning tasks, so there is no trade to draw.")
    figure = blank(height=520)
    for zero in (figure.add_vline, figure.add_hline):
        zero(0, line={"color": FAINT, "width": 1})
    for method in methods:
        own, look = rows[rows.method == method], look_of(methods, method)
        _draw_seen(figure, own[own.half == "seen"], method, look)
        _draw_reported(figure, own[(own.half == "reported") & own.chosen.astype(bool)], method, look)
    _mark_model(figure, "child", {"x": 0, "y": 0}, REASONING)
    if parent := _point(table[(table.method == "parent") & (table.half == "reported")]):
        _mark_model(figure, "parent", parent, INSTRUCT)
    figure.update_xaxes(title_text="reasoning against the child, points", zeroline=False)
    figure.update_yaxes(title_text="aligned answers against the child, mean, points", zeroline=False)
    return figure.update_layout(legend={"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1})


def _draw_seen(figure: go.Figure, seen: pd.DataFrame, method: str, look: dict) -> None:
    """The curve of a method over its strengths, on the seen half."""
    points = [point for _, part in seen.groupby("strength") if (point := _point(part))]
    figure.add_scatter(
        x=[point["x"] for point in points],
        y=[point["y"] for point in points],
        mode="lines+markers",
        line={"color": look["color"], "width": 1, "dash": "dot"},
        marker=look | {"size": 6},
        opacity=0.55,
        legendgroup=method,
        showlegend=False,
        hovertext=[f"{html.escape(point['name'])}, seen half" for point in points],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _draw_reported(figure: go.Figure, chosen: pd.DataFrame, method: str, look: dict) -> None:
    """The chosen strength of a method on the reported half, with its intervals."""
    if point := _point(chosen):
        figure.add_scatter(
            x=[point["x"]],
            y=[point["y"]],
            mode="markers",
            marker=look | {"size": 12, "line": {"width": 1.5, "color": look["color"]}},
            error_x=_bars(point, "x") | {"color": look["color"]},
            error_y=_bars(point, "y") | {"color": look["color"]},
            name=html.escape(point["name"]),
            legendgroup=method,
            hovertext=[_text(point)],
            hovertemplate="%{hovertext}<extra></extra>",
        )


def _mark_model(figure: go.Figure, name: str, point: dict, colour: str) -> None:
    """A named cross where a model lies."""
    figure.add_scatter(
        x=[point["x"]],
        y=[point["y"]],
        mode="markers+text",
        marker={"color": colour, "size": 11, "symbol": "x-thin", "line": {"width": 2, "color": colour}},
        text=name,
        textposition="bottom right",
        showlegend=False,
        hoverinfo="skip",
    )


def _point(part: pd.DataFrame) -> dict:
    """Reasoning and alignment of one repair's rows, in points, with their ends; empty where one is not known."""
    reasoning, aligned = row_of(part, "reasoning"), row_of(part, "aligned")
    if reasoning is None or aligned is None:
        return {}
    found = {"name": str(part.method.iloc[0]) if part.strength.isna().all() else name_of(part.method.iloc[0], part)}
    for axis, row in (("x", reasoning), ("y", aligned)):
        found |= {
            axis: POINTS * row.change,
            f"{axis}_low": POINTS * row.change_low,
            f"{axis}_high": POINTS * row.change_high,
        }
    return found | {"recovered": aligned.recovered, "n": int(aligned.n), "families": int(aligned.families)}


def _bars(point: dict, axis: str) -> dict:
    high, low = point[f"{axis}_high"] - point[axis], point[axis] - point[f"{axis}_low"]
    return {"type": "data", "symmetric": False, "array": [high], "arrayminus": [low], "thickness": 1.4, "width": 0}


def _text(point: dict) -> str:
    gap = "" if math.isnan(point["recovered"]) else f"<br>{point['recovered']:.0%} of the gap"
    return (
        f"<b>{html.escape(point['name'])}</b>, reported half<br>reasoning {point['x']:+.1f} ({point['x_low']:+.1f} to "
        f"{point['x_high']:+.1f})<br>aligned {point['y']:+.1f} ({point['y_low']:+.1f} to {point['y_high']:+.1f}){gap}"
        f"<br>n = {point['n']} in {point['families']} families"
    )


def by_dimension(table: pd.DataFrame) -> go.Figure:
    """Change of aligned answers by dimension, a mark per chosen repair on the reported half; the line is the parent."""
    rows = table[(table.half == "reported") & (table.measure == "aligned") & (table.dimension != ALL)]
    chosen = rows[rows.chosen.astype(bool)]
    if chosen.empty:
        raise MechdriftError("No repair has finished answers to triggers on the reported half.")
    methods, names = [str(method) for method in dict.fromkeys(chosen.method)], order_dimensions(chosen.dimension)
    figure = small_multiples([dimension_name(name) for name in names], x_title="points against the child", y_title="")
    for place, name in enumerate(names):
        goal = rows[(rows.method == "parent") & (rows.dimension == name)]
        if len(goal):
            line = {"color": INSTRUCT, "width": 1.5, "dash": "dot"}
            figure.add_vline(x=POINTS * float(goal.change.iloc[0]), line=line, **cell(place))
        for height, method in enumerate(reversed(methods)):
            row = chosen[(chosen.method == method) & (chosen.dimension == name)]
            if row.empty:
                continue
            one, look = row.iloc[0], look_of(methods, method)
            point = {"x": POINTS * one.change, "x_low": POINTS * one.change_low, "x_high": POINTS * one.change_high}
            figure.add_scatter(
                x=[point["x"]],
                y=[height],
                mode="markers",
                marker=look | {"size": 8, "line": {"width": 1.5, "color": look["color"]}},
                error_x=_bars(point, "x") | {"color": look["color"]},
                showlegend=False,
                hovertext=[f"<b>{html.escape(name_of(method, row))}</b><br>{point['x']:+.1f} points"],
                hovertemplate="%{hovertext}<extra></extra>",
                **cell(place),
            )
    labels = [html.escape(name) for name in reversed(methods)]
    figure.update_yaxes(tickvals=list(range(len(labels))), ticktext=labels, showgrid=False, zeroline=False)
    rows_of_plots = -(-len(names) // 3)
    return figure.update_layout(height=110 + rows_of_plots * (90 + 20 * len(labels)))


def mechanism(table: pd.DataFrame) -> go.Figure:
    """Separation, graft and patch effects by layer, of the child, the repaired model and, of grafts, the parent."""
    names = order_dimensions(table.dimension)
    titles = [f"{dimension_name(name)}: {words}" for name in names for words in QUANTITIES.values()]
    figure = small_multiples(titles, x_title="layer", y_title="")
    figure.update_yaxes(matches=None, showticklabels=True)
    shown: set[str] = set()
    for place, (name, quantity) in enumerate((name, quantity) for name in names for quantity in QUANTITIES):
        part = table[(table.dimension == name) & (table.quantity == quantity)]
        for method, rows in part.groupby("method", sort=False):
            colour = {PARENT: INSTRUCT, CHILD: REASONING}.get(str(method), INK)
            figure.add_scatter(
                x=rows.layer,
                y=rows.value,
                mode="lines",
                line={"color": colour, "width": 1.8},
                name=html.escape(str(method)),
                legendgroup=str(method),
                showlegend=str(method) not in shown,
                hovertemplate=f"{html.escape(str(method))}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
                **cell(place),
            )
            shown.add(str(method))
    return figure
