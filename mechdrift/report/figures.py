"""One public function per figure: tables of a run in, a plotly figure out.

    figures.direction_drift(run.table("drift")).show()

A function whose table has no row it could draw raises `MechdriftError` with the reason; the page prints that sentence
in the figure's place. Text from models and prompts reaches plotly's hover boxes only through `html.escape`.
"""

import html
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdrift.behaviour.censoring import finished_only
from mechdrift.behaviour.verdicts import headline_rows, reasoning_rows
from mechdrift.records import SIDES, MechdriftError, order_dimensions
from mechdrift.report import figures_patches as heatmaps
from mechdrift.report.drawing import SIDE_COLUMNS, band, blank, cell, dumbbells, grid, small_multiples, with_menu
from mechdrift.report.theme import DIVERGING, FAINT, PAPER, QUIET, REASONING, SEQUENTIAL, TEMPLATE
from mechdrift.report.words import dimension_name, number, order_roles, readout_role, role_name

ROW_HEIGHT = 46
DASHED = {"color": QUIET, "width": 1.4, "dash": "4px,3px"}


def scores_side_by_side(scores: pd.DataFrame) -> go.Figure:
    """Both models' headline score per dimension and their accuracy on reasoning tasks, most changed first."""
    rows = pd.concat([headline_rows(scores), reasoning_rows(scores)])
    _need(rows, "The scores hold no headline row.")
    figure = blank(height=110 + ROW_HEIGHT * len(rows))
    dumbbells(figure, rows.assign(label=rows.dimension.map(dimension_name)))
    return figure.update_xaxes(title_text="share of answers", range=[-0.01, 1.01], tickformat=".0%")


def signal_detection(scores: pd.DataFrame) -> go.Figure:
    """Discrimination d′ and criterion c of both models, for the dimensions that have them (safety)."""
    titles = {"d_prime": "d′: can it tell them apart?", "criterion": "criterion c: where is its line?"}
    return _paired(scores, titles, "The scores hold no d′ and no criterion.").update_xaxes(rangemode="tozero")


def missed_and_over(scores: pd.DataFrame) -> go.Figure:
    """The two ways to fail: misaligned on trigger prompts (missed), misaligned on neutral ones (over-cautious)."""
    titles = {"missed": "missed (trigger prompts)", "over": "over-cautious (neutral prompts)"}
    figure = _paired(scores, titles, "The scores hold no rates of missed and over-cautious answers.")
    return figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])


def direction_drift(drift: pd.DataFrame) -> go.Figure:
    """Cosine between the two models' directions by layer, one small plot per dimension; a menu chooses the role."""
    _need(drift, "The drift table is empty.")
    dimensions, roles = order_dimensions(drift.dimension), order_roles(drift.role)
    chosen = readout_role(roles)
    figure = small_multiples([dimension_name(d) for d in dimensions], y_title="cosine", x_title="layer")
    shown: list[str] = []
    for place, dimension in enumerate(dimensions):
        for role in roles:
            part = drift[(drift.dimension == dimension) & (drift.role == role)].sort_values("layer")
            traces = _drift_traces(part, legend=place == 0) if len(part) else []
            for trace in traces:
                figure.add_trace(trace.update(visible=role == chosen), **cell(place))
            shown += [role] * len(traces)
    figure.update_yaxes(range=[min(0.0, float(drift.cosine_low.min())) - 0.05, 1.05])
    words = {role: f"read at {role}" for role in roles}
    return with_menu(figure, "Token at which the models are read", words, shown, chosen)


def patch_grid(
    patch: pd.DataFrame, dimension: str, items: pd.DataFrame | None = None, prompts: Mapping[str, str] | None = None
) -> go.Figure:
    """One dimension's patch effects, layer by role, both ways side by side; significant cells (family-wise) outlined.

    `items` (the `patch_items` table) and `prompts` (item id to text) fill the hover boxes with the prompts that moved
    most. Every site and think mode has its row.
    """
    table = patch[patch.dimension == dimension]
    _need(table, f"No patching was done for {dimension_name(dimension).lower()}.")
    parts = {side: list(table[table.donor == side].groupby(["site", "think"], sort=False)) for side in SIDES}
    parts = {side: found for side, found in parts.items() if found}
    rows = max(len(found) for found in parts.values())
    titles = [heatmaps.title(d, part[r][1]) if r < len(part) else "" for r in range(rows) for d, part in parts.items()]
    figure = grid(rows, len(parts), titles, height=heatmaps.height(table) * rows, shared_yaxes=True)
    moved = heatmaps.most_moved(items, dimension, prompts or {})
    for column, (donor, found) in enumerate(parts.items(), 1):
        for row, (_, part) in enumerate(found, 1):
            heatmaps.draw(figure, part, moved.get(donor, {}), row=row, col=column)
    limit = float(table.effect.abs().max()) or 1.0
    bar = {"title": {"text": "effect<br>(log-odds)", "font": {"size": 12}}, "thickness": 12, "outlinewidth": 0}
    colours = {"colorscale": DIVERGING, "cmin": -limit, "cmax": limit, "colorbar": bar}
    return figure.update_layout(coloraxis=colours, showlegend=False, margin_t=66)


