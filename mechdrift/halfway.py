"""When does it happen? The course of each measure over training, and the step at which it had come half of its way.

A measure q has a value q_0 in the parent and q_1 … q_K at the checkpoints. Its *half-way step* is where its change first reaches half of
the change at the last checkpoint,

    h = the least s with (q(s) - q_0) / (q_K - q_0) >= 1/2,

q(s) running straight from one checkpoint to the next. All that the data say is between which two checkpoints h lies, so the ends of those
stand in every interval. It says when a change comes, not how large it is, so measures of different units
can be compared: accuracy, aligned answers, the readout, the cosine between a direction and the parent's.

Families of prompts (kinds, of tasks) are resampled 2000 times, the same draw at every step and, within a dimension, for score, readout
and cosine:

    interval of h         2.5 % of the checkpoints before h, 97.5 % of those after it, of the draws whose change has the estimate's sign
    who comes first       the interval of h_a - h_b, each as early or late as its two checkpoints allow: `before` if it lies below 0,
                          `after` if above, `together` if it lies within one distance between checkpoints, else it cannot be told.
                          Unknown, too, where one in ten draws has no half-way step

A half-way step is given only where the change at the last checkpoint is established: the interval leaves out zero, and for a dimension's
score Holm's adjusted p is below 0.05. The cosine of a resampling follows from inner products of family differences (`checkpoints`): with
weights w, cos = w'Gw / sqrt(w'Aw w'Bw). It is read at the layer where the parent's direction tells held-out families apart best.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.history import History
from mechdrift.records import SIDES
from mechdrift.report.narrative import is_clear
from mechdrift.report.words import MINUS, difference, dimension_name, interval, listing, number, order_dimensions
from mechdrift.runs import Run
from mechdrift.statistics import family_draws

DRAWS = 2000
DEEP = 0.8  # of the layers: above, directions are those of the unembedding
KNOWN = 0.9  # of the draws must have a half-way step
ALL = "all"
SCORED = ("aligned", "over", "d_prime", "criterion", "incomplete", "incoherent")
COLUMNS = [
    "step", "tokens", "quantity", "dimension", "layer", "value", "low", "high", "change", "change_low", "change_high", "n", "families",
]  # fmt: skip
NAMES = {"accuracy": "reasoning accuracy", "aligned": "aligned answers", "readout": "the readout", "cosine": "the direction's cosine",
         "kl": "KL"}  # fmt: skip
When = Literal["before", "after", "together", "cannot tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One measure over the steps, the parent's value first, and the same in every draw of families."""

    quantity: str
    dimension: str
    values: Float[np.ndarray, " step"]
    draws: Float[np.ndarray, "draw step"]
    n: int
    families: int
    layer: float = math.nan

    @property
    def change(self) -> Float[np.ndarray, " step"]:
        return self.values - self.values[0]

    @property
    def drawn_change(self) -> Float[np.ndarray, "draw step"]:
        return self.draws - self.draws[:, :1]

    @property
    def final(self) -> tuple[float, float]:
        """The interval of the change at the last checkpoint."""
        low, high = np.percentile(self.drawn_change[:, -1], [2.5, 97.5])
        return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which of two measures comes half of its way first: h_a - h_b with its interval, in steps."""

    when: When
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfSteps:
    """The half-way step of every draw, and the checkpoints before and after it."""

    at: Float[np.ndarray, " draw"]
    start: Float[np.ndarray, " draw"]
    end: Float[np.ndarray, " draw"]

    @property
    def known(self) -> float:
        """The share of draws that have one."""
        return float(np.mean(~np.isnan(self.at)))


def half_steps(steps: Sequence[int], change: Float[np.ndarray, "draw step"], sign: float) -> HalfSteps:
    """The half-way step of every draw; NaN where the last change is zero or has another sign than `sign`. `steps` begin with 0."""
    final = change[:, -1:]
    usable = np.sign(final[:, 0]) == np.sign(sign)
    share = np.divide(change, final, out=np.zeros_like(change), where=final != 0)
    after = np.argmax(share >= 0.5, axis=1)  # the first checkpoint that is there; never the parent, whose share is 0
    before, row, place = np.maximum(after - 1, 0), np.arange(len(change)), np.asarray(steps, dtype=float)
    rise = share[row, after] - share[row, before]
    part = np.divide(0.5 - share[row, before], rise, out=np.ones_like(rise), where=rise > 0)
    known = usable & (final[:, 0] != 0)
    found = place[before] + part * (place[after] - place[before]), place[before], place[after]
    return HalfSteps(**dict(zip(("at", "start", "end"), (np.where(known, values, np.nan) for values in found), strict=True)))


def compare_order(steps: Sequence[int], first: Series, second: Series) -> Order:
    """Whether `first` comes half of its way before `second`."""
    (estimate, drawn), (other, others) = (_halves(steps, series) for series in (first, second))
    earliest, latest = drawn.start - others.end, drawn.end - others.start
    if np.mean(~np.isnan(earliest)) < KNOWN or math.isnan(estimate - other):
        return Order(when="cannot tell", difference=estimate - other, low=math.nan, high=math.nan)
    low, high = float(np.nanpercentile(earliest, 2.5)), float(np.nanpercentile(latest, 97.5))
    apart, estimate = max(np.diff(steps)), estimate - other
    when: When = "before" if high <= 0 else "after" if low >= 0 else "together" if -apart <= low and high <= apart else "cannot tell"
    return Order(when=when, difference=estimate, low=low, high=high)


def _halves(steps: Sequence[int], series: Series) -> tuple[float, HalfSteps]:
    sign = series.change[-1]
    return float(half_steps(steps, series.change[None], sign).at[0]), half_steps(steps, series.drawn_change, sign)


# From run folders to series.


def series_of(runs: Sequence[Run], seed: int) -> list[Series]:
    """Accuracy; per dimension and in their mean aligned answers, readout and cosine; divergence."""
    tasks = _by_step([run.table("tasks").rename(columns={"kind": "family"}) for run in runs], "correct")
    found = [_mean_series("accuracy", "reasoning", *tasks, seed), _unclosed([run.table("completions") for run in runs], seed)]
    answers = [run.table("completions").query("contrast == 'trigger'") for run in runs]
    readouts = [run.table("readouts").query("contrast == 'trigger'") for run in runs]
    products, layers = [run.tensors("products") for run in runs], best_layers(runs[0].table("drift"))
    dimensions = order_dimensions(answers[0].dimension)
    for place, dimension in enumerate(dimensions, 1):
        for quantity, tables, column in (("aligned", answers, "aligned"), ("readout", readouts, "readout")):
            values, families = _by_step([table[table.dimension == dimension] for table in tables], column)
            found.append(_mean_series(quantity, dimension, values, families, seed + place))
        layer = layers[dimension]
        grams = np.stack([each[dimension][layer].numpy() for each in products])
        found.append(_cosine_series(dimension, layer, grams, int(found[-1].n), seed + place))
        found.append(_divergence_series(dimension, [run.table("kl_tokens") for run in runs], seed + place))
    found = [series for series in found if series is not None]
    return [*found, *(_mean_of(found, quantity) for quantity in ("aligned", "cosine", "kl") if len(dimensions) > 1)]


def _unclosed(tables: Sequence[pd.DataFrame], seed: int) -> Series:
    """The share of think blocks that a model did not close within its budget; the parent has none."""
    families = [table.dimension + "/" + table.family for table in tables]
    asked = [table.assign(unclosed=~table.closed.astype(bool), family=names) for table, names in zip(tables, families, strict=True)]
    return _mean_series("unclosed", ALL, *_by_step(asked, "unclosed"), seed)


def best_layers(drift: pd.DataFrame) -> dict[str, int]:
    """Per dimension the layer where the parent's direction tells held-out families apart best, above 80 % depth left out."""
    early = drift[drift.layer < DEEP * (drift.layer.max() + 1)]
    usable = early[~early.below_null_instruct.astype(bool)]
    found = {}
    for name, part in early.groupby("dimension"):
        own = usable[usable.dimension == name]
        found[str(name)] = int((own if len(own) else part).set_index("layer").auroc_instruct.idxmax())
    return found


