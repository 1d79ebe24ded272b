"""The course of every measure over a training run: from the run folders of its checkpoints to series, and from series
to two tables.

    Series                one measure at every step, and in every draw of families (what follows from it: `half_change`)
    trajectory_table      a row per step and measure
    half_change_table     a row per measure: its change at the last checkpoint, whether that is established, and when
                          half of it was there

A half-way step is given only where the change at the last checkpoint is established: the interval leaves out zero, and
for a dimension's score Holm's adjusted p is below 0.05.

Answers that were cut are missing (`behaviour.censoring`): a value is the mean of the items that were finished at that
step, and `n` is their number; a step without any has no value.

The cosine of a resampling follows from inner products of family differences (`stages`): with weights w,
cos = w'Gw / sqrt(w'Aw w'Bw). It is read at the layer where the parent's direction tells held-out families apart best.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.behaviour.censoring import missing_of
from mechdrift.behaviour.verdicts import is_clear
from mechdrift.directions.best_layer import best_layers
from mechdrift.directions.thinking import READOUT_ROLE
from mechdrift.records import SIDES, order_dimensions
from mechdrift.records.words import ALL
from mechdrift.runs import Run
from mechdrift.statistics.intervals import (
    POSITIVE,
    SHARE,
    UNBOUNDED,
    Bounds,
    effective_families,
    family_weights,
)
from mechdrift.statistics.resampling import family_draws
from mechdrift.trajectories.half_change import KNOWN, Series, half_change_of
from mechdrift.trajectories.history import History

DRAWS = 2000
FAILURES = ("incoherent", "unclosed")
SCORED = ("aligned", "over", "d_prime", "criterion", "incomplete", "incoherent")
COLUMNS = [
    "step",
    "tokens",
    "quantity",
    "dimension",
    "layer",
    "value",
    "low",
    "high",
    "change",
    "change_low",
    "change_high",
    "n",
    "families",
]


def series_of(runs: Sequence[Run], seed: int) -> list[Series]:
    """Accuracy; per dimension and in their mean aligned answers, readout and cosine; divergence."""
    tasks = _by_step([run.table("tasks").rename(columns={"kind": "family"}) for run in runs], "correct")
    found = [
        _mean_series("accuracy", "reasoning", *tasks, seed),
        *_failures([run.table("completions") for run in runs], seed),
    ]
    answers = [run.table("completions").query("contrast == 'trigger'") for run in runs]
    readouts = [run.table("readouts").query("contrast == 'trigger'") for run in runs]
    products, layers = [run.tensors("products") for run in runs], best_layers(runs[0].table("drift"), READOUT_ROLE)
    dimensions = order_dimensions(answers[0].dimension)
    for place, dimension in enumerate(dimensions, 1):
        for quantity, tables, bounds in (("aligned", answers, SHARE), ("readout", readouts, UNBOUNDED)):
            values, families = _by_step([table[table.dimension == dimension] for table in tables], quantity)
            found.append(_mean_series(quantity, dimension, values, families, seed + place, bounds))
        if dimension in layers:
            layer, n = layers[dimension], int(found[-1].n)
            grams = np.stack([each[dimension][layer].numpy() for each in products])
            found.append(_cosine_series(dimension, layer, grams, n, seed + place))
        found.append(_divergence_series(dimension, [run.table("kl_tokens") for run in runs], seed + place))
    found = [series for series in found if series is not None]
    return [*found, *(_mean_of(found, quantity) for quantity in ("aligned", "cosine", "kl") if len(dimensions) > 1)]


def _failures(tables: Sequence[pd.DataFrame], seed: int) -> list[Series]:
    """Of the finished answers, the share that makes no sense; of all think blocks, the share not closed within the
    budget (the parent has none)."""
    asked = [
        table.assign(
            incoherent=(table.label == "incoherent").where(missing_of(table) == ""),
            unclosed=~table.closed.astype(bool),
            family=table.dimension + "/" + table.family,
        )
        for table in tables
    ]
    return [_mean_series(name, ALL, *_by_step(asked, name), seed) for name in FAILURES]


def _by_step(tables: Sequence[pd.DataFrame], column: str) -> tuple[Float[np.ndarray, "step item"], np.ndarray]:
    """A number per step and item, the parent's first, NaN where no answer was finished; and the items' families.
    Samples of an item are averaged."""
    sides = [tables[0][tables[0].side == SIDES[0]], *(table[table.side == SIDES[1]] for table in tables)]
    values = [part.assign(value=part[column].astype(float)).groupby("item", sort=True).value.mean() for part in sides]
    families = sides[0].drop_duplicates("item").set_index("item").family
    return np.stack([part.loc[values[0].index].to_numpy() for part in values]), families.loc[values[0].index].to_numpy()


def _mean_series(
    quantity: str,
    dimension: str,
    values: Float[np.ndarray, "step item"],
    families: np.ndarray,
    seed: int,
    bounds: Bounds = SHARE,
) -> Series:
    names, family = np.unique(families, return_inverse=True)
    weights = family_weights(len(names), DRAWS, seed)[:, family]
    is_finished = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # a step without a finished item has no value
        means, draws = (
            each @ np.where(is_finished, values, 0.0).T / (each @ is_finished.T)
            for each in (np.ones((1, len(family))), weights)
        )
    return Series(
        quantity=quantity,
        dimension=dimension,
        values=means[0],
        draws=draws,
        n=values.shape[1],
        families=len(names),
        effective_families=effective_families(family),
        bounds=bounds,
        change_bounds=bounds.of_difference,
        missing=1 - is_finished.mean(axis=1),
    )


def _cosine_series(
    dimension: str, layer: int, grams: Float[np.ndarray, "step 3 family family"], n: int, seed: int
) -> Series:
    families = grams.shape[-1]
    values = np.concatenate([[1.0], _cosines(grams, np.ones((1, families)))[0]])
    angles = np.arccos(np.clip(_cosines(grams, family_draws(families, DRAWS, seed).astype(float)), -1, 1))
    # A draw adds its own noise to that of the data, so all draws lie low; as in `drift`, the estimate is made their
    # median.
    centred = angles - np.median(angles, axis=0) + np.arccos(np.clip(values[1:], -1, 1))
    draws = np.concatenate([np.ones((DRAWS, 1)), np.cos(np.clip(centred, 0, np.pi))], axis=1)
    return Series(
        quantity="cosine",
        dimension=dimension,
        values=values,
        draws=draws,
        n=2 * n,
        families=families,
        effective_families=families,
        bounds=None,
        change_bounds=None,
        layer=layer,
    )


def _cosines(
    grams: Float[np.ndarray, "step 3 family family"], weights: Float[np.ndarray, "draw family"]
) -> Float[np.ndarray, "draw step"]:
    """Cosine of parent's and checkpoint's direction when families count as often as `weights` say."""
    before, across, after = np.einsum("kf,scfg,kg->cks", weights, grams, weights, optimize=True)
    return across / np.sqrt(np.maximum(before * after, 1e-30))


def _divergence_series(dimension: str, tables: Sequence[pd.DataFrame], seed: int) -> Series | None:
    """Mean KL per token of the parent's answers, which are the same tokens at every step; 0 in the parent."""
    parts = [table[table.dimension == dimension] for table in tables]
    if any(part.empty for part in parts):
        return None
    values = np.stack([np.zeros(len(parts[0])), *(part.kl.to_numpy(dtype=float) for part in parts)])
    series = _mean_series("kl", dimension, values, parts[0].family.to_numpy(), seed, POSITIVE)
    return replace(series, change_bounds=POSITIVE)