def kl_by_position(kl: pd.DataFrame, tokens: pd.DataFrame | None = None) -> go.Figure:
    """Divergence of the answers by token position, one small plot per dimension; with `tokens`, the mean over all
    tokens in its title."""
    _need(kl, "The divergence table is empty.")
    dimensions = order_dimensions(kl.dimension)
    means, largest = {} if tokens is None else mean_kl(tokens), _largest_token(tokens)
    titles = [dimension_name(d) + (f" · mean {number(means[d])}" if d in means else "") for d in dimensions]
    figure = small_multiples(titles, y_title="KL (nats)", x_title="answer token")
    for place, dimension in enumerate(dimensions):
        part = kl[kl.dimension == dimension].sort_values("position")
        for trace in _kl_traces(part, largest.get(dimension, {}), legend=place == 0):
            figure.add_trace(trace, **cell(place))
    return figure.update_yaxes(range=[0, 1.1 * _highest(kl)])


def _highest(kl: pd.DataFrame) -> float:
    """The top of the plots. All lines fit in, and nine in ten bands; a few bands may be many times as high."""
    return float(max(kl.kl.max(), kl.kl_reverse.max(), kl.high.quantile(0.9))) or 1.0


def weight_change(weights: pd.DataFrame) -> go.Figure:
    """Relative change of the weights: per layer on top, per layer and module below."""
    # Modules that training left alone (norms, with most adapters) would only push the others apart.
    changed = weights[weights.change > 0]
    _need(changed, "No weight differs between the two models.")
    total = layer_totals(weights[weights.layer.isin(changed.layer)])
    table = changed.pivot_table(index="module", columns="layer", values="change")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.38, 0.62], vertical_spacing=0.07)
    figure.update_layout(template=TEMPLATE, height=250 + 24 * len(table), showlegend=False, margin_t=16)
    hover = "layer %{x}: %{y:.2%}<extra></extra>"
    figure.add_bar(x=total.layer, y=total.change, marker_color=QUIET, hovertemplate=hover, row=1, col=1)
    figure.add_heatmap(
        z=table.to_numpy(),
        x=list(table.columns),
        y=list(table.index),
        xgap=1,
        ygap=1,
        row=2,
        col=1,
        colorscale=SEQUENTIAL,
        zmin=0,
        zmax=float(changed.change.max()),
        colorbar={"tickformat": ".2~%", "thickness": 12, "outlinewidth": 0, "y": 0.29, "len": 0.62},
        hovertemplate="layer %{x}, %{y}: %{z:.2%}<extra></extra>",
    )
    ticks = [layer for layer in total.layer if layer == -1 or layer % 5 == 0]
    names = ["outside" if layer == -1 else str(layer) for layer in ticks]
    figure.update_yaxes(tickformat=".2~%", title_text="whole layer", row=1, col=1).update_yaxes(ticklabelstandoff=6)
    figure.update_xaxes(showgrid=False, tickvals=ticks, ticktext=names)
    return figure.update_xaxes(title_text="layer", row=2, col=1)


def task_accuracy(tasks: pd.DataFrame) -> go.Figure:
    """Accuracy of both models per kind of reasoning task, largest gain first, with Wilson intervals."""
    tasks = finished_only(tasks)
    _need(tasks, "No reasoning task was answered to its end.")
    rows: dict[str, dict[str, Any]] = {}
    for (kind, side), correct in tasks.groupby(["kind", "side"], sort=False).correct:
        low, high = wilson(int(correct.sum()), len(correct))
        row = rows.setdefault(kind, {"label": kind.replace("_", " "), "metric": "accuracy", "n": len(correct)})
        row |= {side: correct.mean(), f"{side}_low": low, f"{side}_high": high}
    table = pd.DataFrame(rows.values()).reindex(columns=["label", "metric", "n", *SIDE_COLUMNS])
    gain = (table.reasoning - table.instruct).sort_values(ascending=False, kind="stable")
    figure = blank(height=110 + 32 * len(table))
    dumbbells(figure, table.loc[gain.index])
    return figure.update_xaxes(title_text="share of correct answers", tickformat=".0%", range=[-0.02, 1.02])


def mean_kl(tokens: pd.DataFrame) -> dict[str, float]:
    """Mean divergence per answer token and dimension, over all tokens."""
    return tokens.groupby("dimension").kl.mean().to_dict()


def layer_totals(weights: pd.DataFrame) -> pd.DataFrame:
    """Change per layer over its modules. `norm` holds squared norms, so squares add up (`pairs.weight_change`)."""
    squares = weights.assign(squared=weights.change**2 * weights.norm)
    sums = squares.groupby("layer", as_index=False)[["squared", "norm"]].sum()
    return sums.assign(change=(sums.squared / sums.norm.clip(lower=1e-30)) ** 0.5)[["layer", "change"]]


