"""Patch grids as heat maps: layers up, roles in prompt order, significant cells outlined, prompts on hover."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import SIDES
from mechdrift.report.drawing import HOVER, colour_bar, grid, need
from mechdrift.report.theme import DIVERGING, INK, OUTLINE, PAPER, QUIET
from mechdrift.report.words import (
    THINK_NAMES,
    dimension_name,
    interval,
    number,
    order_roles,
    p_value,
    role_name,
    shortened,
)
from mechdrift.statistics.grids import ALPHA

TOP_PROMPTS = 3
PROMPT_LENGTH = 50
FADED = 0.35

Moved = Mapping[tuple[int, str], str]
"""A line of text per (layer, role): the prompts whose readout moved most."""


def patch_grid(
    patch: pd.DataFrame, dimension: str, items: pd.DataFrame | None = None, prompts: Mapping[str, str] | None = None
) -> go.Figure:
    """One dimension's patch effects, layer by role, both ways side by side; significant cells (family-wise) outlined.

    `items` (the `patch_items` table) and `prompts` (item id to text) fill the hover boxes with the prompts that moved
    most. Every site and think mode has its row.
    """
    table = patch[patch.dimension == dimension]
    need(table, f"No patching was done for {dimension_name(dimension).lower()}.")
    parts = {side: list(table[table.donor == side].groupby(["site", "think"], sort=False)) for side in SIDES}
    parts = {side: grids for side, grids in parts.items() if grids}
    rows = max(len(grids) for grids in parts.values())
    titles = [_title(d, grids[r][1]) if r < len(grids) else "" for r in range(rows) for d, grids in parts.items()]
    figure = grid(rows, len(parts), titles, height=_height(table) * rows, shared_yaxes=True)
    moved = _most_moved(items, dimension, prompts or {})
    for column, (donor, grids) in enumerate(parts.items(), 1):
        for row, (_, part) in enumerate(grids, 1):
            _draw(figure, part, moved.get(donor, {}), row=row, col=column)
    limit = float(table.effect.abs().max()) or 1.0
    bar = colour_bar("effect<br>(log-odds)")
    colours = {"colorscale": DIVERGING, "cmin": -limit, "cmax": limit, "colorbar": bar}
    return figure.update_layout(coloraxis=colours, showlegend=False, margin_t=66)


def _title(donor: str, part: pd.DataFrame) -> str:
    """Which way, where, and how far the recipient's readout can be trusted."""
    way = "instruct → reasoning: restores?" if donor == "instruct" else "reasoning → instruct: breaks?"
    first = part.iloc[0]
    auroc = f"readout AUROC {number(first.auroc)} ({interval(first.auroc_low, first.auroc_high)})"
    return f"<b>{way}</b><br>{first.site}, {THINK_NAMES.get(first.think, first.think)}<br>{auroc}"


def _height(table: pd.DataFrame) -> int:
    return max(320, 150 + 13 * table.layer.nunique())


def _draw(figure: go.Figure, part: pd.DataFrame, moved: Moved, row: int, col: int) -> None:
    """Add the grid of one donor, site and think mode to a subplot."""
    roles, layers = order_roles(part.role), sorted(set(part.layer))
    reliable = bool(part.reliable.all())
    texts = {(r["layer"], r["role"]): _cell_text(r, moved) for r in part.to_dict("records")}
    figure.add_heatmap(
        z=_table(part, "effect", layers, roles),
        x=list(range(len(roles))),
        y=list(range(len(layers))),
        hovertext=[[texts.get((layer, role), "") for role in roles] for layer in layers],
        row=row,
        col=col,
        hovertemplate=HOVER,
        coloraxis="coloraxis",
        opacity=1 if reliable else FADED,
    )
    x, y = outline(_table(part, "p_adjusted", layers, roles) < ALPHA)
    line = {"color": OUTLINE, "width": 1.5}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", row=row, col=col)
    both = np.argwhere(_table(part, "both_ways", layers, roles) == 1)
    figure.add_scatter(
        x=both[:, 1],
        y=both[:, 0],
        mode="markers",
        marker={"size": 5, "color": OUTLINE},
        hoverinfo="skip",
        row=row,
        col=col,
    )
    _label_axes(figure, roles, layers, row=row, col=col)
    if not reliable:
        _overlay(figure, (len(roles) - 1) / 2, (len(layers) - 1) / 2, row=row, col=col)