def _by_step(tables: Sequence[pd.DataFrame], column: str) -> tuple[Float[np.ndarray, "step item"], np.ndarray]:
    """A number per step and item, the parent's first; and the items' families. Samples of an item are averaged."""
    sides = [tables[0][tables[0].side == SIDES[0]], *(table[table.side == SIDES[1]] for table in tables)]
    values = [part.assign(value=part[column].astype(float)).groupby("item", sort=True).value.mean() for part in sides]
    families = sides[0].drop_duplicates("item").set_index("item").family
    return np.stack([part.loc[values[0].index].to_numpy() for part in values]), families.loc[values[0].index].to_numpy()


def _mean_series(quantity: str, dimension: str, values: Float[np.ndarray, "step item"], families: np.ndarray, seed: int) -> Series:
    names, family = np.unique(families, return_inverse=True)
    weights = family_draws(len(names), DRAWS, seed)[:, family].astype(float)
    draws = weights @ values.T / weights.sum(axis=1, keepdims=True)
    return Series(
        quantity=quantity, dimension=dimension, values=values.mean(axis=1), draws=draws, n=values.shape[1], families=len(names)
    )  # fmt: skip


def _cosine_series(dimension: str, layer: int, grams: Float[np.ndarray, "step 3 family family"], n: int, seed: int) -> Series:
    families = grams.shape[-1]
    values = np.concatenate([[1.0], _cosines(grams, np.ones((1, families)))[0]])
    angles = np.arccos(np.clip(_cosines(grams, family_draws(families, DRAWS, seed).astype(float)), -1, 1))
    # A draw adds its own noise to that of the data, so all draws lie low; as in `drift`, the estimate is made their median.
    centred = angles - np.median(angles, axis=0) + np.arccos(np.clip(values[1:], -1, 1))
    draws = np.concatenate([np.ones((DRAWS, 1)), np.cos(np.clip(centred, 0, np.pi))], axis=1)
    return Series(quantity="cosine", dimension=dimension, values=values, draws=draws, n=2 * n, families=families, layer=layer)


