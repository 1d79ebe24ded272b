"""One measure over a training run: its value at every step, the same in every draw of families, and its intervals.

    series_of(runs, seed)     accuracy; per dimension and in their mean aligned answers, readout, cosine and KL

Families of prompts (kinds, of tasks) are resampled `DRAWS` times, with the same draw at every step and, within a
dimension, for score, readout and cosine. Values and changes have the intervals of `statistics.intervals`.

Answers that were cut are missing (`behaviour.censoring`). A value is the mean of the items that were finished at that
step, and `n` is their number; a step at which no item was finished has no value.

The cosine of a resampling follows from inner products of the families' class differences (`stages`): with weights w,

    cos = w'Gw / sqrt(w'Aw w'Bw)

where A, G and B are the products of the parent with itself, with the checkpoint, and of the checkpoint with itself. It
is read at the layer where the parent's direction tells held-out families apart best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechdrift.behaviour.censoring import MOST_MISSING, missing_of
from mechdrift.directions.best_layer import best_layers
from mechdrift.directions.thinking import READOUT_ROLE
from mechdrift.records import SIDES, order_dimensions
from mechdrift.records.words import ALL
from mechdrift.runs import Run
from mechdrift.statistics.intervals import (
    POSITIVE,
    SHARE,
    TAIL,
    UNBOUNDED,
    Bounds,
    effective_families,
    ends,
    family_weights,
)

DRAWS = 2000
FAILURES = ("incoherent", "unclosed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One measure over the steps, the parent's value first, and the same in every draw of families.

    `layer` is that of a cosine. `effective_families` is how many families of equal size would be as informative.
    """

    quantity: str
    dimension: str
    values: Float[np.ndarray, " step"]
    draws: Float[np.ndarray, "draw step"]
    n: int
    families: int
    effective_families: float
    bounds: Bounds | None
    """The least and largest value that the measure can have. None for cosines, whose intervals are quantiles of the
    draws."""
    change_bounds: Bounds | None
    layer: float = math.nan
    missing: Float[np.ndarray, " step"] | None = None
    """The share of the `n` items whose answers were cut at a step; None for measures that need no answers."""

    def at(self, places: Sequence[int]) -> "Series":
        """The series at some of the steps only."""
        missing = None if self.missing is None else self.missing[places]
        return replace(self, values=self.values[places], draws=self.draws[:, places], missing=missing)

    @property
    def finished(self) -> list[int]:
        """How many items have a value at each step."""
        shares = np.zeros(len(self.values)) if self.missing is None else self.missing
        return [round(self.n * (1 - share)) for share in shares]

    @property
    def is_cut(self) -> Bool[np.ndarray, " step"]:
        """Whether so many items are missing at a step that nothing can be told."""
        return np.zeros(len(self.values), dtype=bool) if self.missing is None else self.missing > MOST_MISSING

    @property
    def change(self) -> Float[np.ndarray, " step"]:
        """The change against the parent at each step."""
        return self.values - self.values[0]

    @property
    def drawn_change(self) -> Float[np.ndarray, "draw step"]:
        """The change against the parent in every draw."""
        return self.draws - self.draws[:, :1]

    @property
    def intervals(self) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
        """The lower and the upper ends of the intervals of the values."""
        return self._ends(self.values, self.draws, self.bounds)

    @property
    def change_intervals(self) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
        """The lower and the upper ends of the intervals of the changes; the parent's are 0."""
        low, high = self._ends(self.change, self.drawn_change, self.change_bounds)
        is_child = np.arange(len(low)) > 0
        return np.where(is_child, low, 0.0), np.where(is_child, high, 0.0)

    @property
    def final(self) -> tuple[float, float]:
        """The interval of the change at the last checkpoint."""
        low, high = self.change_intervals
        return float(low[-1]), float(high[-1])

    def between(self, place: int, other: int, tail: float) -> tuple[float, float]:
        """The interval of the value at one step minus that at another, with the probability `tail` on either side."""
        estimate, drawn = float(self.values[place] - self.values[other]), self.draws[:, place] - self.draws[:, other]
        low, high = self._ends(estimate, drawn, self.bounds and self.bounds.of_difference, tail)
        return float(low), float(high)

    def _ends(
        self,
        estimate: Float[np.ndarray, "*step"] | float,
        drawn: Float[np.ndarray, "draw *step"],
        bounds: Bounds | None,
        tail: float = TAIL,
    ) -> tuple[Float[np.ndarray, "*step"], Float[np.ndarray, "*step"]]:
        if bounds is None:
            return np.asarray(np.quantile(drawn, tail, axis=0)), np.asarray(np.quantile(drawn, 1 - tail, axis=0))
        return ends(estimate, drawn, self.effective_families, bounds, tail=tail)


def series_of(runs: Sequence[Run], seed: int) -> list[Series]:
    """Every measure of a training run.

    Accuracy on reasoning tasks comes first, then the failures ("incoherent", "unclosed"); per dimension aligned
    answers, readout, cosine and KL; and, with several dimensions, the means over them.

    Args:
        runs: the run folders of the checkpoints, in the order of steps. Each holds the parent's answers too.
        seed: of the draws of families.
    """
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
    """The share of finished answers that make no sense, and the share of think blocks that were not closed within the
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
    """A number per step and item, the parent's first, and the items' families. It is NaN where no answer was finished;
    several samples of an item are averaged."""
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
    angles = np.arccos(np.clip(_cosines(grams, family_weights(families, DRAWS, seed)), -1, 1))
    # Resampling adds noise to that of the data, so the cosines of all draws are too low. As in `drift`, the draws are
    # shifted so that their median is the estimate.
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
    """Cosine of parent's and checkpoint's direction when each family counts as much as its weight says."""
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
    """The largest share that any of these series misses, at every step."""
    known = [part.missing for part in parts if part.missing is not None]
    return np.max(known, axis=0) if known else None


def timed(series: Sequence[Series]) -> list[Series]:
    """The series that can have a half-way step: all but the shares of answers that failed."""
    return [each for each in series if each.quantity not in FAILURES]
