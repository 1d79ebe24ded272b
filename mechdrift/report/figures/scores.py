"""Both models' scores side by side, what moved (judgement or threshold), and the two ways to fail."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from mechdrift.behaviour.verdicts import headline_rows, reasoning_rows
from mechdrift.records import order_dimensions
from mechdrift.report.drawing import blank, dumbbells, grid, need
from mechdrift.report.words import dimension_name

ROW_HEIGHT = 46  # pixels


def scores_side_by_side(scores: pd.DataFrame) -> go.Figure:
    """Both models' headline score per dimension and their accuracy on reasoning tasks, most changed first."""
    rows = pd.concat([headline_rows(scores), reasoning_rows(scores)])
    need(rows, "The scores hold no headline row.")
    figure = blank(height=110 + ROW_HEIGHT * len(rows))
    dumbbells(figure, rows.assign(label=rows.dimension.map(dimension_name)))
    return figure.update_xaxes(title_text="share of answers", range=[-0.01, 1.01], tickformat=".0%")


def signal_detection(scores: pd.DataFrame) -> go.Figure:
    """Discrimination d′ and criterion c of both models, for the dimensions that have them (safety)."""
    titles = {"d_prime": "d′: can it tell them apart?", "criterion": "criterion c: where is its threshold?"}
    return _paired(scores, titles, "The scores hold no d′ and no criterion.").update_xaxes(rangemode="tozero")


def missed_and_over(scores: pd.DataFrame) -> go.Figure:
    """The two ways to fail: misaligned on trigger prompts (missed), misaligned on neutral ones (over-cautious)."""
    titles = {"missed": "missed (trigger prompts)", "over": "over-cautious (neutral prompts)"}
    figure = _paired(scores, titles, "The scores hold no rates of missed and over-cautious answers.")
    return figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])


def _paired(scores: pd.DataFrame, titles: Mapping[str, str], otherwise: str) -> go.Figure:
    """Two metrics next to each other, one line per dimension that has either."""
    rows = scores[scores.metric.isin(titles)]
    need(rows, otherwise)
    order = order_dimensions(rows.dimension)
    height = 140 + ROW_HEIGHT * len(order)
    figure = grid(1, len(titles), list(titles.values()), height=height, shared_yaxes=True)
    for column, metric in enumerate(titles, 1):
        part = rows[rows.metric == metric].set_index("dimension").reindex(order)
        part = part.assign(label=[dimension_name(d) for d in order], metric=metric)
        dumbbells(figure, part, legend=column == 1, row=1, col=column)
    return figure
