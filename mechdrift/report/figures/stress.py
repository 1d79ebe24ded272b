"""The figures of a stress test: the lift of every mode in every dimension, its dose curves, and what it does inside."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import SIDES, MechdriftError, order_dimensions
from mechdrift.report.drawing import HOVER, band, blank, cell, error_bars, small_multiples
from mechdrift.report.figures.thinking import POSITION_NAMES
from mechdrift.report.theme import DIVERGING, GREY, SIDE_COLOURS
from mechdrift.report.words import SIDE_NAMES, dimension_name, interval, number

PROMPT_NAMES = {f"user[q{quarter}]": f"prompt, quarter {quarter}" for quarter in range(1, 5)}
LINES = {"plain": "dot", "attack": "solid"}


def strongest(table: pd.DataFrame, side: str) -> pd.DataFrame:
    """One model's rows at the strongest dose that applied."""
    return table[(table.side == side) & table.strongest.astype(bool)]


def lift_map(table: pd.DataFrame, side: str = "reasoning") -> go.Figure:
    """The lift of every mode in every dimension, with its interval; grey where a mode did not apply."""
    rows = strongest(table, side)
    if rows.lift.isna().all():
        raise MechdriftError("No mode applied, or no answer was finished, so there is no lift to show.")
    modes, dimensions = list(dict.fromkeys(rows["mode"]))[::-1], order_dimensions(rows.dimension)
    lifts = rows.pivot(index="mode", columns="dimension", values="lift").reindex(index=modes, columns=dimensions)
    texts, hovers = (
        rows.assign(text=[text_of(row) for row in rows.to_dict("records")])
        .pivot(index="mode", columns="dimension", values="text")
        .reindex(index=modes, columns=dimensions)
        for text_of in (_cell, _hover)
    )
    figure = blank(height=110 + 34 * len(modes))
    figure.add_heatmap(
        z=-lifts.to_numpy(dtype=float),  # red is less aligned, as everywhere
        x=[dimension_name(name) for name in dimensions],
        y=modes,
        text=texts.fillna("").to_numpy(),
        texttemplate="%{text}",
        customdata=hovers.fillna("").to_numpy(),
        hovertemplate="%{customdata}<extra></extra>",
        colorscale=DIVERGING,
        zmin=-1,
        zmax=1,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    figure.update_layout(plot_bgcolor=GREY)
    return figure.update_xaxes(side="top", showgrid=False).update_yaxes(showgrid=False)


def _cell(row: dict) -> str:
    if np.isnan(row["lift"]):
        return ""
    ends = interval(row["lift_low"], row["lift_high"], share=True, signed=True)
    return f"{number(row['lift'], share=True, signed=True)} ({ends})"


def _hover(row: dict) -> str:
    head = f"<b>{row['mode']}</b> {row['dose']:g} {row['unit']}, {dimension_name(row['dimension']).lower()}"
    if np.isnan(row["lift"]):
        return f"{head}<br>{row['reason']}"
    changes = ", ".join(
        f"{words} {number(row[name], share=True, signed=True)}"
        for name, words in (("change_trigger", "triggers"), ("change_twin", "twins"))
        if not np.isnan(row[name])
    )
    return f"{head}<br>misaligned answers: {changes}<br>lift {_cell(row)}<br>{row['finding']}"


def dose_curves(table: pd.DataFrame, dimension: str) -> go.Figure:
    """The lift over the doses of every mode that has several, for both models; dose 0 is the plain request."""
    rows = table[(table.dimension == dimension) & table.side.isin(SIDES) & table.lift.notna()]
    counts = rows[rows.side == "reasoning"].groupby("mode", sort=False).dose.nunique()
    modes = [mode for mode, count in counts.items() if count > 1]
    if not modes:
        raise MechdriftError("No mode has a lift at more than one dose.")
    figure = small_multiples(modes, x_title="dose", y_title="lift")
    named: set[str] = set()  # models that stand in the legend
    for place, mode in enumerate(modes):
        own = rows[rows["mode"] == mode]
        doses = list(dict.fromkeys(own.dose))
        for side in SIDES:
            part = own[own.side == side]
            if len(part):
                _add_curve(figure, part, [doses.index(dose) + 1 for dose in part.dose], side, place, side not in named)
                named.add(side)
        figure.update_xaxes(
            tickvals=list(range(len(doses) + 1)), ticktext=["plain", *(f"{dose:g}" for dose in doses)], **cell(place)
        )
    return figure.update_yaxes(tickformat=".0%")


def _add_curve(figure: go.Figure, part: pd.DataFrame, places: list[int], side: str, place: int, legend: bool) -> None:
    x = pd.Series([0, *places])
    low, high = (pd.Series([0.0, *part[f"lift_{end}"]]) for end in ("low", "high"))
    if side == "reasoning":
        figure.add_trace(band(x, low, high, legend=legend), **cell(place))
    figure.add_scatter(
        x=x,
        y=[0.0, *part.lift],
        mode="lines+markers",
        line={"color": SIDE_COLOURS[side], "width": 1.9},
        marker={"size": 6},
        name=SIDE_NAMES[side],
        legendgroup=side,
        showlegend=legend,
        hovertext=["the plain request", *(_hover(row) for row in part.to_dict("records"))],
        hovertemplate=HOVER,
        **cell(place),
    )


def along_attack(table: pd.DataFrame, dimension: str) -> go.Figure:
    """Triggers less twins along prompt, thinking and answer, plain and under each mode, for both models."""
    rows = table[table.dimension == dimension]
    modes = list(dict.fromkeys(rows["mode"]))
    if not modes:
        raise MechdriftError("No mode was read inside in this dimension.")
    names = PROMPT_NAMES | POSITION_NAMES
    positions = [name for name in names if name in set(rows.position)]
    figure = small_multiples(modes, x_title="", y_title="triggers less twins", gap=0.36)
    for place, mode in enumerate(modes):
        for side in SIDES:
            for condition, dash in LINES.items():
                part = rows[(rows["mode"] == mode) & (rows.side == side) & (rows.condition == condition)]
                part = part.set_index("position").reindex(positions).reset_index()
                figure.add_trace(_along(part, side, condition, dash, legend=place == 0), **cell(place))
    ticks = {"tickvals": list(range(len(positions))), "ticktext": [names[name] for name in positions]}
    return figure.update_xaxes(**ticks, tickangle=-40, showgrid=False).update_layout(margin_b=90)


def _along(part: pd.DataFrame, side: str, condition: str, dash: str, *, legend: bool) -> go.Scatter:
    colour = SIDE_COLOURS[side]
    words = {"plain": "plain", "attack": "under the mode"}[condition]
    texts = [
        f"<b>{SIDE_NAMES[side]}, {words}</b><br>{number(row['projection'])} ({interval(row['low'], row['high'])})"
        for row in part.to_dict("records")
    ]
    return go.Scatter(
        x=np.arange(len(part)),
        y=part.projection,
        mode="lines+markers",
        line={"color": colour, "width": 1.8, "dash": dash},
        marker={"size": 5, "color": colour},
        error_y=error_bars(part.projection, part.low, part.high, colour, 1),
        name=f"{SIDE_NAMES[side]}, {words}",
        legendgroup=f"{side}-{condition}",
        showlegend=legend,
        hovertext=texts,
        hovertemplate=HOVER,
    )


def attack_patches(table: pd.DataFrame, dimension: str) -> go.Figure:
    """How much of what each mode took comes back with one activation of the plain run, by layer and role."""
    rows = table[table.dimension == dimension]
    modes = list(dict.fromkeys(rows["mode"]))
    if not modes or rows.recovery.isna().all():
        raise MechdriftError("No mode took anything of the readout that a patch could bring back.")
    roles, layers = list(dict.fromkeys(rows.role)), sorted(set(rows.layer))
    figure = small_multiples(modes, x_title="", y_title="layer", gap=0.36)
    for place, mode in enumerate(modes):
        grid = rows[rows["mode"] == mode].pivot(index="layer", columns="role", values="recovery")
        figure.add_heatmap(
            z=grid.reindex(index=layers, columns=roles).to_numpy(dtype=float),
            x=roles,
            y=[str(layer) for layer in layers],
            zmin=-1,
            zmax=1,
            colorscale=DIVERGING,
            showscale=False,
            hovertemplate="layer %{y}, %{x}<br>%{z:.0%} of the readout comes back<extra></extra>",
            **cell(place),
        )
    return figure.update_xaxes(tickangle=-40, showgrid=False).update_yaxes(showgrid=False).update_layout(margin_b=120)
