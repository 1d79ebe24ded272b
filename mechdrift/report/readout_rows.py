"""Readouts as rows for the page: how well each follows judged behaviour, and how it changes on each path through the
thinking."""

import math
from typing import Any

import pandas as pd

from mechdrift.records import SIDES, order_dimensions
from mechdrift.report.words import THINK_NAMES, dimension_name, interval, number


def validation_rows(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """How well each readout ranks the model's own answers as the judge does."""
    rows = [] if table is None else table.to_dict("records")
    return [
        {
            **row,
            "dimension": dimension_name(row["dimension"]),
            "think": THINK_NAMES.get(row["think"], row["think"]),
            "auroc": number(row["auroc"]),
            "interval": interval(row["low"], row["high"]),
        }
        for row in rows
    ]


def path_rows(table: pd.DataFrame | None, validation: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Per dimension, the change of the readout on each path (the table `passage`), and how well that readout follows
    either model's behaviour."""
    if table is None or table.empty:
        return []
    rows = []
    for dimension in order_dimensions(table.dimension):
        part = table[table.dimension == dimension].set_index("path")
        cells = {
            path: (number(row.effect, signed=True), interval(row.low, row.high, signed=True))
            for path, row in part.iterrows()
        }
        checks = [None] * 2 if validation is None else [_check(validation, dimension, side) for side in SIDES]
        rows.append(
            {
                "dimension": dimension_name(dimension),
                "cells": cells,
                "n": int(part.n.iloc[0]),
                "families": int(part.families.iloc[0]),
                "reliability": [reliability_note(check) for check in checks],
            }
        )
    return rows


def _check(validation: pd.DataFrame, dimension: str, side: str) -> Any:
    """The validation, in one model, of the readout with an empty think block, which serves both models."""
    found = validation[(validation.dimension == dimension) & (validation.side == side) & (validation.think == "off")]
    return next(found.itertuples(), None)


def readouts_by_item(
    readouts: pd.DataFrame | None, validation: pd.DataFrame | None
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The readouts of every item in every model, each with a note of how far it can be trusted."""
    checks = (
        {} if validation is None else {(row.dimension, row.side, row.think): row for row in validation.itertuples()}
    )
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in () if readouts is None else readouts.itertuples():
        if not math.isnan(row.readout):
            said = reliability_note(checks.get((row.dimension, row.side, row.think)))
            one = {"think": row.think, "value": round(float(row.readout), 2), "reliability": said}
            found.setdefault((row.item, row.side), []).append(one)
    return found


def reliability_note(check: Any) -> str:
    """How well a readout follows judged behaviour, and whether that is too little."""
    if check is None or math.isnan(check.auroc):
        return "not validated"
    said = f"AUROC {number(check.auroc)} ({interval(check.low, check.high)})"
    return said if check.reliable else f"{said}, unreliable"
