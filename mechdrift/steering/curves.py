"""Does the instruct model's direction bring refusals back in the reasoning model, and at what price?

Two arms, each with controls beside it, measured as readouts (for completions, put `md.generate` under `md.edit`):

    ablate   the selected vector is taken out of the *selected* model everywhere: does the behaviour rest on it?
    add      its raw length times a strength is added to the *other* model at one layer's input: does the behaviour come
             back?

    vector    direction, or a control: random, permuted, wrong layer (see `controls`);
              none: the model as it is; other model: the other one as it is, which `add` tries to reach

    measure   trigger, neutral            mean readout, log-odds of the triggers' behaviour; on neutral items it is
              over-caution
              trigger_change, ..._change  the same minus the unedited model's, paired
              trigger_over_random, ...    on triggers, direction minus the mean of a control's draws, paired
              kl                          KL(unedited ‖ edited), next token at the readout position, on neutral or given
                                          harmless items
              task, task_change           mean log-probability per token of worked solutions to held-out tasks: thinking
                                          and answer

Intervals are 95 % over families, which by default took part neither in finding (`find`) nor in selecting (`validate`)
the vector. Readouts are taken after the closed think block. With given thinking (`own`) that stays fixed while the
stream is steered over it, which has less effect than steering the thinking while it is written (Yang et al.,
https://arxiv.org/abs/2605.26772): to measure that, generate under `md.edit(md.steer(...))`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import ForwardBatch, forward_batches
from mechdrift.activations.prompts import Answers
from mechdrift.activations.readouts import Readout, readout_states, unembed
from mechdrift.behaviour.tasks import held_out
from mechdrift.hooks import edit
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Directions, MechdriftError, ProbeSet, Rendered, Side, ThinkMode
from mechdrift.records.notebook import Record
from mechdrift.statistics.intervals import POSITIVE, UNBOUNDED, Interval
from mechdrift.statistics.resampling import cluster_bootstrap, paired_bootstrap
from mechdrift.steering.controls import CONTROLS, Setting, Vectors, settings, with_controls
from mechdrift.steering.edits import role_mask, steer
from mechdrift.steering.selection import Asked, Selection, ask_harmless, items_of, next_token_kl
from mechdrift.steering.sweeps import Addition, ablated_states, steered_states

Arm = Literal["ablate", "add"]
DRAWS = 1000
COLUMNS = [
    "arm",
    "side",
    "vector",
    "draw",
    "layer",
    "place",
    "strength",
    "cosine",
    "measure",
    "estimate",
    "low",
    "high",
    "n",
    "families",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SteerBack(Record):
    """The curves. `frame` has a row per setting and measure, see the module's text; `facts` says what was steered and
    asked.

    `layer` is that of the direction whose curve a row belongs to, `place` where the vector was added, and `cosine` that
    of the vector with the direction.
    """

    frame: pd.DataFrame
    facts: Mapping[str, Any]

    @property
    def summary(self) -> str:
        arms = ", ".join(dict.fromkeys(self.frame.arm))
        return f"{len(self.frame)} rows of {arms}; a row per setting and measure"

    def of(self, arm: Arm, measure: str) -> pd.DataFrame:
        """The rows of one arm and measure."""
        return self.frame[(self.frame.arm == arm) & (self.frame.measure == measure)]

    @property
    def recovery(self) -> pd.DataFrame:
        """Per setting of the arm `add`: the share of the two models' gap on triggers that is closed, a ratio of
        means."""
        rows = self.of("add", "trigger")
        start, goal = (rows[rows.vector == name].estimate.iloc[0] for name in ("none", "other model"))
        steered = rows[~rows.vector.isin(["none", "other model"])]
        return steered[["vector", "draw", "layer", "place", "strength"]].assign(
            recovery=(steered.estimate - start) / (goal - start)
        )


def steer_back(
    pair: Pair,
    directions: Directions,
    selection: Selection,
    *,
    layers: Sequence[int] | None = None,
    strengths: Sequence[float] = (0.5, 1.0, 2.0),
    controls: int = 2,
    pairs: int = 12,
    parts: Sequence[str] = ("test",),
    harmless: ProbeSet | None = None,
    tasks: int = 0,
    roles: Sequence[str] | None = None,
    think: ThinkMode | None = None,
    answers: Answers | None = None,
    readout: Readout | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> SteerBack:
    """Does the parent's direction, added to the child, bring the behaviour back? Dose-response with baselines.

    Two arms: the direction is taken out of the model it was selected in (`ablate`), and added to the other model at
    several strengths (`add`). Vectors of the same length that should do nothing are tried at the same places.

    Args:
        pair: the two models.
        directions: from `find_directions`.
        selection: from `select_direction`.
        layers: where the vector is added; by default at the selected layer, or the closest candidate's.
        strengths: in units of the vector's own length.
        controls: how many random vectors, and how many permutations, are tried beside it.
        pairs: how many twin pairs are asked at most.
        parts: which parts of the selection's families are asked. Nothing was chosen on `"test"`.
        harmless: where KL is measured; by default on the neutral items.
        tasks: how many held-out reasoning tasks are read under steering (0: none).
        roles: add only at the tokens of these roles; by default at all tokens.
        think: as in `collect`; by default as the directions were found.
        answers: as in `collect`.
        readout: as in `patch`.
        dtype: in which the models run.
        seed: of the baseline vectors and of all resampling.

    Returns:
        A `SteerBack`: `.frame` with a row per arm, vector, layer, strength and measure (`estimate, low, high`: readouts
        in log-odds with 95 % intervals over families, KL in nats), `.of(arm, measure)`, and `.recovery`, the share of
        the gap that steering closes.

    Raises:
        MechdriftError: when the selection has nothing to steer with, and when the families lack triggers or neutral
            items.

    Source:
        Activation addition and ablation: Arditi et al. 2024, https://arxiv.org/abs/2406.11717; steering with thinking
        held fixed: https://arxiv.org/abs/2605.26772.

    Example:
        >>> curve = md.steer_back(pair, dirs, chosen, pairs=4, parts=("validate", "test"))
        >>> table = curve.of("add", "trigger")[["vector", "layer", "strength", "estimate", "low", "high"]]
    """
    plan = plan_steering(
        directions,
        selection,
        layers=layers,
        strengths=strengths,
        controls=controls,
        pairs=pairs,
        parts=parts,
        harmless=harmless,
        tasks=tasks,
        roles=roles,
        think=think,
        answers=answers,
        readout=readout,
        dtype=dtype,
        seed=seed,
    )
    ablated, reference = run_arm(pair, plan, "ablate")
    added, _ = run_arm(pair, plan, "add", reference)
    return SteerBack(frame=pd.concat([ablated, added], ignore_index=True), facts=plan.facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringPlan:
    """What both arms do, settled before a model is opened: the vectors, whom they are tried on, and how."""

    selection: Selection
    vectors: Vectors
    probes: ProbeSet
    layers: tuple[int, ...]
    strengths: tuple[float, ...]
    think: ThinkMode
    harmless: ProbeSet | None
    tasks: int
    roles: Sequence[str] | None
    answers: Answers | None
    readout: Readout | None
    dtype: str
    facts: Mapping[str, Any]


def plan_steering(
    directions: Directions,
    selection: Selection,
    *,
    layers: Sequence[int] | None = None,
    strengths: Sequence[float] = (0.5, 1.0, 2.0),
    controls: int = 2,
    pairs: int = 12,
    parts: Sequence[str] = ("test",),
    harmless: ProbeSet | None = None,
    tasks: int = 0,
    roles: Sequence[str] | None = None,
    think: ThinkMode | None = None,
    answers: Answers | None = None,
    readout: Readout | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> SteeringPlan:
    """The plan of `steer_back` with the same arguments; raises as it does. `run_arm` runs one arm of it, in one
    model."""
    if selection.closest is None:
        raise MechdriftError(f"there is nothing to steer with: {selection.reason}")
    layer, role = selection.closest
    wanted, mode = tuple(layers) if layers is not None else (layer,), think or directions.activations.think
    probes = items_of(
        directions.activations.probes, tuple(name for part in parts for name in selection.families[part]), pairs, seed
    )
    if not (probes.where("trigger").items and probes.where("neutral").items):
        raise MechdriftError(
            f"the families of {', '.join(parts)} lack triggers or neutral items: name more parts, or take more items."
        )
    facts = {
        "selected": selection.facts,
        "layer": layer,
        "role": role,
        "eligible": selection.layer is not None,
        "layers": list(wanted),
        "strengths": list(strengths),
        "controls": controls,
        "parts": list(parts),
        "families": list(probes.families),
        "n": len(probes),
        "tasks": tasks,
        "tokens": list(roles) if roles else "all",
        "think": mode,
        "dtype": dtype,
        "seed": seed,
    }
    return SteeringPlan(
        selection=selection,
        vectors=with_controls(directions.activations, selection, role, controls, seed),
        probes=probes,
        layers=wanted,
        strengths=tuple(strengths),
        think=mode,
        harmless=harmless,
        tasks=tasks,
        roles=roles,
        answers=answers,
        readout=readout,
        dtype=dtype,
        facts=facts,
    )


def run_arm(
    pair: Pair, plan: SteeringPlan, arm: Arm, reference: "_Measured | None" = None
) -> tuple[pd.DataFrame, "_Measured"]:
    """One arm's rows, and what its unedited model measured. `ablate` runs in the model that the vector was selected in,
    `add` in the other, with the first one's measurements as `reference`."""
    own, adding = plan.selection.side, arm == "add"
    side = SIDES[1 - SIDES.index(own)] if adding else own
    loaded = pair.open(side, plan.dtype)
    trial = _Trial(
        arm=arm,
        side=side,
        loaded=loaded,
        ask=Asked.of(pair, plan.probes, side, plan.think, plan.answers, plan.readout),
        harmless=ask_harmless(pair, plan.harmless, side, plan.think) if plan.harmless else None,
        tasks=_worked(Renderer(pair.tokenizer("reasoning")), plan.tasks) if adding else (),
        roles=plan.roles,
    )
    steps = plan.strengths if adding else (1.0,)
    tried = settings(plan.vectors, plan.selection.layers, plan.layers, loaded.n_layers, steps, adding=adding)
    return trial.run(list(tried), reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One setting's readouts of all items, logits on the harmless ones, and log-probabilities of the tasks'
    solutions."""

    readouts: Float[np.ndarray, " prompt"]
    logits: Float[Tensor, "harmless vocab"]
    tasks: Float[np.ndarray, " task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One arm: a model, what it is asked, and how it is edited."""

    arm: Arm
    side: Side
    loaded: LanguageModel
    ask: Asked
    harmless: Asked | None
    tasks: tuple[Rendered, ...]
    roles: Sequence[str] | None

    def run(self, tried: Sequence[Setting], reference: _Measured | None) -> tuple[pd.DataFrame, _Measured]:
        """The arm's rows, and what the unedited model measured, for the next arm to show beside its own."""
        prompts = (*self.ask.rendered, *(self.harmless.rendered if self.harmless else ()))
        base = self.measure(readout_states(self.loaded, prompts), None)
        rows = list(self.rows({"vector": "none"}, base, base))
        if reference is not None:
            rows += self.rows({"vector": "other model"}, reference, base)
        measured = [
            self.measure(states, setting)
            for setting, states in zip(tried, self.edited_states(prompts, tried), strict=True)
        ]
        for setting, found in zip(tried, measured, strict=True):
            rows += self.rows(_place(setting), found, base)
        rows += self.over_controls(tried, measured)
        return pd.DataFrame(rows).assign(arm=self.arm, side=self.side).reindex(columns=COLUMNS), base

    def edited_states(
        self, prompts: Sequence[Rendered], tried: Sequence[Setting]
    ) -> Float[Tensor, "setting prompt d_model"]:
        if self.arm == "add":
            additions = [Addition(layer=setting.place, vector=setting.tensor) for setting in tried]
            return steered_states(self.loaded, prompts, additions, self.roles, f"Steering the {self.side} model")
        return ablated_states(
            self.loaded, prompts, torch.stack([s.tensor for s in tried]), f"Ablating in the {self.side} model"
        )

    def measure(self, states: Float[Tensor, "prompt d_model"], setting: Setting | None) -> _Measured:
        asked, others = states.split([len(self.ask.rendered), len(states) - len(self.ask.rendered)])
        plain = others if self.harmless else asked[torch.from_numpy(~self.ask.is_trigger)]
        return _Measured(
            readouts=self.ask.read(self.loaded, asked),
            logits=unembed(self.loaded, plain),
            tasks=solution_log_probability(self.loaded, self.tasks, setting, self.roles),
        )

    def rows(self, place: Mapping[str, Any], found: _Measured, base: _Measured) -> Iterator[dict[str, Any]]:
        """Levels, changes against the unedited model, KL and cost; a model compared with itself has no changes."""
        is_trigger, families = self.ask.is_trigger, self.ask.families
        for name, mask in (("trigger", is_trigger), ("neutral", ~is_trigger)):
            level = cluster_bootstrap(found.readouts[mask], families[mask], bounds=UNBOUNDED, draws=DRAWS)
            yield _row(place, name, level, families[mask])
            if found is not base:
                change = paired_bootstrap(
                    base.readouts[mask], found.readouts[mask], families[mask], bounds=UNBOUNDED, draws=DRAWS
                )
                yield _row(place, f"{name}_change", change, families[mask])
        if found is not base:
            groups = self.harmless.families if self.harmless else families[~is_trigger]
            divergence = next_token_kl(base.logits, found.logits)
            yield _row(place, "kl", cluster_bootstrap(divergence, groups, bounds=POSITIVE, draws=DRAWS), groups)
        if len(found.tasks):
            kinds = np.array([prompt.item_id for prompt in self.tasks])
            yield _row(place, "task", cluster_bootstrap(found.tasks, kinds, bounds=UNBOUNDED, draws=DRAWS), kinds)
            if found is not base:
                change = paired_bootstrap(base.tasks, found.tasks, kinds, bounds=UNBOUNDED, draws=DRAWS)
                yield _row(place, "task_change", change, kinds)

    def over_controls(self, tried: Sequence[Setting], measured: Sequence[_Measured]) -> Iterator[dict[str, Any]]:
        """How much further the direction moves triggers than each control does, on the same items."""
        mask, families = self.ask.is_trigger, self.ask.families
        for setting, found in zip(tried, measured, strict=True):
            if setting.vector != "direction":
                continue
            for control in CONTROLS:
                beside = [
                    m.readouts
                    for s, m in zip(tried, measured, strict=True)
                    if (s.vector, s.layer, s.strength) == (control, setting.layer, setting.strength)
                ]
                if beside:
                    mean = np.mean(beside, axis=0)
                    interval = paired_bootstrap(
                        mean[mask], found.readouts[mask], families[mask], bounds=UNBOUNDED, draws=DRAWS
                    )
                    yield _row(_place(setting), f"trigger_over_{control.replace(' ', '_')}", interval, families[mask])


def _place(setting: Setting) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in ("vector", "draw", "layer", "place", "strength", "cosine")}