def _mean_of(found: Sequence[Series], quantity: str) -> Series:
    parts = [series for series in found if series.quantity == quantity]
    return Series(
        quantity=quantity,
        dimension=ALL,
        values=np.mean([part.values for part in parts], axis=0),
        draws=np.mean([part.draws for part in parts], axis=0),
        n=sum(part.n for part in parts),
        families=sum(part.families for part in parts),
        effective_families=sum(part.effective_families for part in parts),
        bounds=parts[0].bounds,
        change_bounds=parts[0].change_bounds,
        missing=_missing_of_any(parts),
    )


def _missing_of_any(parts: Sequence[Series]) -> Float[np.ndarray, " step"] | None:
    """The largest share that any of them misses."""
    known = [part.missing for part in parts if part.missing is not None]
    return np.max(known, axis=0) if known else None


# Tables.


def trajectory_table(runs: Sequence[Run], history: History, series: Sequence[Series]) -> pd.DataFrame:
    """One row per step and measure (step 0 is the parent): `COLUMNS`. Cosines stand there for every layer, scores as
    they were judged."""
    steps, tokens = (0, *history.steps), (0, *history.tokens)
    rows = []
    for each in series:
        if each.quantity == "aligned" and each.dimension != ALL:
            continue  # among the scores
        (low, high), (change_low, change_high) = each.intervals, each.change_intervals
        rows += [
            {
                "step": step,
                "quantity": each.quantity,
                "dimension": each.dimension,
                "layer": each.layer,
                "value": each.values[k],
                "low": low[k],
                "high": high[k],
                "change": each.change[k],
                "change_low": change_low[k],
                "change_high": change_high[k],
                "n": each.finished[k],
                "families": each.families,
            }
            for k, step in enumerate(steps)
        ]
    for step, run in zip(history.steps, runs, strict=True):
        rows += _score_rows(run.table("scores"), step, with_parent=step == history.steps[0]) + _layer_rows(
            run.table("drift"), step
        )
    table = pd.DataFrame(rows).drop_duplicates(["step", "quantity", "dimension", "layer"])
    table = table.assign(tokens=table.step.map(dict(zip(steps, tokens, strict=True))))
    return table.sort_values(["step", "quantity", "dimension", "layer"], ignore_index=True)[COLUMNS]


