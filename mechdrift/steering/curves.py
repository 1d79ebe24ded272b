"""Does the instruct model's direction bring refusals back in the reasoning model, and at what price?

There are two arms, each with controls, measured as readouts (for completions, run `md.generate` inside `md.edit`):

    ablate   the selected vector is removed everywhere from the model in which it was *selected*: does the behaviour
             depend on it?
    add      the raw vector times a strength is added to the *other* model at one layer's input: does the behaviour come
             back?

    vector    direction, or a control: random, permuted, wrong layer (`controls`);
              none: the model as it is; other model: the other one as it is, which `add` tries to reach

    measure   trigger, neutral            mean readout: log-odds of the triggers' behaviour, in nats; on neutral items
                                          this behaviour is over-caution
              trigger_change, ..._change  the same minus the unedited model's, paired
              trigger_over_random, ...    on triggers, the direction's readout minus the mean of a control's draws,
                                          paired
              kl                          KL(unedited ‖ edited) in nats, of the next token at the readout position, on
                                          neutral or given harmless items
              task, task_change           mean log-probability per token, in nats, of worked solutions to held-out
                                          tasks: thinking and answer

Intervals are 95 % over families, which by default took part neither in finding (`find`) nor in selecting (`validate`)
the vector. Readouts are taken after the closed think block. In think mode `own` the given thinking stays fixed while
the stream is steered. That has less effect than steering the thinking while it is written (Yang et al.,
https://arxiv.org/abs/2605.26772): to measure that, generate inside `md.edit(md.steer(...))`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mechdrift.activations.prompts import Answers
from mechdrift.activations.readouts import Readout
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Directions, MechdriftError, ProbeSet, ThinkMode, several
from mechdrift.records.notebook import Record
from mechdrift.steering.asked import Asked, ask_harmless, items_of
from mechdrift.steering.controls import Vectors, settings, with_controls
from mechdrift.steering.selection import Selection
from mechdrift.steering.trials import Arm, Measured, Trial, worked_tasks


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SteerBack(Record):
    """The curves. `frame` has a row per setting and measure, which the module's text defines; `facts` says what was
    steered and asked.

    In `frame`, `layer` is that of the direction to whose curve a row belongs, `place` the layer where the vector acts,
    and `cosine` that of the vector with the direction.
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
    layers: int | Sequence[int] | None = None,
    strengths: float | Sequence[float] = (0.5, 1.0, 2.0),
    controls: int = 2,
    pairs: int = 12,
    parts: str | Sequence[str] = ("test",),
    harmless: ProbeSet | None = None,
    tasks: int = 0,
    roles: str | Sequence[str] | None = None,
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
        controls: the number of random vectors, and of permuted ones, that are tried as controls.
        pairs: the largest number of twin pairs that are asked.
        parts: which parts of the selection's families are asked. Nothing was chosen on `"test"`.
        harmless: where KL is measured; by default on the neutral items.
        tasks: how many held-out reasoning tasks are read under steering (0: none).
        roles: add only at the tokens of these roles; by default at all tokens.
        think: as in `collect`; by default as the directions were found.
        answers: as in `collect`.
        readout: as in `patch`.
        dtype: the number format in which the models run.
        seed: of the control vectors and of all resampling.

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
    """What both arms do, decided before a model is opened: the vectors, and the items on which they are tried."""

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
    layers: int | Sequence[int] | None = None,
    strengths: float | Sequence[float] = (0.5, 1.0, 2.0),
    controls: int = 2,
    pairs: int = 12,
    parts: str | Sequence[str] = ("test",),
    harmless: ProbeSet | None = None,
    tasks: int = 0,
    roles: str | Sequence[str] | None = None,
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
    wanted, mode = (layer,) if layers is None else several(layers), think or directions.activations.think
    strengths, parts, roles = several(strengths), several(parts), None if roles is None else several(roles)
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
        strengths=strengths,
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
    pair: Pair, plan: SteeringPlan, arm: Arm, reference: Measured | None = None
) -> tuple[pd.DataFrame, Measured]:
    """One arm's rows, and what its unedited model measured. `ablate` runs in the model that the vector was selected in,
    `add` in the other, with the first one's measurements as `reference`."""
    own, adding = plan.selection.side, arm == "add"
    side = SIDES[1 - SIDES.index(own)] if adding else own
    loaded = pair.open(side, plan.dtype)
    trial = Trial(
        arm=arm,
        side=side,
        loaded=loaded,
        ask=Asked.of(pair, plan.probes, side, plan.think, plan.answers, plan.readout),
        harmless=ask_harmless(pair, plan.harmless, side, plan.think) if plan.harmless else None,
        tasks=worked_tasks(Renderer(pair.tokenizer("reasoning")), plan.tasks) if adding else (),
        roles=plan.roles,
    )
    steps = plan.strengths if adding else (1.0,)
    tried = settings(plan.vectors, plan.selection.layers, plan.layers, loaded.n_layers, steps, adding=adding)
    return trial.run(list(tried), reference)