def _cosines(grams: Float[np.ndarray, "step 3 family family"], weights: Float[np.ndarray, "draw family"]) -> Float[np.ndarray, "draw step"]:
    """Cosine of parent's and checkpoint's direction when families count as often as `weights` say."""
    before, across, after = np.einsum("kf,scfg,kg->cks", weights, grams, weights, optimize=True)
    return across / np.sqrt(np.maximum(before * after, 1e-30))


def _divergence_series(dimension: str, tables: Sequence[pd.DataFrame], seed: int) -> Series | None:
    """Mean KL per token of the parent's answers, which are the same tokens at every step; 0 in the parent."""
    parts = [table[table.dimension == dimension] for table in tables]
    if any(part.empty for part in parts):
        return None
    values = np.stack([np.zeros(len(parts[0])), *(part.kl.to_numpy(dtype=float) for part in parts)])
    return _mean_series("kl", dimension, values, parts[0].family.to_numpy(), seed)


def _mean_of(found: Sequence[Series], quantity: str) -> Series:
    parts = [series for series in found if series.quantity == quantity]
    return Series(
        quantity=quantity, dimension=ALL, values=np.mean([part.values for part in parts], axis=0),
        draws=np.mean([part.draws for part in parts], axis=0), n=sum(part.n for part in parts),
        families=sum(part.families for part in parts),
    )  # fmt: skip


# Tables.