def _score_rows(scores: pd.DataFrame, step: int, with_parent: bool) -> list[dict]:
    rows = []
    for row in scores[scores.metric.isin(SCORED)].to_dict("records"):
        common = {
            "quantity": row["metric"],
            "dimension": row["dimension"],
            "layer": math.nan,
            "n": row["n"],
            "families": row["families"],
        }
        for at, side in ((0, "instruct"), (step, "reasoning")):
            if at or with_parent:
                value = {"step": at, "value": row[side], "low": row[f"{side}_low"], "high": row[f"{side}_high"]}
                change = dict(
                    zip(
                        ("change", "change_low", "change_high"),
                        (row["difference"], row["low"], row["high"]),
                        strict=True,
                    )
                )
                rows.append(common | value | (change if at else dict.fromkeys(change, 0.0)))
    return rows


def _layer_rows(drift: pd.DataFrame, step: int) -> list[dict]:
    return [
        {
            "step": step,
            "quantity": "cosine",
            "dimension": row.dimension,
            "layer": float(row.layer),
            "value": row.cosine,
            "low": row.cosine_low,
            "high": row.cosine_high,
            "change": row.cosine - 1,
            "change_low": row.cosine_low - 1,
            "change_high": row.cosine_high - 1,
        }
        for row in drift[drift.cosine.notna()].itertuples()
    ]


def timed(series: Sequence[Series]) -> list[Series]:
    """The measures that have a half-way step: all but the shares of answers that failed."""
    return [each for each in series if each.quantity not in FAILURES]


def half_change_table(history: History, series: Sequence[Series], scores: pd.DataFrame) -> pd.DataFrame:
    """Per measure its change at the last checkpoint, whether that is established, and when half of it was there."""
    steps, rows = (0, *history.steps), []
    has_mean = any(each.dimension == ALL for each in series if each.quantity == "kl")
    for each in timed(series):
        if each.quantity == "kl" and has_mean and each.dimension != ALL:
            continue
        half, drawn = half_change_of(steps, each)
        is_known = is_established(each, scores) and drawn.known >= KNOWN
        ends = (
            (np.nanpercentile(drawn.start, 2.5), np.nanpercentile(drawn.end, 97.5))
            if is_known
            else (math.nan, math.nan)
        )
        low, high = (float(end) for end in ends)
        rows.append(
            {
                "quantity": each.quantity,
                "dimension": each.dimension,
                "layer": each.layer,
                "first": each.values[0],
                "last": each.values[-1],
                "change": each.change[-1],
                "change_low": each.final[0],
                "change_high": each.final[1],
                "established": is_established(each, scores),
                "half": half if is_known else math.nan,
                "half_low": low,
                "half_high": high,
                "n": each.finished[-1],
                "families": each.families,
            }
        )
    return pd.DataFrame(rows)


def is_established(series: Series, scores: pd.DataFrame) -> bool:
    """Whether the change at the last checkpoint is established. For a dimension's score the score table says so, which
    adjusts for the number of dimensions. None where too many answers are missing at either end."""
    if series.is_cut[[0, -1]].any():
        return False
    row = scores[scores.headline.astype(bool) & (scores.dimension == series.dimension)].to_dict("records")
    if series.quantity == "aligned" and row:
        return is_clear(row[0])
    low, high = series.final
    return low > 0 or high < 0
