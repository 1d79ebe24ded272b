"""How far the two models' next-token distributions lie apart along the instruct model's answers (KL divergence)."""

import html
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from mechdrift.report.drawing import DASHED, HOVER, band, by_dimension, need
from mechdrift.report.rows import mean_kl
from mechdrift.report.theme import REASONING
from mechdrift.report.words import dimension_name, number


def kl_by_position(kl: pd.DataFrame, tokens: pd.DataFrame | None = None) -> go.Figure:
    """Divergence of the answers by token position, one small plot per dimension.

    With `tokens` (the table `kl_tokens`), each title has the mean over all tokens, and the hover boxes the token at
    which the models diverge most.
    """
    need(kl, "The divergence table is empty.")
    means, largest = {} if tokens is None else mean_kl(tokens), _largest_tokens(tokens)

    def title_of(part: pd.DataFrame) -> str:
        name = part.dimension.iloc[0]
        return dimension_name(name) + (f" · mean {number(means[name])}" if name in means else "")

    def traces_of(part: pd.DataFrame, legend: bool) -> list[go.Scatter]:
        return _traces(part.sort_values("position"), largest.get(part.dimension.iloc[0], {}), legend)

    figure = by_dimension(kl, traces_of, title_of=title_of, y_title="KL (nats)", x_title="answer token")
    return figure.update_yaxes(range=[0, 1.1 * _highest(kl)])


def _highest(kl: pd.DataFrame) -> float:
    """The top of the plots. All lines fit in, and nine in ten bands; a few bands may be many times as high."""
    return float(max(kl.kl.max(), kl.kl_reverse.max(), kl.high.quantile(0.9))) or 1.0


def _traces(part: pd.DataFrame, largest: Mapping[int, str], legend: bool) -> list[go.Scatter]:
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
        hovertemplate=HOVER,
    )
    return [band(part.position, part.low, part.high, legend), reverse, line]


def _largest_tokens(tokens: pd.DataFrame | None) -> dict[str, dict[int, str]]:
    """Per dimension and position, the token at which the models diverge most, as a line of a hover box."""
    if tokens is None or tokens.empty:
        return {}
    known = tokens[tokens.kl.notna()]
    found: dict[str, dict[int, str]] = {}
    for row in known.loc[known.groupby(["dimension", "position"]).kl.idxmax()].itertuples():
        text = f"<br>largest: “{html.escape(row.token)}” ({number(row.kl)})"
        found.setdefault(row.dimension, {})[row.position] = text
    return found
