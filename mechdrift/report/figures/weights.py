"""How much training changed the weights, by layer and module."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdrift.report.drawing import need
from mechdrift.report.theme import QUIET, SEQUENTIAL, TEMPLATE

OUTSIDE = -1  # the layer number of weights that belong to no layer, such as embeddings


def weight_change(weights: pd.DataFrame) -> go.Figure:
    """Relative change of the weights: per layer on top, per layer and module below."""
    # Modules that training left alone (norms, with most adapters) would only push the others apart.
    changed = weights[weights.change > 0]
    need(changed, "No weight differs between the two models.")
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
    ticks = [layer for layer in total.layer if layer == OUTSIDE or layer % 5 == 0]
    names = ["outside" if layer == OUTSIDE else str(layer) for layer in ticks]
    figure.update_yaxes(tickformat=".2~%", title_text="whole layer", row=1, col=1).update_yaxes(ticklabelstandoff=6)
    figure.update_xaxes(showgrid=False, tickvals=ticks, ticktext=names)
    return figure.update_xaxes(title_text="layer", row=2, col=1)


def layer_totals(weights: pd.DataFrame) -> pd.DataFrame:
    """Change per layer over its modules. `norm` holds squared norms, so squares add up (`pairs.weight_change`)."""
    squares = weights.assign(squared=weights.change**2 * weights.norm)
    sums = squares.groupby("layer", as_index=False)[["squared", "norm"]].sum()
    return sums.assign(change=(sums.squared / sums.norm.clip(lower=1e-30)) ** 0.5)[["layer", "change"]]
