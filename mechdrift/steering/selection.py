"""Which of the many candidate directions has an effect? Causal selection of a layer and role, after Arditi et al.

A candidate is a finder's raw vector w (for the mean difference r = mean(x | trigger) - mean(x | neutral), not
normalised) at one layer and role. Each is tried on items of *other families* than it was found with:

    bypass    mean readout on trigger items with the candidate ablated everywhere: how much of the behaviour remains?
    induce    mean readout on neutral items with w added (strength 1) to its own layer's input at every token: does it
              bring the behaviour about?
    kl        mean over neutral items of KL(baseline ‖ ablated) in nats, over the whole vocabulary, at the readout
              position, in float64

The chosen candidate has the least bypass among those with induce >= 0, kl <= 0.1, a layer below 0.8 L (later ones write
single words), and finite numbers. Everything is read at the first answer position *after the closed think block*: in
think mode `off` after an empty block, which both models are given, in `own` after given thinking. (Arditi et al. read
at the token after the template. For a reasoning model that is `<think>`, which says nothing about refusing.) The
readout is that of `activations.readouts`, the log-odds of sets of openings; theirs is the log-odds of the refusal
tokens against all others.

Families go to three parts (`asked`): candidates are found on *find*, scored on *validate*, and `steer_back` measures on
*test*.

KL is measured on the neutral items, or on given `harmless` ones, such as everyday requests. The twins of harmful
requests are near the threshold of refusing, where removing refusal changes more than elsewhere (on SmolLM2-135M about
twice as much).

The cost, in rows of one prompt each: (triggers + neutrals) per candidate for bypass and KL, which share their passes,
and less than one per neutral item for induce (`sweeps`). Candidates too deep to be chosen are not run. `screen=k` runs
only the k most promising candidates: those with the smallest sum of ranks by `sweeps.first_order`, which estimates
bypass and induce of all from one forward and one backward pass. (How well projections separate the classes is a poor
guide: on SmolLM2-135M the ten candidates with the largest effects were 10th to 99th of 168 by held-out AUROC, and 1st
to 13th by the estimates. The table has both.)

Source: Arditi et al. 2024, https://arxiv.org/abs/2406.11717; methods and thresholds as in their code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.prompts import Answers
from mechdrift.activations.readouts import Readout, readout_states
from mechdrift.directions.best_layer import DEEPEST
from mechdrift.directions.finders import find_in
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.records import Activations, Directions, MechdriftError, ProbeSet, Side, ThinkMode
from mechdrift.records.notebook import Record
from mechdrift.statistics.resampling import auroc
from mechdrift.steering.asked import Asked, ask_harmless, items_of, split_families
from mechdrift.steering.sweeps import Addition, ablated_states, first_order, steered_states

COLUMNS = [
    "layer",
    "role",
    "norm",
    "separation",
    "bypass_estimate",
    "induce_estimate",
    "bypass",
    "induce",
    "kl",
    "eligible",
    "chosen",
    "rank",
    "why",
]
RUNNERS_UP = 5


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Selection(Record):
    """The chosen candidate of one model, all others with their scores, and what they were tried on.

    `frame` has a row per candidate: `layer, role, norm, separation, bypass_estimate, induce_estimate, bypass, induce,
    kl, eligible, chosen, rank, why`. `separation` is the AUROC of projections of the validation items; estimates are
    first-order. `rank` numbers the eligible candidates from 1 by bypass; `why` says why a candidate is not eligible.
    `vectors` are the raw candidates, `[layer, role, d_model]`. Where none is eligible, `layer`, `role` and `vector` are
    None, and `reason` says why.
    """

    dimension: str
    method: str
    side: Side
    model: str
    think: ThinkMode
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    vectors: Float[Tensor, "layer role d_model"]
    frame: pd.DataFrame
    layer: int | None
    role: str | None
    reason: str
    families: Mapping[str, tuple[str, ...]]
    baseline_trigger: float
    baseline_neutral: float
    n_trigger: int
    n_neutral: int
    n_harmless: int
    screen: int | None
    induce_at_least: float
    kl_at_most: float
    dtype: str

    @property
    def summary(self) -> str:
        where = f"layer {self.layer}, {self.role}" if self.layer is not None else self.reason
        return f"{self.dimension}, {self.side} model, {len(self.frame)} candidates by {self.method}; chosen: {where}"

    def vector_at(self, layer: int, role: str) -> Float[Tensor, " d_model"]:
        """The raw candidate of one layer and role."""
        if layer not in self.layers or role not in self.roles:
            raise MechdriftError(
                f"there is no candidate at layer {layer}, role {role!r}: roles are {', '.join(self.roles)}."
            )
        return self.vectors[self.layers.index(layer), self.roles.index(role)]

    @property
    def vector(self) -> Float[Tensor, " d_model"] | None:
        """The chosen candidate, raw; None where there is none."""
        return None if self.layer is None or self.role is None else self.vector_at(self.layer, self.role)

    @property
    def runners_up(self) -> pd.DataFrame:
        """The next best eligible candidates."""
        return self.frame[self.frame["rank"].between(2, 1 + RUNNERS_UP)].sort_values("rank")

    @property
    def closest(self) -> tuple[int, str] | None:
        """The chosen layer and role, or the closest to being chosen; None if nothing was run.

        Where none is eligible, candidates count that induce and whose ablation removes at least half of the difference
        between triggers and neutral items. The closest is the one of these with the least KL; if there are none, the
        candidate with the least bypass.
        """
        if self.layer is not None and self.role is not None:
            return self.layer, self.role
        run = self.frame[self.frame.bypass.notna()]
        halfway = (self.baseline_trigger + self.baseline_neutral) / 2
        useful = run[(run.induce >= self.induce_at_least) & (run.bypass <= halfway)]
        best = useful.sort_values("kl") if len(useful) else run.sort_values("bypass")
        return (int(best.layer.iloc[0]), str(best.role.iloc[0])) if len(best) else None

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the tensors and the table, as values that JSON can hold."""
        kept = (
            "dimension",
            "method",
            "side",
            "model",
            "think",
            "layer",
            "role",
            "reason",
            "baseline_trigger",
            "baseline_neutral",
        )
        rest = ("n_trigger", "n_neutral", "n_harmless", "screen", "induce_at_least", "kl_at_most", "dtype")
        return {name: getattr(self, name) for name in (*kept, *rest)} | {
            "families": {k: list(v) for k, v in self.families.items()}
        }