def wilson(hits: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share, which stays within 0 and 1 for the few tasks there are of a kind."""
    share, scale = hits / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def _need(rows: pd.DataFrame, otherwise: str) -> None:
    if rows.empty:
        raise MechdriftError(otherwise)


def _paired(scores: pd.DataFrame, titles: Mapping[str, str], otherwise: str) -> go.Figure:
    """Two metrics next to each other, one line per dimension that has either."""
    rows = scores[scores.metric.isin(titles)]
    _need(rows, otherwise)
    order = order_dimensions(rows.dimension)
    height = 140 + ROW_HEIGHT * len(order)
    figure = grid(1, len(titles), list(titles.values()), height=height, shared_yaxes=True)
    for column, metric in enumerate(titles, 1):
        part = rows[rows.metric == metric].set_index("dimension").reindex(order)
        part = part.assign(label=[dimension_name(d) for d in order], metric=metric)
        dumbbells(figure, part, legend=column == 1, row=1, col=column)
    return figure


def _drift_traces(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
    """Interval band, noise ceiling, and the cosine, whose points are grey where the direction is not above noise."""
    grey = part.below_null.astype(bool)
    marker = {
        "size": 6,
        "color": np.where(grey, PAPER, REASONING),
        "line": {"color": np.where(grey, FAINT, REASONING), "width": 1.2},
    }
    ceiling = go.Scatter(
        x=part.layer,
        y=part.ceiling,
        mode="lines",
        line=DASHED,
        name="noise ceiling",
        legendgroup="ceiling",
        showlegend=legend,
        hoverinfo="skip",
    )
    cosine = go.Scatter(
        x=part.layer,
        y=part.cosine,
        mode="lines+markers",
        line={"color": FAINT, "width": 1.5},
        marker=marker,
        name="cosine (hollow: not above noise)",
        legendgroup="cosine",
        showlegend=legend,
        hovertext=[_drift_text(row) for row in part.to_dict("records")],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    return [band(part.layer, part.cosine_low, part.cosine_high, legend), ceiling, cosine]


def _drift_text(row: Mapping[str, Any]) -> str:
    lines = [
        f"<b>layer {row['layer']}</b>, {html.escape(role_name(row['role']))}",
        f"cosine {number(row['cosine'])} ({number(row['cosine_low'])} to {number(row['cosine_high'])})",
        f"noise ceiling {number(row['ceiling'])}, cosine over ceiling {number(row['cosine_over_ceiling'])}",
        f"angle {row['angle_degrees']:.0f}°{_without_noise(row)}, length ratio {number(row['norm_ratio'])}",
        "AUROC (can the direction tell trigger from neutral?)",
        f"at home: instruct {number(row['auroc_instruct'])}, reasoning {number(row['auroc_reasoning'])}",
        f"in the other model: to reasoning {number(row['auroc_transfer_to_reasoning'])}, to instruct "
        f"{number(row['auroc_transfer_to_instruct'])}",
    ]
    return "<br>".join([*lines, "<i>not above noise</i>"] if row["below_null"] else lines)


def _without_noise(row: Mapping[str, Any]) -> str:
    """The angle with its interval; runs of earlier versions have none."""
    if pd.isna(row.get("angle_low", math.nan)):
        return ""
    return f" (without noise {row['angle']:.0f}°, {row['angle_low']:.0f} to {row['angle_high']:.0f}°)"


def _kl_traces(part: pd.DataFrame, largest: Mapping[int, str], legend: bool) -> list[go.Scatter]:
    """Interval band, the reverse divergence, and the divergence with the token behind its peak in the hover box."""
    reverse = go.Scatter(
        x=part.position,
        y=part.kl_reverse,
        mode="lines",
        line=DASHED,
        name="the other way round",
        legendgroup="reverse",
        showlegend=legend,
        hoverinfo="skip",
    )
    texts = [
        f"<b>answer token {r.position}</b><br>KL {number(r.kl)} ({number(r.low)} to {number(r.high)})<br>"
        f"the other way round {number(r.kl_reverse)}<br>{r.n} prompts{largest.get(r.position, '')}"
        for r in part.itertuples()
    ]
    line = go.Scatter(
        x=part.position,
        y=part.kl,
        mode="lines",
        line={"color": REASONING, "width": 2},
        legendgroup="kl",
        name="KL(instruct ‖ reasoning)",
        showlegend=legend,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    return [band(part.position, part.low, part.high, legend), reverse, line]


def _largest_token(tokens: pd.DataFrame | None) -> dict[str, dict[int, str]]:
    """Per dimension and position the token at which the models diverge most."""
    if tokens is None or tokens.empty:
        return {}
    known = tokens[tokens.kl.notna()]
    found: dict[str, dict[int, str]] = {}
    for row in known.loc[known.groupby(["dimension", "position"]).kl.idxmax()].itertuples():
        text = f"<br>largest: “{html.escape(row.token)}” ({number(row.kl)})"
        found.setdefault(row.dimension, {})[row.position] = text
    return found
