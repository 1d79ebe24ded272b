"""What is measured of a training run: the stages of its parent, once, and of each checkpoint.

A trajectory needs fewer stages than an audit. Asking, judging, scores and divergence are the audit's own
(`audits.stages`). Directions are read at one token only, the last of the closed empty think block, where both models
decide their first word. The parent's answers and activations are kept in a run of their own, and every checkpoint is
compared with them.

    parent        completions, tasks; activations and readouts at that token
    checkpoint    completions and tasks of both; scores; drift; products; readouts; KL

`products.safetensors` holds a tensor `[layer, 3, family, family]` per dimension. With a_f and b_f the class differences
of family f (sum of triggers minus sum of neutral twins) in parent and checkpoint, it holds the inner products a_f·a_g,
a_f·b_g and b_f·b_g. The direction of any resampling of families is a sum of those vectors, so its cosine follows from
the products alone, for any number of draws.

The readout is calibrated on the parent's answers alone, so it is the same measure at every step.

Early in training, a model that is asked to think does not close its think block yet, and its answers are missing, as in
an audit (`behaviour.censoring`): learning the format is neither a loss nor a gain of alignment. The share of blocks
that were not closed is a measure of its own (`unclosed`). A null model, which was trained without thinking, is asked
without it, as its parent is.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.one_model import collect_one
from mechdrift.activations.readouts import measure, unembed
from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.config import Preset, Size
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.audits.stages import kl, scores
from mechdrift.audits.stages.answers import ask_with_tasks, with_ids
from mechdrift.audits.stages.questions import task_questions
from mechdrift.behaviour.labels import judge_all, judge_tasks
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.tasks import held_out
from mechdrift.behaviour.two_stages import Question
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import find_directions
from mechdrift.directions.thinking import READOUT_ROLE
from mechdrift.pairs.loading import LanguageModel, fingerprint
from mechdrift.pairs.pair import Pair, give_back_memory
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Activations, ProbeSet, Side
from mechdrift.runs import Run

SITE = "resid_pre"
NOTHING: dict[str, Any] = {"variants": 0, "patched": 0, "thinking": 0, "steered": 0}
# A checkpoint asks one twin pair of nearly every family rather than all pairs of a few, because intervals rest on the
# number of families.
SIZES: dict[Preset, Size] = {
    "quick": Size(pairs=16, tasks=48, kl=4, **NOTHING),
    "standard": Size(pairs=32, tasks=96, kl=8, **NOTHING),
    "full": Size(pairs=10_000, tasks=240, kl=16, budget=Budget(), **NOTHING),
}
ANSWERS = ("completions.parquet", "tasks.parquet")


def parent_stages() -> tuple[Stage, ...]:
    """The stages of the parent, which is both models of its pair."""
    return (
        Stage(name="answers", what="the parent is asked", files=ANSWERS, run=ask_parent),
        Stage(
            name="inside",
            what="the parent is read",
            files=("states.safetensors", "readouts.parquet", "readout_validation.parquet"),
            run=record_parent,
        ),
    )


def checkpoint_stages(parent: Run) -> tuple[Stage, ...]:
    """The stages of one checkpoint, which compare it with the run of its parent."""

    def ask_child(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
        for name, table in ask_side(run, pair, plan, "reasoning").items():
            run.write_table(name, pd.concat([parent.table(name), table], ignore_index=True))
        return {}

    def compare_child(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
        return compare_at_readout(run, pair, plan, parent)

    return (
        Stage(name="answers", what="the checkpoint is asked", files=ANSWERS, run=ask_child),
        scores.STAGE,
        Stage(
            name="inside",
            what="directions and readouts are compared with the parent's",
            files=("drift.parquet", "products.safetensors", "readouts.parquet"),
            run=compare_child,
        ),
        kl.STAGE,
    )


# Answers.


def ask_parent(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Ask the parent, and write its answers and tasks."""
    for name, table in ask_side(run, pair, plan, "instruct").items():
        run.write_table(name, table)
    return {}