def select_direction(
    pair: Pair,
    directions: Directions,
    *,
    side: Side = "instruct",
    pairs: int = 12,
    screen: int | None = None,
    harmless: ProbeSet | None = None,
    readout: Readout | None = None,
    answers: Answers | None = None,
    induce_at_least: float = 0.0,
    kl_at_most: float = 0.1,
    dtype: str = "float32",
    seed: int = 0,
) -> Selection:
    """Which of the many candidate directions does something? A causal choice of layer and role.

    Candidates are found again on a half of the families, and tried on other families: removed from the model on
    trigger items (bypass), and added to it on neutral items (induce).

    Args:
        pair: the two models.
        directions: at `resid_pre`; their layers, roles and finder say what the candidates are.
        side: the model that the candidates are found in and tried on.
        pairs: the largest number of twin pairs of the validation families that are asked.
        screen: run only this many candidates, the most promising by first-order estimates; by default all.
        harmless: where KL is measured; by default on the neutral items.
        readout: a calibrated readout; by default the openings written in the items.
        answers: the completions that hold the thinking, where the activations were collected in think mode `own`.
        induce_at_least: the least mean readout on neutral items with the direction added, in log-odds.
        kl_at_most: the largest mean KL(unedited || ablated) on harmless prompts, in nats.
        dtype: the number format in which the model runs.
        seed: of the split of families.

    Returns:
        A `Selection`: `.layer`, `.role`, `.vector` `[d_model]` (None where no candidate is eligible; `.reason` says
        why), `.closest`, and `.frame` with a row per candidate: `bypass`, `induce` in log-odds, `kl` in nats,
        `eligible`, `rank`, `why`.

    Raises:
        MechdriftError: when the directions were not found at `resid_pre`, or when there are too few families.

    Source:
        Arditi et al. 2024, https://arxiv.org/abs/2406.11717, with their scores and limits.

    Example:
        >>> chosen = md.select_direction(pair, dirs, pairs=4, screen=4)
        >>> best = chosen.frame.sort_values("rank")[["layer", "role", "bypass", "induce", "kl"]].head()
    """
    activations = directions.activations
    if directions.site != "resid_pre":
        raise MechdriftError(
            f"candidates are added to a block's input: find them at resid_pre, not at {directions.site!r}."
        )
    families = split_families(activations.probes, seed)
    vectors = candidates(activations, side, families["find"], directions.method)
    probes = items_of(activations.probes, families["validate"], pairs, seed)
    loaded = pair.open(side, dtype)
    ask = Asked.of(pair, probes, side, activations.think, answers, readout)
    plain = ask_harmless(pair, harmless, side, activations.think) if harmless else ask.where("neutral")
    frame = _candidate_table(loaded, ask, activations, side, vectors, families["validate"])
    frame["why"] = _not_run(frame, loaded.n_layers, screen)
    tried = _try(loaded, ask, plain, vectors, frame[frame.why == ""], activations)
    base = ask.read(loaded, readout_states(loaded, ask.rendered))
    frame = _judge(frame.join(tried), induce_at_least, kl_at_most)
    chosen = frame[frame.chosen]
    return Selection(
        dimension=directions.dimension,
        method=directions.method,
        side=side,
        model=loaded.source.name,
        think=activations.think,
        layers=activations.layers,
        roles=activations.roles,
        vectors=vectors,
        frame=frame,
        layer=int(chosen.layer.iloc[0]) if len(chosen) else None,
        role=str(chosen.role.iloc[0]) if len(chosen) else None,
        reason="" if len(chosen) else _reason(frame),
        families=families,
        baseline_trigger=float(base[ask.is_trigger].mean()),
        baseline_neutral=float(base[~ask.is_trigger].mean()),
        n_trigger=int(ask.is_trigger.sum()),
        n_neutral=int((~ask.is_trigger).sum()),
        n_harmless=len(plain.probes),
        screen=screen,
        induce_at_least=induce_at_least,
        kl_at_most=kl_at_most,
        dtype=dtype,
    )


