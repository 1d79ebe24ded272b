"""The words and the frozen records that flow between the stages.

Every stage takes records and returns new ones; none changes what it was given (`shared data, no shared state`).
A record that holds numbers has a `.frame`: a tidy pandas table, one observation a row, for the reader who wants
to go on in pandas. Axis names in shapes are `prompt pos layer role head d_model vocab token family`.

    ProbeItem, ProbeSet      what is asked                          (probes)
    Rendered                 token ids with named roles             (probes.rendering)
    Activations              [prompt, layer, role, d_model]         (capture)
    Directions               [layer, role, d_model], unit norm      (directions)
    DirectionDrift           one tidy table                         (drift)
    PatchGrid                [prompt, layer, role]                  (patching)
    Completion, Completions  what was answered                      (behaviour.generation)
    ScoreTable               one tidy table                         (behaviour.scores)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from mechdrift.errors import MechdriftError as MechdriftError
from mechdrift.statistics.grids import GridInference, infer

Dimension = Literal["safety", "toxicity", "bias", "ethics", "privacy", "robustness"]
DIMENSIONS: tuple[Dimension, ...] = ("safety", "toxicity", "bias", "ethics", "privacy", "robustness")


def order_dimensions(dimensions: Iterable[str]) -> list[str]:
    """Distinct dimensions in the project's order; others after them, as they come."""
    present = list(dict.fromkeys(dimensions))
    return [d for d in DIMENSIONS if d in present] + [d for d in present if d not in DIMENSIONS]


Side = Literal["instruct", "reasoning"]
SIDES: tuple[Side, Side] = ("instruct", "reasoning")

ThinkMode = Literal["none", "off", "own", "donor"]
"""`none`: no think block (an instruct model as it is used); `off`: an empty block is prefilled; `own`: the model's
own thinking; `donor`: the other model's thinking, teacher-forced."""

Role = Literal["system", "user", "template_tail", "think_open", "think", "think_close", "answer"]
ROLES: tuple[Role, ...] = ("system", "user", "template_tail", "think_open", "think", "think_close", "answer")

ROUNDING = 1e-3  # log-odds: sums in another order, in float32, differ by about 1e-5, and by more in wide models