def course_table(runs: Sequence[Run], history: History, series: Sequence[Series]) -> pd.DataFrame:
    """One row per step and measure (step 0 is the parent): `COLUMNS`. Cosines stand there for every layer, scores as they were judged."""
    steps, tokens = (0, *history.steps), (0, *history.tokens)
    rows = []
    for each in series:
        if each.quantity == "aligned" and each.dimension != ALL:
            continue  # among the scores
        low, high = np.percentile(each.draws, [2.5, 97.5], axis=0)
        change_low, change_high = np.percentile(each.drawn_change, [2.5, 97.5], axis=0)
        rows += [
            {
                "step": step, "quantity": each.quantity, "dimension": each.dimension, "layer": each.layer, "value": each.values[k],
                "low": low[k], "high": high[k], "change": each.change[k], "change_low": change_low[k], "change_high": change_high[k],
                "n": each.n, "families": each.families,
            }
            for k, step in enumerate(steps)
        ]  # fmt: skip
    for step, run in zip(history.steps, runs, strict=True):
        rows += _score_rows(run.table("scores"), step, with_parent=step == history.steps[0]) + _layer_rows(run.table("drift"), step)
    table = pd.DataFrame(rows).drop_duplicates(["step", "quantity", "dimension", "layer"])
    table = table.assign(tokens=table.step.map(dict(zip(steps, tokens, strict=True))))
    return table.sort_values(["step", "quantity", "dimension", "layer"], ignore_index=True)[COLUMNS]


def _score_rows(scores: pd.DataFrame, step: int, with_parent: bool) -> list[dict]:
    rows = []
    for row in scores[scores.metric.isin(SCORED)].to_dict("records"):
        common = {"quantity": row["metric"], "dimension": row["dimension"], "layer": math.nan, "n": row["n"], "families": row["families"]}
        for at, side in ((0, "instruct"), (step, "reasoning")):
            if at or with_parent:
                value = {"step": at, "value": row[side], "low": row[f"{side}_low"], "high": row[f"{side}_high"]}
                change = dict(zip(("change", "change_low", "change_high"), (row["difference"], row["low"], row["high"]), strict=True))
                rows.append(common | value | (change if at else dict.fromkeys(change, 0.0)))
    return rows


def _layer_rows(drift: pd.DataFrame, step: int) -> list[dict]:
    return [
        {
            "step": step, "quantity": "cosine", "dimension": row.dimension, "layer": float(row.layer), "value": row.cosine,
            "low": row.cosine_low, "high": row.cosine_high, "change": row.cosine - 1, "change_low": row.cosine_low - 1,
            "change_high": row.cosine_high - 1,
        }
        for row in drift[drift.cosine.notna()].itertuples()
    ]  # fmt: skip


def halfway_table(history: History, series: Sequence[Series], scores: pd.DataFrame) -> pd.DataFrame:
    """Per measure its change at the last checkpoint, whether that is established, and when half of it was there."""
    steps, rows = (0, *history.steps), []
    has_mean = any(each.dimension == ALL for each in series if each.quantity == "kl")
    for each in series:
        if each.quantity == "unclosed" or (each.quantity == "kl" and has_mean and each.dimension != ALL):
            continue
        half, drawn = _halves(steps, each)
        is_known = is_established(each, scores) and drawn.known >= KNOWN
        ends = (np.nanpercentile(drawn.start, 2.5), np.nanpercentile(drawn.end, 97.5)) if is_known else (math.nan, math.nan)
        low, high = (float(end) for end in ends)
        rows.append({
            "quantity": each.quantity, "dimension": each.dimension, "layer": each.layer, "first": each.values[0], "last": each.values[-1],
            "change": each.change[-1], "change_low": each.final[0], "change_high": each.final[1],
            "established": is_established(each, scores),
            "half": half if is_known else math.nan, "half_low": low, "half_high": high, "n": each.n, "families": each.families,
        })  # fmt: skip
    return pd.DataFrame(rows)


