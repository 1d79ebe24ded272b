"""How well did a localiser find what was planted?

Per case, over layers: AUROC of its scores (planted layers against the others), recall of the top k (k being the number
of planted layers), the distance in layers from its highest score to the nearest planted layer, whether it called any
planted layer (`found`) and any other (`wrong`). Where modules or heads were damaged, their localisers are scored over
cells in the same way. Over cases: means with 95 % intervals from a bootstrap of cases; Clopper and Pearson's interval
for the share of decoys with any call.

A localiser reaches the targets with AUROC >= .95, a peak within one layer in >= 90 % of the single-site cases, and
<= 5 % of the decoys called.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float

from mechdrift.planting.children import Case
from mechdrift.planting.localisers import Located
from mechdrift.statistics.resampling import auroc

TARGETS = {"auroc": 0.95, "within_one": 0.9, "false_positives": 0.05}
BOOTSTRAP = 2000


def score_case(case: Case, name: str, found: Located) -> dict[str, object]:
    """One row: a localiser on a child."""
    row = {
        "case": case.name,
        "kind": case.kind,
        "drift": case.drift,
        "layers": list(case.layers),
        "cells": [list(cell) for cell in case.cells],
        "fall": case.fall,
        "draws": case.draws,
        "localiser": name,
        "any_call": bool(found.called.any()),
        "any_unchecked": bool(found.unchecked.any()),
        "any_p": bool(found.by_p.any()),
        "scores": np.round(found.score, 4).tolist(),
    }
    if case.is_decoy:
        return row
    truth, score, called = _truth(case, found), found.score, found.called
    if len(found.parts) == 1:
        places = np.array(case.layers)
        row |= {"distance": int(np.abs(places - int(score[:, 0].argmax())).min()), "single": len(case.layers) == 1}
    return row | {
        "auroc": rank(score.ravel(), truth.ravel()),
        "recall": recall(score.ravel(), truth.ravel()),
        "found": bool((called & truth).any()),
        "wrong": bool((called & ~truth).any()),
    }


def _truth(case: Case, found: Located) -> Bool[np.ndarray, "layer part"]:
    truth = np.zeros(found.score.shape, dtype=bool)
    if len(found.parts) == 1:
        truth[list(case.layers)] = True
    else:
        for layer, part in case.cells:
            truth[layer, found.parts.index(part)] = True
    return truth


def rank(score: Float[np.ndarray, " cell"], truth: Bool[np.ndarray, " cell"]) -> float:
    return float(auroc(truth)(score, np.ones((1, len(score))))[0])


def recall(score: Float[np.ndarray, " cell"], truth: Bool[np.ndarray, " cell"]) -> float:
    """The share of planted cells among as many of the highest scores. Cells of equal score share their places."""
    k, order = int(truth.sum()), np.sort(score)[::-1]
    above, level = score > order[k - 1], score == order[k - 1]
    return float((truth & above).sum() + (truth & level).sum() * (k - above.sum()) / level.sum()) / k


def summarise(rows: Sequence[Mapping[str, object]], seed: int = 0) -> pd.DataFrame:
    """One row a localiser: every score with its interval (`low`, `high`), and whether the three targets are reached."""
    table = pd.DataFrame(rows)
    return pd.DataFrame(
        [{"localiser": name} | _summary(part, seed) for name, part in table.groupby("localiser", sort=False)]
    )


def _summary(part: pd.DataFrame, seed: int) -> dict[str, object]:
    planted, decoys = part[part.layers.map(bool)], part[~part.layers.map(bool)]
    row: dict[str, object] = {"cases": len(planted), "decoys": len(decoys)}
    columns = {
        "auroc": planted.get("auroc"),
        "recall": planted.get("recall"),
        "found": planted.get("found"),
        "wrong": planted.get("wrong"),
    }
    if "distance" in planted and planted.distance.notna().any():
        single = planted[planted.single.astype(bool)]
        columns |= {"distance": planted.distance, "within_one": single.distance <= 1}
    for name, values in columns.items():
        if values is not None and len(values):
            row |= dict(
                zip((name, f"{name}_low", f"{name}_high"), _interval(values.to_numpy(dtype=float), seed), strict=True)
            )
    for name, column in (
        ("false_positives", "any_call"),
        ("false_unchecked", "any_unchecked"),
        ("false_by_p", "any_p"),
    ):
        if len(decoys):
            interval = scipy.stats.binomtest(int(decoys[column].sum()), len(decoys)).proportion_ci(method="exact")
            row |= {name: float(decoys[column].mean()), f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row | {"reaches": _reaches(row)}


def _interval(values: Float[np.ndarray, " case"], seed: int) -> tuple[float, float, float]:
    drawn = np.random.default_rng(seed).choice(values, size=(BOOTSTRAP, len(values))).mean(axis=1)
    return (float(values.mean()), *(float(end) for end in np.quantile(drawn, [0.025, 0.975])))


def _reaches(row: Mapping[str, object]) -> bool:
    """All three targets; a localiser that lacks one of the numbers reaches nothing."""
    values = {name: float(row.get(name, np.nan)) for name in TARGETS}
    return bool(
        values["auroc"] >= TARGETS["auroc"]
        and values["within_one"] >= TARGETS["within_one"]
        and values["false_positives"] <= TARGETS["false_positives"]
    )


def by_kind(rows: Sequence[Mapping[str, object]], column: str = "auroc") -> pd.DataFrame:
    """Mean of a score for each localiser and way of planting (for `any_call`, kind of decoy)."""
    table = pd.DataFrame(rows)
    table = table[table.layers.map(bool) == (column != "any_call")]
    table = table.assign(kind=table.kind + np.where(table.layers.map(len) > 1, ", 2-3 layers", ""))
    return table.assign(value=table[column].astype(float)).pivot_table(
        index="localiser", columns="kind", values="value", sort=False
    )
