"""One arm of a steering experiment: a model, edited by each setting, and what is measured of it.

Per setting and class of items: the mean readout, its paired change against the unedited model, KL of the next token on
harmless items, and the log-probability of worked solutions to held-out tasks. `curves` defines the measures.
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
from mechdrift.activations.readouts import readout_states, unembed
from mechdrift.behaviour.tasks import held_out
from mechdrift.hooks import edit
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Rendered, Side
from mechdrift.statistics.intervals import POSITIVE, UNBOUNDED, Interval
from mechdrift.statistics.resampling import cluster_bootstrap, paired_bootstrap
from mechdrift.steering.asked import Asked, next_token_kl
from mechdrift.steering.controls import CONTROLS, Setting
from mechdrift.steering.edits import role_mask, steer
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is measured under one setting: readouts of all items, next-token logits of the harmless ones, and
    log-probabilities of the tasks' solutions."""

    readouts: Float[np.ndarray, " prompt"]
    logits: Float[Tensor, "harmless vocab"]
    tasks: Float[np.ndarray, " task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One arm: a model, what it is asked, and how it is edited."""

    arm: Arm
    side: Side
    loaded: LanguageModel
    ask: Asked
    harmless: Asked | None
    tasks: tuple[Rendered, ...]
    roles: Sequence[str] | None

    def run(self, tried: Sequence[Setting], reference: Measured | None) -> tuple[pd.DataFrame, Measured]:
        """The arm's rows, and the measurements of the unedited model, which the other arm shows for comparison."""
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

    def measure(self, states: Float[Tensor, "prompt d_model"], setting: Setting | None) -> Measured:
        asked, others = states.split([len(self.ask.rendered), len(states) - len(self.ask.rendered)])
        plain = others if self.harmless else asked[torch.from_numpy(~self.ask.is_trigger)]
        return Measured(
            readouts=self.ask.read(self.loaded, asked),
            logits=unembed(self.loaded, plain),
            tasks=solution_log_probability(self.loaded, self.tasks, setting, self.roles),
        )

    def rows(self, place: Mapping[str, Any], found: Measured, base: Measured) -> Iterator[dict[str, Any]]:
        """Rows of levels, changes against the unedited model, KL and tasks; the unedited model itself has only
        levels."""
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

    def over_controls(self, tried: Sequence[Setting], measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
        """How much further the direction moves triggers than each control does, on the same items."""
        mask, families = self.ask.is_trigger, self.ask.families
        for setting, found in zip(tried, measured, strict=True):
            if setting.vector != "direction":
                continue
            for control in CONTROLS:
                others = [
                    m.readouts
                    for s, m in zip(tried, measured, strict=True)
                    if (s.vector, s.layer, s.strength) == (control, setting.layer, setting.strength)
                ]
                if others:
                    mean = np.mean(others, axis=0)
                    interval = paired_bootstrap(
                        mean[mask], found.readouts[mask], families[mask], bounds=UNBOUNDED, draws=DRAWS
                    )
                    yield _row(_place(setting), f"trigger_over_{control.replace(' ', '_')}", interval, families[mask])


def _place(setting: Setting) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in ("vector", "draw", "layer", "place", "strength", "cosine")}


def _row(place: Mapping[str, Any], measure: str, interval: Interval, families: np.ndarray) -> dict[str, Any]:
    numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {**place, "measure": measure, **numbers, "n": len(families), "families": len(set(families))}


def worked_tasks(renderer: Renderer, count: int) -> tuple[Rendered, ...]:
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
    # `answer_positions` unembeds one span in parts. Here there are two spans, and few enough tokens for one part.
    for each in forward_batches(loaded, rendered):
        with _added(each, setting, roles):
            hidden = each.run()
        for row, (index, prompt) in enumerate(zip(each.places, each.prompts, strict=True)):
            written = [i for role in ("think", "answer") for i in range(*prompt.roles[role])]
            before = torch.tensor(written) - 1  # the logits at a position predict the token after it
            logits = loaded.structure.logits(hidden[row, before]).float().log_softmax(-1).cpu()
            values[index] = (
                logits[torch.arange(len(written)), torch.tensor([prompt.ids[i] for i in written])].mean().item()
            )
    return values


def _added(each: ForwardBatch, setting: Setting | None, roles: Sequence[str] | None):
    if setting is None:
        return nullcontext()
    where = None if roles is None else role_mask(each.prompts, each.batch, roles)
    return edit(steer(each.loaded, setting.tensor, setting.place, where=where))