def _row(place: Mapping[str, Any], measure: str, interval: Interval, families: np.ndarray) -> dict[str, Any]:
    numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {**place, "measure": measure, **numbers, "n": len(families), "families": len(set(families))}


# The price in reasoning.


def _worked(renderer: Renderer, count: int) -> tuple[Rendered, ...]:
    """Held-out tasks with their worked solution as thinking, and the answer; a task's kind is its family."""
    return tuple(
        renderer.render(
            task.kind,
            task.question,
            "own",
            thinking=renderer.encode_answer(task.solution),
            answer=renderer.encode_answer(f"The answer is {task.answer}."),
        )
        for task in (held_out(count) if count else ())
    )


@torch.inference_mode()
def solution_log_probability(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    setting: Setting | None = None,
    roles: Sequence[str] | None = None,
) -> Float[np.ndarray, " task"]:
    """Mean log-probability per token of each prompt's thinking and answer, teacher-forced, with the setting's vector
    added."""
    values = np.empty(len(rendered))
    # `answer_positions` unembeds one span in parts; here are two spans, and a task has few enough tokens for one part.
    for each in forward_batches(loaded, rendered):
        with _added(each, setting, roles):
            hidden = each.run()
        for row, (index, prompt) in enumerate(zip(each.places, each.prompts, strict=True)):
            written = [i for role in ("think", "answer") for i in range(*prompt.roles[role])]
            before = torch.tensor(written) - 1  # the logits at a position predict the token after it
            logits = loaded.structure.unembed(hidden[row, before]).float().log_softmax(-1).cpu()
            values[index] = (
                logits[torch.arange(len(written)), torch.tensor([prompt.ids[i] for i in written])].mean().item()
            )
    return values


def _added(each: ForwardBatch, setting: Setting | None, roles: Sequence[str] | None):
    if setting is None:
        return nullcontext()
    where = None if roles is None else role_mask(each.prompts, each.batch, roles)
    return edit(steer(each.loaded, setting.tensor, setting.place, where=where))
