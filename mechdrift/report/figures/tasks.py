"""Accuracy on reasoning tasks, by kind of task."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from scipy.stats import binomtest

from mechdrift.behaviour.censoring import finished_only
from mechdrift.report.drawing import SIDE_COLUMNS, blank, dumbbells, need


def task_accuracy(tasks: pd.DataFrame) -> go.Figure:
    """Accuracy of both models per kind of reasoning task, largest gain first, with Wilson intervals."""
    tasks = finished_only(tasks)
    need(tasks, "No reasoning task was answered to its end.")
    rows: dict[str, dict[str, Any]] = {}
    for (kind, side), correct in tasks.groupby(["kind", "side"], sort=False).correct:
        low, high = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
        row = rows.setdefault(kind, {"label": kind.replace("_", " "), "metric": "accuracy", "n": len(correct)})
        row |= {side: correct.mean(), f"{side}_low": low, f"{side}_high": high}
    table = pd.DataFrame(rows.values()).reindex(columns=["label", "metric", "n", *SIDE_COLUMNS])
    gain = (table.reasoning - table.instruct).sort_values(ascending=False, kind="stable")
    figure = blank(height=110 + 32 * len(table))
    dumbbells(figure, table.loc[gain.index])
    return figure.update_xaxes(title_text="share of correct answers", tickformat=".0%", range=[-0.02, 1.02])
