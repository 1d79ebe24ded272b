"""What is measured of a training run: the stages of its parent, once, and of each checkpoint.

These are the stages of an audit, as few and as lean as a trajectory needs: asking, judging, scores, and the divergence
are the audit's own (`Stages`); directions are read at one token only, the last of the closed empty think block, where
both models decide their first word. The parent's answers and activations are kept in a run of its own, and every
checkpoint is compared with those.

    parent        completions, tasks; activations and readouts at that token
    checkpoint    completions and tasks of both; scores; drift; products; readouts; KL

`products.safetensors` holds per dimension `[layer, 3, family, family]`: with a_f, b_f the families' class differences
(sum of triggers minus sum of neutral twins) in parent and checkpoint, the inner products a_f·a_g, a_f·b_g, b_f·b_g. The
direction of any resampling of families is a sum of those vectors, so its cosine follows from the products alone, for
any number of draws.

The readout is calibrated on the parent's answers alone: one measure for all steps.

Early in training a model that is asked to think does not close its think block yet. An audit counts that as no answer,
and so as not aligned; along a training run it would take learning the format for a loss of alignment. So here what is
judged is the answer that was given once the block was closed, by the model or, at the end of the budget, by mechdrift,
as reasoning tasks are judged in audits, too; how many blocks were not closed stands beside it (`unclosed`). A control
that was trained without thinking (route `null`) is asked without it, as its parent is.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.capture import collect_one
from mechdrift.activations.readouts import measure, unembed, validate
from mechdrift.audits.config import Preset, Size
from mechdrift.audits.stages import Stage, Stages
from mechdrift.behaviour.generation import Budget
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import find_directions
from mechdrift.directions.thinking import READOUT_ROLE
from mechdrift.pairs.loading import LanguageModel, fingerprint
from mechdrift.pairs.pair import give_back_memory
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Activations, Completions, ProbeSet, Side
from mechdrift.runs import Run

SITE = "resid_pre"
NOTHING: dict[str, Any] = {"variants": 0, "patched": 0, "thinking": 0, "steered": 0}
# A checkpoint takes one twin pair of nearly every family rather than all pairs of a few: families are what intervals
# rest on.
SIZES: dict[Preset, Size] = {
    "quick": Size(pairs=16, tasks=48, kl=4, **NOTHING),
    "standard": Size(pairs=32, tasks=96, kl=8, **NOTHING),
    "full": Size(pairs=10_000, tasks=240, kl=16, budget=Budget(), **NOTHING),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lean(Stages):
    """An audit's stages without variants, everyday requests and sentence pairs."""

    @property
    def plain(self) -> ProbeSet:
        return ProbeSet(name="plain", dimension="safety", items=())

    @property
    def variants(self) -> dict[tuple[str, str], ProbeSet]:
        return {}

    def judged(self, probes: ProbeSet, answers: Completions) -> pd.DataFrame:
        """Judged as if every think block had been closed by the model; `closed` says which were."""
        as_closed = replace(answers, rows=tuple(replace(row, closed=True) for row in answers))
        return Stages.judged(self, probes, as_closed).assign(closed=[row.closed for row in answers])

    def ask_one(self, side: Side) -> dict[str, pd.DataFrame]:
        """One model's answers, judged: `completions` and `tasks`."""
        loaded = self.pair.open(side, default_dtype_for_generation())
        _, found = self.ask_side(loaded, side)
        del loaded
        self.pair.close(default_dtype_for_generation())
        return {name: pd.concat(found[name], ignore_index=True) for name in ("completions", "tasks")}

    def record_one(
        self, loaded: LanguageModel, name: str
    ) -> tuple[Float[Tensor, "prompt layer 1 d_model"], Float[Tensor, "prompt d_model"]]:
        """One set's activations where the first word is decided, and what is unembedded there."""
        found = collect_one(loaded, self.sets[name], sites=(SITE,), roles=(READOUT_ROLE,), think="off", readout=True)
        assert found.readout is not None
        return found.of(SITE), found.readout

    def readouts(
        self, loaded: LanguageModel, name: str, side: Side, states: Float[Tensor, "prompt d_model"]
    ) -> pd.DataFrame:
        """Every item's readout in one model, by what the parent's answers calibrate."""
        probes = self.sets[name]
        values = measure(self.readout(name, ("instruct",)), unembed(loaded, states), [item.id for item in probes])
        return pd.DataFrame(
            [
                {
                    "item": item.id,
                    "dimension": name,
                    "family": item.family,
                    "contrast": item.contrast,
                    "side": side,
                    "readout": value,
                }
                for item, value in zip(probes, values, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentStages(Lean):
    """The model that training started from; both sides of its pair are it."""

    def all(self) -> tuple[Stage, ...]:
        return (
            ("answers", ("completions.parquet", "tasks.parquet"), self.ask_parent),
            ("inside", ("states.safetensors", "readouts.parquet", "readout_validation.parquet"), self.record_parent),
        )

    def ask_parent(self) -> dict[str, Any]:
        for name, table in self.ask_one("instruct").items():
            self.run.write_table(name, table)
        return {}

    def record_parent(self) -> dict[str, Any]:
        loaded, renderer = self.pair.open("instruct"), Renderer(self.pair.tokenizer("instruct"))
        states, values, checks = {}, [], []
        for name, probes in self.sets.items():
            states[f"{name}.{SITE}"], states[f"{name}.readout"] = recorded = self.record_one(loaded, name)
            values.append(self.readouts(loaded, name, "instruct", recorded[1]))
            logits = dict(zip([item.id for item in probes], unembed(loaded, recorded[1]), strict=True))
            found = validate(renderer, probes, logits, self.observed(name, "instruct"), self.config.seed)
            checks.append(
                {
                    "dimension": name,
                    "auroc": found.auroc,
                    "low": found.low,
                    "high": found.high,
                    "n": found.n,
                    "reliable": found.reliable,
                }
            )
        self.run.write_tensors("states", states)
        self.run.write_table("readouts", pd.concat(values, ignore_index=True))
        self.run.write_table("readout_validation", pd.DataFrame(checks))
        return {"fingerprint": fingerprint(loaded.model)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStages(Lean):
    """One checkpoint, held against the run in which its parent was measured."""

    parent: Run

    def all(self) -> tuple[Stage, ...]:
        return (
            ("answers", ("completions.parquet", "tasks.parquet"), self.ask_child),
            ("scores", ("scores.parquet",), self.compute_scores),
            ("inside", ("drift.parquet", "products.safetensors", "readouts.parquet"), self.compare_at_readout),
            ("kl", ("kl.parquet", "kl_tokens.parquet"), self.measure_kl),
        )

    def ask_child(self) -> dict[str, Any]:
        for name, table in self.ask_one("reasoning").items():
            self.run.write_table(name, pd.concat([self.parent.table(name), table], ignore_index=True))
        return {}

    def compare_at_readout(self) -> dict[str, Any]:
        kept, loaded = self.parent.tensors("states"), self.pair.open("reasoning")
        drift, products, values = [], {}, [self.parent.table("readouts")]
        for name, probes in self.sets.items():
            after, at_readout = self.record_one(loaded, name)
            activations = Activations(
                probes=probes,
                site=SITE,
                layers=tuple(range(after.shape[1])),
                roles=(READOUT_ROLE,),
                think="off",
                instruct=kept[f"{name}.{SITE}"],
                reasoning=after,
            )
            found = find_directions(activations, seed=self.config.seed)
            drift.append(compare_directions(found, seed=self.config.seed).frame)
            products[name] = torch.from_numpy(family_products(activations))
            values.append(self.readouts(loaded, name, "reasoning", at_readout))
        self.run.write_table("drift", pd.concat(drift, ignore_index=True))
        self.run.write_tensors("products", products)
        self.run.write_table("readouts", pd.concat(values, ignore_index=True))
        give_back_memory()
        return {}


def family_products(activations: Activations) -> Float[np.ndarray, "layer 3 family family"]:
    """Inner products of the families' class differences: parent with itself, parent with checkpoint, checkpoint with
    itself."""
    names, family = np.unique(activations.families, return_inverse=True)
    signed = np.eye(len(names))[:, family] * np.where(activations.is_trigger, 1.0, -1.0)
    before, after = (
        np.einsum("fp,pld->lfd", signed, recorded[:, :, 0].double().numpy())
        for recorded in (activations.instruct, activations.reasoning)
    )
    return np.stack([a @ b.transpose(0, 2, 1) for a, b in ((before, before), (before, after), (after, after))], axis=1)