def is_established(series: Series, scores: pd.DataFrame) -> bool:
    """Whether the change at the last checkpoint is: for a dimension's score by the score table, which adjusts for their number."""
    row = scores[scores.headline.astype(bool) & (scores.dimension == series.dimension)].to_dict("records")
    if series.quantity == "aligned" and row:
        return is_clear(row[0])
    low, high = series.final
    return low > 0 or high < 0


def detour(series: Series) -> int | None:
    """The place of the checkpoint on the way that lies furthest beyond both ends of a course, if that is sure: a half-way step then may
    time the way out, and not the lasting change.

    Sure is what leaves the nearer end outside a two-sided 95 % interval, Bonferroni-adjusted over the checkpoints on the way.
    """
    ends, on_the_way = series.values[[0, -1]], series.values[1:-1]
    if not len(on_the_way):
        return None
    beyond = np.maximum(on_the_way - ends.max(), ends.min() - on_the_way)
    place = 1 + int(beyond.argmax())
    above = series.values[place] > ends.max()
    end = (0, len(series.values) - 1)[int(ends.argmax() if above else ends.argmin())]
    tail = 2.5 / len(on_the_way)
    low, high = np.percentile(series.draws[:, place] - series.draws[:, end], [tail, 100 - tail])
    return place if beyond.max() > 0 and (low > 0 or high < 0) else None


# Words.


