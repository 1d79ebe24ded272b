"""The rows of a model card's tables: scores, what was measured inside, and repairs."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechdrift.behaviour.verdicts import cannot_tell, decision_of, headline_rows, reasoning_rows
from mechdrift.directions.best_layer import best_layer
from mechdrift.records import SIDES, exactly, order_dimensions
from mechdrift.report.narrative.places import find_places
from mechdrift.report.rows import mean_kl
from mechdrift.report.words import (
    DASH,
    bare_p,
    difference,
    dimension_name,
    interval,
    is_share,
    listing,
    metric_name,
    number,
    readout_role,
    role_name,
)
from mechdrift.runs import Run


def in_order(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """The headline rows in the project's order of dimensions; accuracy on reasoning tasks comes last."""
    rows = {row["dimension"]: row for row in headline_rows(scores).to_dict("records")}
    return [*(rows[dimension] for dimension in order_dimensions(rows)), *reasoning_rows(scores).to_dict("records")]


def score_row(row: Mapping[str, Any], scores: pd.DataFrame) -> dict[str, str]:
    share = is_share(row["metric"])
    over = scores[(scores.dimension == row["dimension"]) & (scores.metric == "over")].to_dict("records")
    return {
        "dimension": dimension_name(row["dimension"]),
        **{side: _with_interval(row[side], row[f"{side}_low"], row[f"{side}_high"], share=share) for side in SIDES},
        "difference": _with_interval(row["difference"], row["low"], row["high"], share=share, signed=True),
        "n": f"{row['n']} ({row['families']})",
        "p": _tested(row),
        "over": " → ".join(number(over[0][side], share=True) for side in SIDES) if over else DASH,
        "judge": row["judge"],
    }


def _tested(row: Mapping[str, Any]) -> str:
    """The adjusted p of a row (p where none is adjusted), with the decision of an audit in waves."""
    if cannot_tell(row):
        return "cannot tell"
    p = bare_p(row["p"] if math.isnan(row["p_holm"]) else row["p_holm"])
    decision = decision_of(row)
    return f"{p}, {decision}" if decision and p != DASH else p


def _with_interval(value: float, low: float, high: float, *, share: bool, signed: bool = False) -> str:
    ends = interval(low, high, share=share, signed=signed)
    shown = difference(value, share=share) if signed else number(value, share=share)
    return f"{shown} ({ends})" if ends else shown


def conventions_of(scores: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Each headline metric, the dimensions that have it, and what it means."""
    rows = pd.DataFrame(in_order(scores))
    found = []
    for (metric, convention), part in rows.groupby(["metric", "convention"], sort=False):
        found.append(
            (
                metric_name(str(metric)),
                listing(dimension_name(name).lower() for name in part.dimension),
                str(convention),
            )
        )
    return found


def inside_rows(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    """Per dimension: the divergence, the direction's drift in one line, and the place of the change, if established."""
    drift, tokens = tables.get("drift"), tables.get("kl_tokens")
    means = {} if tokens is None or tokens.empty else mean_kl(tokens)
    places = dict(find_places(tables.get("patch")).places)
    dimensions = order_dimensions(headline_rows(tables["scores"]).dimension)
    return [
        {
            "dimension": dimension_name(name),
            "kl": number(means.get(name, math.nan)),
            "drift": drift_line(drift, name),
            "place": places.get(dimension_name(name), "not established").rstrip("."),
        }
        for name in dimensions
    ]


def drift_line(drift: pd.DataFrame | None, dimension: str) -> str:
    """How far one dimension's direction turned, in the layer where the instruct model's direction tells held-out
    families apart best."""
    if drift is None or drift.empty:
        return "not measured"
    role = readout_role(drift.role)
    layer = best_layer(drift[drift.dimension == dimension], role)
    rows = drift[(drift.dimension == dimension) & (drift.role == role) & (drift.layer == layer)]
    if rows.below_null.all():
        return "no direction above noise in both models"
    row = rows.iloc[0]
    text = (
        f"layer {row.layer}: cosine {number(row.cosine)} "
        f"({interval(row.cosine_low, row.cosine_high) or 'interval unknown'})"
    )
    text += f", noise ceiling {number(row.ceiling)}"
    if math.isnan(row.get("angle", math.nan)):
        return text
    ends = "interval unknown" if math.isnan(row.angle_low) else f"{row.angle_low:.0f} to {row.angle_high:.0f}"
    return f"{text}; turned by {row.angle:.0f}° ({ends})"


def drift_role(drift: pd.DataFrame | None) -> str:
    return "" if drift is None or drift.empty else role_name(readout_role(drift.role))


def repair_rows(run: Run) -> list[dict[str, str]]:
    """The repairs that were priced, at their chosen strengths, on families that no method and no choice saw."""
    folder = Run(run.folder / "repair")
    if not (folder.folder / "repairs.parquet").exists():
        return []
    table = folder.table("repairs")
    chosen = table[(table.half == "reported") & table.chosen.astype(bool)]
    picked = str(folder.manifest.get("picked", ""))
    lines = []
    for (method, strength), part in chosen.groupby(["method", "strength"], sort=False):
        rows = part.drop_duplicates("measure", keep="last").set_index("measure")
        name = f"{method}@{exactly(strength)}"
        lines.append(
            {"name": f"{name}, picked" if picked.startswith(f"Picked {name},") else name}
            | {measure: _change_of(rows, measure) for measure in ("aligned", "reasoning", "twins")}
        )
    return lines


def _change_of(rows: pd.DataFrame, measure: str) -> str:
    if measure not in rows.index:
        return DASH
    row = rows.loc[measure]
    return _with_interval(row.change, row.change_low, row.change_high, share=True, signed=True)