def candidates(
    activations: Activations, side: Side, families: tuple[str, ...], method: str
) -> Float[Tensor, "layer role d_model"]:
    """The finder's raw vectors on the items of some families."""
    mask = np.isin(activations.families, families)
    return find_in(activations, side, mask[None], method)[0].float()


def _candidate_table(
    loaded: LanguageModel,
    ask: Asked,
    activations: Activations,
    side: Side,
    vectors: Float[Tensor, "layer role d_model"],
    families: tuple[str, ...],
) -> pd.DataFrame:
    """A row per candidate with what is known before it is run: length, held-out separation, and first-order estimates
    of bypass and induce."""
    rows = np.isin(activations.families, families)
    units = torch.nn.functional.normalize(vectors.double(), dim=-1)
    projected = (
        torch.einsum("plrd,lrd->plr", activations.of(side)[torch.from_numpy(rows)].double(), units).flatten(1).numpy()
    )
    statistic, once = auroc(activations.is_trigger[rows]), np.ones((1, len(projected)))
    base = torch.from_numpy(ask.read(loaded, readout_states(loaded, ask.rendered)))[:, None, None]
    estimate = first_order(loaded, ask.rendered, vectors, activations.layers, ask.readout.log_odds)
    is_trigger = torch.from_numpy(ask.is_trigger)
    frame = pd.MultiIndex.from_product([activations.layers, activations.roles], names=["layer", "role"]).to_frame(
        index=False
    )
    frame["norm"] = vectors.norm(dim=-1).flatten().numpy()
    frame["separation"] = [statistic(column, once)[0] for column in projected.T]
    frame["bypass_estimate"] = (base + estimate.ablated)[is_trigger].mean(dim=0).flatten().numpy()
    frame["induce_estimate"] = (base + estimate.added)[~is_trigger].mean(dim=0).flatten().numpy()
    return frame


def _not_run(frame: pd.DataFrame, n_layers: int, screen: int | None) -> pd.Series:
    """Why a candidate is not run; "" if it is."""
    why = (
        pd.Series("", index=frame.index)
        .mask(frame.layer >= int(DEEPEST * n_layers), "too deep")
        .mask(frame["norm"] == 0, "no direction")
    )
    if screen is not None:
        left = frame[why == ""]
        promise = left.bypass_estimate.rank() + left.induce_estimate.rank(ascending=False)
        why[promise.sort_values(kind="stable").index[screen:]] = "not promising"
    return why


def _try(
    loaded: LanguageModel,
    ask: Asked,
    harmless: Asked,
    vectors: Float[Tensor, "layer role d_model"],
    run: pd.DataFrame,
    activations: Activations,
) -> pd.DataFrame:
    """Bypass, induce and KL of the candidates that are run."""
    if run.empty:
        return pd.DataFrame(columns=["bypass", "induce", "kl"], index=run.index, dtype=float)
    places = [(activations.layers.index(row.layer), activations.roles.index(row.role)) for row in run.itertuples()]
    tried = torch.stack([vectors[place] for place in places])
    trigger, neutral = ask.where("trigger"), ask.where("neutral")
    ablated = ablated_states(
        loaded, (*trigger.rendered, *harmless.rendered), tried, f"Ablating {len(tried)} directions"
    )
    bypassed, after = ablated.split([len(trigger.rendered), len(harmless.rendered)], dim=1)
    before = readout_states(loaded, harmless.rendered)
    additions = [
        Addition(layer=int(row.layer), vector=vector) for row, vector in zip(run.itertuples(), tried, strict=True)
    ]
    added = steered_states(loaded, neutral.rendered, additions, description=f"Adding {len(tried)} directions")
    return pd.DataFrame(
        {
            "bypass": [trigger.read(loaded, states).mean() for states in bypassed],
            "induce": [neutral.read(loaded, states).mean() for states in added],
            "kl": [harmless.kl(loaded, before, states).mean() for states in after],
        },
        index=run.index,
    )


def _judge(frame: pd.DataFrame, induce_at_least: float, kl_at_most: float) -> pd.DataFrame:
    """Which candidates are eligible, in which order, and why the others are not."""
    run = frame.why == ""
    finite = np.isfinite(frame[["bypass", "induce", "kl"]]).all(axis=1)
    frame = frame.assign(
        why=frame.why.mask(run & (frame.kl > kl_at_most), "changes harmless answers")
        .mask(run & (frame.induce < induce_at_least), "does not induce")
        .mask(run & ~finite, "not finite")
    )
    frame["eligible"] = frame.why == ""
    frame["rank"] = frame.bypass.where(frame.eligible).rank(method="first")
    frame["chosen"] = frame["rank"] == 1
    return frame[COLUMNS]


def _reason(frame: pd.DataFrame) -> str:
    counts = ", ".join(f"{count} {why}" for why, count in frame.why.value_counts().items())
    return f"no candidate is eligible: of {len(frame)}, {counts}."