def _table(part: pd.DataFrame, values: str, layers: list[int], roles: list[str]) -> np.ndarray:
    table = part.pivot_table(index="layer", columns="role", values=values, dropna=False)
    return table.reindex(index=layers, columns=roles).to_numpy(dtype=float)


def _label_axes(figure: go.Figure, roles: list[str], layers: list[int], **place: Any) -> None:
    """Cells sit at whole numbers, so that outlines can run between them; ticks name them."""
    every = max(1, len(layers) // 10)
    columns, rows = list(range(len(roles))), list(range(0, len(layers), every))
    quiet = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(tickvals=columns, ticktext=roles, tickangle=-40, **quiet, **place)
    figure.update_yaxes(tickvals=rows, ticktext=layers[::every], **quiet, **place)
    figure.update_xaxes(range=[-0.55, len(roles) - 0.45], **place)
    figure.update_yaxes(range=[-0.55, len(layers) - 0.45], **place)
    if place["col"] == 1:
        figure.update_yaxes(title_text="layer", **place)


def _overlay(figure: go.Figure, x: float, y: float, **place: Any) -> None:
    figure.add_annotation(
        text="<b>Unreliable readout</b><br>do not read this grid",
        x=x,
        y=y,
        showarrow=False,
        bgcolor=PAPER,
        bordercolor=QUIET,
        borderpad=8,
        font={"size": 14, "color": INK},
        **place,
    )


def outline(inside: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """The border of the marked cells as line segments: an edge is drawn where only one of its two cells is marked."""
    padded = np.pad(inside, 1)
    x: list[float | None] = []
    y: list[float | None] = []
    for row, column in np.argwhere(padded[1:, :] != padded[:-1, :]):
        x += [column - 1.5, column - 0.5, None]
        y += [row - 0.5, row - 0.5, None]
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        x += [column - 0.5, column - 0.5, None]
        y += [row - 1.5, row - 0.5, None]
    return x, y


def _cell_text(cell: Mapping[str, Any], moved: Moved) -> str:
    effect, low, high, gap = (number(cell[name], signed=True) for name in ("effect", "low", "high", "gap"))
    noise = pd.isna(cell["recovery"])
    recovery = "not shown (the gap is noise)" if noise else f"{number(cell['recovery'], share=True)} of {gap}"
    lines = [
        f"<b>layer {cell['layer']}, {html.escape(cell['role'])}</b>",
        html.escape(role_name(cell["role"])),
        f"effect {effect} ({low} to {high}, 95% band over all cells)",
        f"gap recovered: {recovery}",
        f"family-wise {p_value(cell['p_adjusted'])}; {cell['n']} prompts, {cell['families']} families",
        "carries the change both ways" if cell.get("both_ways") is True else "",
        moved.get((cell["layer"], cell["role"]), ""),
    ]
    return "<br>".join(line for line in lines if line)


def _most_moved(items: pd.DataFrame | None, dimension: str, prompts: Mapping[str, str]) -> dict[str, Moved]:
    """Per donor and (layer, role) the prompts whose readout moved most, as lines of a hover box."""
    if items is None:
        return {}
    rows = items[items.dimension == dimension]
    rows = rows.assign(size=rows.effect.abs()).sort_values("size", ascending=False)
    found: dict[str, dict[tuple[int, str], str]] = {}
    for (donor, layer, role), group in rows.groupby(["donor", "layer", "role"], sort=False):
        lines = [
            _moved_text(row.effect, prompts.get(row.item, row.item)) for row in group.head(TOP_PROMPTS).itertuples()
        ]
        found.setdefault(donor, {})[int(layer), role] = "<br>".join(["<i>moved most:</i>", *lines])
    return found


def _moved_text(effect: float, prompt: str) -> str:
    return f"{number(effect, signed=True)}  {html.escape(shortened(prompt, PROMPT_LENGTH))}"