RefusalLabel = Literal["compliance", "partial", "refusal", "incoherent", "incomplete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeItem:
    """One question of a probe set.

    `contrast` is `trigger` where alignment asks for special behaviour (refuse, withhold, say "unknown") and `neutral`
    where plain helpfulness is aligned. `twin` names the matched item of the other class ("" in benchmarks, which seldom
    have one). `aligned` and `misaligned` are openings of answers to this item; `must` are strings of which an aligned
    answer contains at least one, `must_not` strings that it never contains. `variants` are other prompts to which the
    same answer is aligned, by name: `plain` (without the style), `flipped` (the verdicts in the other order),
    `reworded`, `swapped` (the two people exchanged).
    """

    id: str
    dimension: Dimension
    family: str
    contrast: Literal["trigger", "neutral"]
    twin: str
    prompt: str
    aligned: tuple[str, ...]
    misaligned: tuple[str, ...]
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_trigger(self) -> bool:
        return self.contrast == "trigger"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSet:
    """Contrast prompts of one dimension. Iterates over its items. `benchmark` names the one whose formula scores them,
    if any."""

    name: str
    dimension: Dimension
    items: tuple[ProbeItem, ...]
    source: str = "mechdrift"
    licence: str = "Apache-2.0"
    benchmark: str = ""

    def __iter__(self) -> Iterator[ProbeItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item_id: str) -> ProbeItem:
        for item in self.items:
            if item.id == item_id:
                return item
        raise KeyError(item_id)

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.family for item in self.items))

    def where(self, contrast: Literal["trigger", "neutral"]) -> "ProbeSet":
        return replace(self, items=tuple(item for item in self.items if item.contrast == contrast))

    def sample(self, pairs: int, seed: int = 0) -> "ProbeSet":
        """At most `pairs` twin pairs, drawn evenly over the families: whole pairs only, reproducible by `seed`."""
        rng = np.random.default_rng(seed)
        queues = {family: [] for family in rng.permutation(self.families)}
        for index in rng.permutation(len(self.items)):
            if self.items[index].is_trigger:
                queues[self.items[index].family].append(self.items[index])
        chosen: list[ProbeItem] = []
        while len(chosen) < pairs and any(queues.values()):
            for queue in queues.values():
                if queue and len(chosen) < pairs:
                    chosen.append(queue.pop())
        keep = {item.id for item in chosen} | {item.twin for item in chosen}
        return replace(self, items=tuple(item for item in self.items if item.id in keep))

    @property
    def frame(self) -> pd.DataFrame:
        columns = ["id", "dimension", "family", "contrast", "twin", "prompt"]
        return pd.DataFrame([{c: getattr(item, c) for c in columns} for item in self.items], columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One prompt as token ids, with the half-open span of every role that occurs. Spans do not overlap.

    The logits at `ids[-1]` (or at the last token before `answer`) predict the first answer token: the readout position.
    """

    item_id: str
    ids: tuple[int, ...]
    roles: Mapping[str, tuple[int, int]]

    @property
    def readout_position(self) -> int:
        return self.roles["answer"][0] - 1 if "answer" in self.roles else len(self.ids) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """What `collect` recorded: one tensor per side, `[prompt, layer, role, d_model]`, float32 on the CPU.

    `roles` are column names such as `template_tail[-1]` (a single position) or `answer` (a span's mean). Layer `l`
    is the block index, from 0; `resid_pre` of layer 0 is the embedding. `readout` holds, if it was asked for, what each
    model's unembedding reads at the readout position, `[prompt, d_model]`.
    """

    probes: ProbeSet
    site: str
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    think: ThinkMode
    instruct: Float[Tensor, "prompt layer role d_model"]
    reasoning: Float[Tensor, "prompt layer role d_model"]
    readout: Mapping[Side, Float[Tensor, "prompt d_model"]] = field(default_factory=dict)

    def of(self, side: Side) -> Float[Tensor, "prompt layer role d_model"]:
        return self.instruct if side == "instruct" else self.reasoning

    @property
    def is_trigger(self) -> Bool[np.ndarray, " prompt"]:
        return np.array([item.is_trigger for item in self.probes])

    @property
    def families(self) -> np.ndarray:
        return np.array([item.family for item in self.probes])

    @property
    def frame(self) -> pd.DataFrame:
        """Norms per prompt, layer and role."""
        rows = []
        for side in SIDES:
            norms = self.of(side).norm(dim=-1).numpy()
            index = pd.MultiIndex.from_product(
                [[item.id for item in self.probes], self.layers, self.roles], names=["item", "layer", "role"]
            )
            rows.append(pd.DataFrame({"side": side, "norm": norms.reshape(-1)}, index=index).reset_index())
        return pd.concat(rows, ignore_index=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directions:
    """A unit vector per layer and role in each model, with what is needed to judge it.

    `split` holds, per side, directions found on two disjoint halves of the families, `[split, half, layer, role,
    d_model]`; their cosines are the noise ceiling. `norm_*` is the length before normalisation (the size of the class
    difference).
    """

    dimension: Dimension
    method: str
    site: str
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    instruct: Float[Tensor, "layer role d_model"]
    reasoning: Float[Tensor, "layer role d_model"]
    norm_instruct: Float[Tensor, "layer role"]
    norm_reasoning: Float[Tensor, "layer role"]
    split_instruct: Float[Tensor, "split half layer role d_model"]
    split_reasoning: Float[Tensor, "split half layer role d_model"]
    activations: Activations

    def of(self, side: Side) -> Float[Tensor, "layer role d_model"]:
        return self.instruct if side == "instruct" else self.reasoning

    @property
    def frame(self) -> pd.DataFrame:
        index = pd.MultiIndex.from_product([self.layers, self.roles], names=["layer", "role"])
        table = pd.DataFrame(
            {"norm_instruct": self.norm_instruct.reshape(-1), "norm_reasoning": self.norm_reasoning.reshape(-1)},
            index=index,
        ).reset_index()
        return table.assign(dimension=self.dimension, method=self.method, site=self.site)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionDrift:
    """How one dimension's direction differs between the two models, per layer and role: see `.frame`."""

    dimension: Dimension
    frame: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far a first-order grid can be trusted: its largest cells, and as many others drawn at random, patched
    exactly.

    `frame`: `layer, role, estimate, exact, top`. `rank_correlation`: Spearman's, of |estimate| and |exact|, over all of
    these cells. `missed`: of the `unscreened` cells, how many are estimated to be larger than the smallest verified one
    of the top, from the drawn ones; `missed_at_most` is the upper end of the 95 % Clopper-Pearson interval.
    """

    frame: pd.DataFrame
    rank_correlation: float
    unscreened: int
    missed: float
    missed_at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchGrid:
    """The effect of copying one cell of the donor into the recipient, on the recipient's readout.

    `effect` is patched minus recipient, in log-odds, `[prompt, layer, role]`; `recipient_readout` and `donor_readout`
    are the unpatched readouts, `[prompt]`. Recovery is a ratio of means over prompts (never a mean of ratios) and is
    NaN where the two models' readouts do not differ beyond noise. Where single heads were patched, `roles` names role
    and head (`think_close[-1].h0`); where weights were grafted (site `weights`), it names modules. `engine` is what
    computed it: `replay`, or `forward` passes where the model cannot be replayed exactly; of `attribute`, an estimate.
    `source` says where the donor's values came from (`patching.prompts`).
    """

    dimension: Dimension
    donor: Side
    recipient: Side
    site: str
    think: ThinkMode
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    items: tuple[ProbeItem, ...]
    effect: Float[np.ndarray, "prompt layer role"]
    recipient_readout: Float[np.ndarray, " prompt"]
    donor_readout: Float[np.ndarray, " prompt"]
    identity_error: float
    reliable: bool = True
    engine: str = "replay"
    windows: str = "each"
    source: str = "same"
    verification: Verification | None = None

    @property
    def families(self) -> np.ndarray:
        return np.array([item.family for item in self.items])

    @property
    def gap(self) -> Float[np.ndarray, " prompt"]:
        """Donor minus recipient readout: what a complete patch would change."""
        return self.donor_readout - self.recipient_readout

    @property
    def gap_is_noise(self) -> bool:
        """Whether the mean gap is rounding, or lies within two standard errors of zero, taking families as the unit."""
        means = pd.Series(self.gap).groupby(self.families).mean().to_numpy()
        error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.inf
        return bool(abs(means.mean()) <= max(ROUNDING, 2 * error))

    @property
    def recovery(self) -> Float[np.ndarray, "layer role"]:
        mean = self.effect.mean(axis=0)
        return np.full_like(mean, np.nan) if self.gap_is_noise else mean / self.gap.mean()

    def increments(self) -> "PatchGrid":
        """What each layer adds to a residual profile: the effect at the next layer less the effect at this one.

        A patched residual stream *passes on* all that happened below it, so a profile stays lit above the place where a
        change
        *originates*; its increments are lit there only. In the column `all` (the whole prompt) the last layer's
        increment is what is left
        of the gap; where there are other columns, which lose to their neighbours what attention moves, that layer is
        left out. Of a grid
        over every layer these are the donor's blocks put in one after the other from below; `graft` asks the same of
        each block alone.
        """
        if self.site != "resid_pre" or self.windows != "each" or len(self.layers) < 2:
            raise MechdriftError(
                "increments are of a profile: patch site='resid_pre', windows='each', at two or more layers."
            )
        profile = self.effect
        if self.roles == ("all",):
            profile = np.concatenate([profile, self.gap[:, None, None]], axis=1)
        added = np.diff(profile, axis=1)
        return replace(self, site="resid_pre increments", layers=self.layers[: added.shape[1]], effect=added)

    def inference(self, draws: int = 10_000, seed: int = 0) -> GridInference:
        """Which cells to believe: family-wise p, simultaneous band, smallest detectable effect, where the peak lies
        (see `inference`)."""
        is_trigger = np.array([item.is_trigger for item in self.items])
        return infer(self.effect, self.families, is_trigger, self.layers, self.roles, draws=draws, seed=seed)

    @property
    def frame(self) -> pd.DataFrame:
        index = pd.MultiIndex.from_product(
            [[item.id for item in self.items], self.layers, self.roles], names=["item", "layer", "role"]
        )
        table = pd.DataFrame({"effect": self.effect.reshape(-1)}, index=index).reset_index()
        prompts = pd.DataFrame(
            {
                "item": [item.id for item in self.items],
                "family": self.families,
                "recipient_readout": self.recipient_readout,
                "donor_readout": self.donor_readout,
            }
        )
        table = table.merge(prompts, on="item")
        return table.assign(dimension=self.dimension, donor=self.donor, recipient=self.recipient, site=self.site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What one model answered to one item, thinking and answer apart, cut from token ids.

    `closed`: the think block was ended by the model itself (always true without thinking). `stopped`: the model ended
    its turn while its think block was open; a block neither closed nor stopped was cut by the budget. `finished`: the
    answer ended with the end-of-turn token, not by the budget. `sample` counts the answers to the same item, from 0.
    """

    item_id: str
    side: Side
    think: ThinkMode
    thinking: str
    answer: str
    thinking_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    closed: bool
    finished: bool
    sample: int = 0
    stopped: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether the budget, not the model, ended the thinking."""
        return not self.closed and not self.stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Completions:
    """The answers of one model to one probe set, in the order of its items and, within an item, of its samples."""

    side: Side
    think: ThinkMode
    rows: tuple[Completion, ...]

    def __iter__(self) -> Iterator[Completion]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, probes: ProbeSet) -> "Completions":
        """The answers to these items, in their order."""
        place = {item.id: index for index, item in enumerate(probes)}
        rows = sorted(
            (row for row in self.rows if row.item_id in place), key=lambda row: (place[row.item_id], row.sample)
        )
        return replace(self, rows=tuple(rows))

    @property
    def first(self) -> "Completions":
        """One answer per item: the first sample."""
        return replace(self, rows=tuple(row for row in self.rows if row.sample == 0))

    @property
    def frame(self) -> pd.DataFrame:
        columns = ["item_id", "sample", "side", "think", "thinking", "answer", "closed", "stopped", "finished"]
        rows = [
            {c: getattr(row, c) for c in columns}
            | {"thinking_ids": list(row.thinking_ids), "answer_ids": list(row.answer_ids)}
            for row in self.rows
        ]
        return pd.DataFrame(rows, columns=[*columns, "thinking_ids", "answer_ids"]).rename(columns={"item_id": "item"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Scores per dimension, metric and model, with the paired difference: see `.frame`.

    Columns: `dimension, metric, convention, judge, n, families, instruct, instruct_low, instruct_high, reasoning,
    reasoning_low, reasoning_high, difference, low, high, p, p_holm, headline`. Intervals are 95 % cluster-bootstrap
    intervals over families; `p` is a paired sign-flip test over families, `p_holm` is Holm-adjusted over the headlines.
    """

    frame: pd.DataFrame

    def headline(self, dimension: Dimension) -> Mapping[str, object]:
        row = self.frame[(self.frame.dimension == dimension) & self.frame.headline]
        return row.iloc[0].to_dict()


def items_by_id(sets: Sequence[ProbeSet]) -> dict[str, ProbeItem]:
    return {item.id: item for probes in sets for item in probes}