def ask_side(run: Run, pair: Pair, plan: AuditPlan, side: Side) -> dict[str, pd.DataFrame]:
    """One model's judged answers, as the tables `completions` and `tasks`. Variants, everyday requests and sentences
    are not asked."""
    loaded = pair.open(side, default_dtype_for_generation())
    questions = [Question(id=item.id, prompt=item.prompt) for probes in plan.sets.values() for item in probes]
    answers, to_tasks = ask_with_tasks(run, plan, loaded, side, questions, task_questions(plan))
    judged = [
        with_ids(judge_all(probes, answers.of(probes), plan.refusal_judge), answers.of(probes))
        for probes in plan.sets.values()
    ]
    del loaded
    pair.close(default_dtype_for_generation())
    tasks = judge_tasks(held_out(plan.size.tasks), to_tasks)
    return {"completions": pd.concat(judged, ignore_index=True), "tasks": tasks}


# Activations and readouts.


def record_parent(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Write the parent's activations and readouts, and how well the readouts follow its judged answers."""
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    loaded = pair.open("instruct")
    states, values, checks = {}, [], []
    for name, probes in plan.sets.items():
        states[f"{name}.{SITE}"], states[f"{name}.readout"] = recorded = record_at_readout(loaded, probes)
        logits = unembed(loaded, recorded[1])
        values.append(measure_readouts(answers, name, "instruct", logits))
        found = answers.validate(name, "instruct", logits, plan.seed)
        aligned, misaligned = answers.readout(name, ("instruct",)).words(answers.renderer)
        checks.append(
            {
                "dimension": name,
                "side": "instruct",
                "think": "off",
                "auroc": found.auroc,
                "low": found.low,
                "high": found.high,
                "n": found.n,
                "n_behaving": found.n_behaving,
                "reliable": found.reliable,
                "aligned_tokens": aligned,
                "misaligned_tokens": misaligned,
            }
        )
    run.write_tensors("states", states)
    run.write_table("readouts", pd.concat(values, ignore_index=True))
    run.write_table("readout_validation", pd.DataFrame(checks))
    return {"fingerprint": fingerprint(loaded.model)}


def compare_at_readout(run: Run, pair: Pair, plan: AuditPlan, parent: Run) -> Facts:
    """Compare the checkpoint's directions with the parent's, where both decide their first word, and write its
    readouts."""
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    kept, loaded = parent.tensors("states"), pair.open("reasoning")
    drift, products, values = [], {}, [parent.table("readouts")]
    for name, probes in plan.sets.items():
        after, at_readout = record_at_readout(loaded, probes)
        activations = Activations(
            probes=probes,
            site=SITE,
            layers=tuple(range(after.shape[1])),
            roles=(READOUT_ROLE,),
            think="off",
            instruct=kept[f"{name}.{SITE}"],
            reasoning=after,
        )
        found = find_directions(activations, seed=plan.seed)
        drift.append(compare_directions(found, seed=plan.seed).frame)
        products[name] = torch.from_numpy(family_products(activations))
        values.append(measure_readouts(answers, name, "reasoning", unembed(loaded, at_readout)))
    run.write_table("drift", pd.concat(drift, ignore_index=True))
    run.write_tensors("products", products)
    run.write_table("readouts", pd.concat(values, ignore_index=True))
    give_back_memory()
    return {}


def record_at_readout(
    loaded: LanguageModel, probes: ProbeSet
) -> tuple[Float[Tensor, "prompt layer 1 d_model"], Float[Tensor, "prompt d_model"]]:
    """One set's activations where the first word is decided, and the states that are unembedded there."""
    found = collect_one(loaded, probes, sites=(SITE,), roles=(READOUT_ROLE,), think="off", readout=True)
    assert found.readout is not None
    return found.of(SITE), found.readout


def measure_readouts(answers: RunAnswers, name: str, side: Side, logits: Float[Tensor, "prompt vocab"]) -> pd.DataFrame:
    """Every item's readout in one model, as calibrated on the parent's answers."""
    probes = answers.sets[name]
    values = measure(answers.readout(name, ("instruct",)), logits, [item.id for item in probes])
    return pd.DataFrame(
        [
            {
                "item": item.id,
                "dimension": name,
                "family": item.family,
                "contrast": item.contrast,
                "side": side,
                "think": "off",
                "readout": value,
            }
            for item, value in zip(probes, values, strict=True)
        ]
    )


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