def told(history: History, series: Sequence[Series], validation: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """The answers: what changed and when, whether alignment goes before reasoning comes, and whether the inside moves first."""
    steps, halves = (0, *history.steps), halfway_table(history, series, scores).set_index(["quantity", "dimension"])
    by_name = {(each.quantity, each.dimension): each for each in series}
    reasoning = by_name["accuracy", "reasoning"]
    dimensions = [each.dimension for each in series if each.quantity == "readout"]
    mean = ("aligned", ALL if ("aligned", ALL) in by_name else dimensions[0])
    detours = {key: place for key, each in by_name.items() if (place := detour(each)) is not None}
    said = [_course(key, halves, history) for key in (("accuracy", "reasoning"), mean)]
    established = [name for name in dimensions if halves.established["aligned", name]]
    unsure = [dimension_name(name).lower() for name in dimensions if name not in established]
    if mean[1] == ALL:
        said += [_course(("aligned", name), halves, history) for name in established]
    if unsure:
        said.append(f"No change of aligned answers is established at the last checkpoint in {listing(unsure)}.")
    with_half = [key for key in dict.fromkeys((mean, *(("aligned", name) for name in established))) if not math.isnan(halves.half[key])]
    if math.isnan(halves.half["accuracy", "reasoning"]):
        said.append("Whether alignment goes before or after the gain in reasoning cannot be asked: no change in reasoning is established.")
    else:
        said += [
            _before_reasoning(
                key, compare_order(steps, by_name[key], reasoning), history, bool({key, ("accuracy", "reasoning")} & set(detours))
            )
            for key in with_half
        ]
    said += [_detoured(key, by_name[key], detours[key], history) for key in (("accuracy", "reasoning"), *with_half) if key in detours]
    reliable = set(validation[validation.reliable.astype(bool)].dimension)
    for key in (key for key in with_half if key[1] != ALL):
        name = key[1]
        if key in detours:
            unsaid = "whether the inside moves before the score cannot be told from half-way steps, for the same reason"
            said.append(f"{dimension_name(name)}: {unsaid}.")
            continue
        said += _inner_first(name, name in reliable, halves, by_name, steps, history.unit)
    unclosed = by_name.get(("unclosed", ALL))
    if unclosed is not None and unclosed.values.max() > 0:
        shares = f"{number(unclosed.values[1], share=True)} at the first checkpoint, {number(unclosed.values[-1], share=True)} at the last"
        said.append(f"Think blocks that the budget closed, not the model: {shares}. Their answers are judged like all others.")
    return [
        *said,
        f"Checkpoints are up to {max(np.diff(steps))} {history.unit} apart: within that distance the course is taken to be straight.",
    ]


def _shown(key: tuple[str, str]) -> str:
    quantity, dimension = key
    if quantity == "accuracy":
        return NAMES[quantity]
    return f"{NAMES[quantity]}, {'mean of the dimensions' if dimension == ALL else dimension_name(dimension).lower()}"


def _course(key: tuple[str, str], halves: pd.DataFrame, history: History) -> str:
    """From where to where a share went, and when half of the way was behind it."""
    row = halves.loc[key]
    name = _shown(key)
    text = f"{name[0].upper()}{name[1:]}: from {number(row['first'], share=True)} to {number(row['last'], share=True)} ("
    text += f"{difference(row.change, share=True)}, 95% interval {interval(row.change_low, row.change_high, share=True, signed=True)})"
    if not row.established:
        return f"{text}; the change is not established."
    if math.isnan(row.half):
        return f"{text}; the data do not say when it came."
    tokens = np.interp(row.half, (0, *history.steps), (0, *history.tokens))
    when = f"{row.half:.0f} {history.unit} ({row.half_low:.0f} to {row.half_high:.0f}), {tokens:,.0f} tokens"
    return f"{text}; half of it was there after about {when}."


def _detoured(key: tuple[str, str], series: Series, place: int, history: History) -> str:
    name, value = _shown(key), number(series.values[place], share=True)
    where = f"{history.unit.removesuffix('s')} {history.steps[place - 1]}"
    return (
        f"{name[0].upper()}{name[1:]}: on the way, at {where}, it stood at {value}, beyond where it began and where it ended. "
        "Its half-way step may time that, and not the change that lasted."
    )


def _before_reasoning(key: tuple[str, str], order: Order, history: History, is_detour: bool) -> str:
    name = _shown(key)
    what = f"{name[0].upper()}{name[1:]}, against the gain in reasoning"
    if is_detour:
        why = "because one of them went further on the way than it ended"
        return f"{what}: not to be told from half-way steps, {why}{_by(order, history.unit)}."
    words: Mapping[When, str] = {
        "before": f"{what}: it comes before", "after": f"{what}: it comes after", "together": f"{what}: they come together",
        "cannot tell": f"{what}: which comes first cannot be told",
    }  # fmt: skip
    return f"{words[order.when]}{_by(order, history.unit)}."


def _by(order: Order, unit: str) -> str:
    if math.isnan(order.low):
        return " (too many draws of families have no half-way step)"
    apart, low, high = (f"{value:+.0f}".replace("-", MINUS) for value in (order.difference, order.low, order.high))
    return f" (half-way steps {apart}, 95% interval {low} to {high} {unit})"


def _inner_first(
    name: str, is_reliable: bool, halves: pd.DataFrame, by_name: Mapping[tuple[str, str], Series], steps: Sequence[int], unit: str
) -> list[str]:
    """Direction and readout against the score of one dimension."""
    said = []
    for quantity in ("cosine", "readout"):
        key = (quantity, name)
        layer = by_name[key].layer
        shown = NAMES[quantity] if math.isnan(layer) else f"{NAMES[quantity]} at layer {layer:.0f}"
        if quantity == "readout" and not is_reliable:
            said.append(
                f"{dimension_name(name)}: the readout does not follow the parent's judged behaviour well enough to say when it moves."
            )
        elif math.isnan(halves.half[key]):
            said.append(f"{dimension_name(name)}: the change of {shown} is not established.")
        else:
            order = compare_order(steps, by_name[key], by_name["aligned", name])
            words: Mapping[When, str] = {
                "before": "the inner change comes before the outer", "after": "the inner change comes after the outer",
                "together": "they come together", "cannot tell": "which comes first cannot be told",
            }  # fmt: skip
            said.append(f"{dimension_name(name)}: {shown}, against the score: {words[order.when]}{_by(order, unit)}.")
    return said
