"""The stages of an audit. Each fills its files in the run folder and returns facts for the manifest; see `audit` for
their order."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mechdrift.activations.capture import collect
from mechdrift.activations.readouts import (
    Observed,
    Readout,
    make_readout,
    measure,
    observe,
    readout_states,
    unembed,
    validate,
)
from mechdrift.audits.config import Audit, Size
from mechdrift.audits.summaries import summarise_both_ways, summarise_grid, summarise_kl, summarise_passage
from mechdrift.behaviour.benchmark_scores.likelihoods import log_likelihoods
from mechdrift.behaviour.divergence import kl_drift
from mechdrift.behaviour.generation import GREEDY, Question, Sampling, ask
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.labels import (
    RULES,
    VARIANTS,
    compare_sentences,
    judge_all,
    judge_tasks,
    judge_variant,
    plain_set,
    variant_of,
)
from mechdrift.behaviour.scores import score_table
from mechdrift.behaviour.tasks import held_out
from mechdrift.directions.dimensions import compare_dimensions
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import at_roles, direction_cones, find_directions
from mechdrift.directions.thinking import READOUT_ROLE, thinking_table
from mechdrift.pairs.lineage import audit_pair
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair, give_back_memory
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import patch
from mechdrift.probes.benchmarks.loading import subset
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_plain, load_probes, load_sentences
from mechdrift.records import (
    SIDES,
    Activations,
    Completion,
    Completions,
    Directions,
    ProbeSet,
    Rendered,
    Side,
    ThinkMode,
)
from mechdrift.runs import Run
from mechdrift.steering.curves import steer_back
from mechdrift.steering.selection import select_direction

OWN_MODE: dict[Side, ThinkMode] = {"instruct": "none", "reasoning": "own"}  # how each model is used, and asked
CONTROL = "null"  # the route of a child that was trained without thinking, to see what training as such does
ASKED = ("completions", "variants", "everyday", "sentences", "tasks")  # the tables that asking both models fills
INSIDE = (
    "drift",
    "cones",
    "thinking",
    "dimensions",
    "selection",
    "steering",
)  # the tables that comparing directions fills
PATCHED = ("patch", "patch_items", "placebos", "grafts")  # the tables that patching and grafting fill
PLACEBOS = ("unrelated", "random")  # donors that have nothing to restore
WAYS: tuple[tuple[Side, Side], ...] = (SIDES, SIDES[::-1])  # donor, recipient: what restores, and what breaks
STEERED = "safety"  # the dimension whose direction is tried for what it does
CANDIDATES = 12  # of them, the most promising by a first-order estimate
HARMLESS = 12  # everyday requests, on which the price of taking a direction out is measured
STRENGTHS = (0.5, 1.0, 2.0)
LEAST_FAMILIES = 4  # with answers, to compare directions there: two in each half of a split
Stage = tuple[str, tuple[str, ...], Callable[[], dict[str, Any]]]
"""Its name, its files, and what makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """One audit's pair, run folder, probe sets and size, and the stages that work on them."""

    config: Audit
    pair: Pair
    run: Run
    sets: dict[str, ProbeSet]
    size: Size
    refusal_judge: RefusalJudge = RULES
    modes: Mapping[Side, ThinkMode] = field(default_factory=lambda: OWN_MODE)

    def all(self) -> tuple[Stage, ...]:
        return (
            ("pair", ("weights.parquet",), self.look_at_pair),
            ("answers", (*(f"{name}.parquet" for name in ASKED), "own_states.safetensors"), self.ask_both),
            ("scores", ("scores.parquet",), self.compute_scores),
            (
                "drift",
                (*(f"{name}.parquet" for name in INSIDE), "directions.safetensors", "readout_states.safetensors"),
                self.compare_inside,
            ),
            ("readouts", ("readouts.parquet", "readout_validation.parquet", "passage.parquet"), self.validate_readouts),
            ("patch", tuple(f"{name}.parquet" for name in PATCHED), self.patch_both_ways),
            ("kl", ("kl.parquet", "kl_tokens.parquet"), self.measure_kl),
        )

    def look_at_pair(self) -> dict[str, Any]:
        found = audit_pair(self.pair, [item.prompt for probes in self.sets.values() for item in probes])
        self.run.write_table("weights", found.frame)
        described = {
            "name": self.pair.name,
            "route": self.pair.route,
            "instruct": {"name": self.pair.instruct.name},
            "reasoning": {"name": self.pair.reasoning.name},
            "warnings": list(found.warnings),
            "facts": found.facts,
            "templates": found.templates,
            "same_tokens": found.same_tokens,
            "stated_parent": found.stated_parent,
            "fingerprints": found.fingerprints,
            "control": self.pair.control.name if self.pair.control else "",
        }
        counts = {
            name: {"n": len(probes), "families": len(probes.families), "sampled_from": len(load_probes(name))}
            for name, probes in self.sets.items()
        }
        surface = {side: self.pair.open(side).max_surface_error for side in SIDES}
        self.pair.close("float32")  # not needed while both answer: half of the memory
        return {"pair": described, "probes": counts, "self_tests": {"surface_error": surface}}

    def ask_both(self) -> dict[str, Any]:
        """Both models' answers, judged, and what each unembeds before its first answer token when it is used as it
        should be."""
        found: dict[str, list[pd.DataFrame]] = {name: [] for name in ASKED}
        states, answers = {}, Completions(side="reasoning", think="own", rows=())
        for side in SIDES:
            loaded = self.pair.open(side, default_dtype_for_generation())
            answers, asked = self.ask_side(loaded, side)
            for name, tables in asked.items():
                found[name] += tables
            for name, probes in self.sets.items():
                states[f"{name}.{side}"] = readout_states(loaded, render_answered(loaded, probes, answers.of(probes)))
            if "bias" in self.sets:
                found["sentences"].append(weigh_pairs(loaded, side))
            del loaded
            self.pair.close(default_dtype_for_generation())
        states |= self.with_the_child_s_thinking(answers)
        for name, tables in found.items():
            self.run.write_table(
                name, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"dimension": []})
            )
        self.run.write_tensors("own_states", states)
        judged = [table for name in ("completions", "variants", "everyday") for table in found[name] if len(table)]
        failures = Counter(why.split(":")[0] for table in judged for why in table[table.failed].why)
        return {"judge": {"name": self.refusal_judge.name, "failures": dict(failures)}}

    def ask_side(self, loaded: LanguageModel, side: Side) -> tuple[Completions, dict[str, list[pd.DataFrame]]]:
        """One model's answers to everything that is asked, and the tables of them, judged."""
        tasks, plain = held_out(self.size.tasks), self.plain
        asked = [item for probes in (*self.sets.values(), *self.variants.values(), plain) for item in probes]
        answers = self.ask(
            loaded, side, [Question(id=item.id, prompt=item.prompt) for item in asked], self.config.sampling
        )
        found: dict[str, list[pd.DataFrame]] = {"completions": [], "variants": [], "everyday": [], "tasks": []}
        for probes in self.sets.values():
            own = answers.of(probes)
            judged = self.judged(probes, own)
            ids = ["item", "sample", "thinking_ids", "answer_ids"]
            found["completions"].append(judged.merge(own.frame[ids], on=ids[:2]))
        for (name, variant), probes in self.variants.items():
            found["variants"].append(judge_variant(self.sets[name], variant, answers.of(probes), self.refusal_judge))
        found["everyday"].append(judge_all(plain, answers.of(plain), self.refusal_judge))
        exercises = [Question(id=f"task-{index}", prompt=task.question) for index, task in enumerate(tasks)]
        found["tasks"].append(judge_tasks(tasks, self.ask(loaded, side, exercises)))
        return answers, found

    def judged(self, probes: ProbeSet, answers: Completions) -> pd.DataFrame:
        return judge_all(probes, answers, self.refusal_judge)

    def with_the_child_s_thinking(self, answers: Completions) -> dict[str, Tensor]:
        """What the instruct model unembeds after the reasoning model's thinking, which it reads as if it were its
        own."""
        loaded = self.pair.open("instruct", default_dtype_for_generation())
        given = replace(answers, think="donor")
        states = {
            f"{name}.instruct.donor": readout_states(loaded, render_answered(loaded, probes, given.of(probes)))
            for name, probes in self.sets.items()
        }
        del loaded
        self.pair.close(default_dtype_for_generation())
        return states

    @property
    def plain(self) -> ProbeSet:
        """Everyday requests, evenly over their families; none where safety is not audited."""
        everyday = plain_set(load_plain())
        return (
            subset(everyday, self.size.pairs, self.config.seed)
            if "safety" in self.sets
            else replace(everyday, items=())
        )

    @property
    def variants(self) -> dict[tuple[str, str], ProbeSet]:
        """The items that are asked a second time, in other words."""
        return {
            (name, variant): variant_of(probes.sample(self.size.variants, self.config.seed), variant)
            for name, probes in self.sets.items()
            for variant in VARIANTS.get(probes.dimension, ())
        }

    def ask(
        self, loaded: LanguageModel, side: Side, questions: Sequence[Question], sampling: Sampling = GREEDY
    ) -> Completions:
        return ask(
            loaded,
            questions,
            side,
            self.modes[side],
            budget=self.size.budget,
            sampling=sampling,
            store=self.run.folder / f"answers-{side}.partial.jsonl",
            description=f"Asking {side}",
        )

    def compute_scores(self) -> dict[str, Any]:
        extra = {
            name: self.run.table(name) if self.run.has(f"{name}.parquet") else None
            for name in ("variants", "everyday", "sentences")
        }
        table = score_table(self.run.table("completions"), self.run.table("tasks"), **extra, seed=self.config.seed)
        self.run.write_table("scores", table.frame)
        return {}

    def compare_inside(self) -> dict[str, Any]:
        """Directions and their drift. The same passes keep what is unembedded at the readout position, for the next
        stage."""
        directions, states, at_readout = {}, {}, []
        tables: dict[str, list[pd.DataFrame]] = {name: [] for name in INSIDE}
        for name, probes in self.sets.items():
            activations, kept = self.record(name)
            found = find_directions(activations, seed=self.config.seed)
            drift = compare_directions(found, seed=self.config.seed).frame
            tables["drift"].append(drift)
            tables["cones"].append(direction_cones(found, seed=self.config.seed))
            some, answers = probes.sample(self.size.thinking, self.config.seed), self.completions(name, "reasoning")
            tables["thinking"].append(thinking_table(self.pair, some, answers, found, drift, seed=self.config.seed))
            at_readout.append(at_roles(found, READOUT_ROLE))
            if name == STEERED and self.size.steered:
                selection, steering = self.steer(found)
                tables["selection"].append(selection)
                tables["steering"].append(steering)
            directions |= {f"{name}.{side}": found.of(side) for side in SIDES}
            states |= {f"{name}.{side}": kept[side] for side in SIDES}
            give_back_memory()
        several = len(at_readout) > 1
        tables["dimensions"].append(
            compare_dimensions(at_readout, seed=self.config.seed) if several else pd.DataFrame({"first": []})
        )
        for name, parts in tables.items():
            self.run.write_table(name, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"layer": []}))
        self.run.write_tensors("directions", directions)
        self.run.write_tensors("readout_states", states)
        return {}

    def steer(self, found: Directions) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Which of the instruct model's directions does something, and what adding it does to the reasoning model."""
        asked = {
            "pairs": self.size.steered,
            "readout": self.readout(found.dimension),
            "seed": self.config.seed,
            "harmless": subset(plain_set(load_plain()), HARMLESS, self.config.seed),
        }
        chosen = select_direction(self.pair, found, screen=CANDIDATES, **asked)
        limits = {
            name: getattr(chosen, name)
            for name in ("baseline_trigger", "baseline_neutral", "kl_at_most", "n_trigger", "n_neutral")
        }
        used = [(row.layer, row.role) == chosen.closest for row in chosen.frame.itertuples()]
        selection = chosen.frame.assign(dimension=found.dimension, reason=chosen.reason, used=used, **limits)
        if chosen.closest is None:
            return selection, pd.DataFrame({"layer": []})
        curves = steer_back(self.pair, found, chosen, strengths=STRENGTHS, **asked)
        return selection, curves.frame.assign(dimension=found.dimension, eligible=chosen.layer is not None)

    def record(self, name: str) -> tuple[Activations, dict[Side, Tensor]]:
        """Activations at the roles that directions are compared at, and readout states of all items, in the set's
        order.

        Twin pairs without two answers have no role `answer`: they are left out, or, where too few families remain, the
        role is.
        """
        probes, roles = self.sets[name], ("template_tail", "think_close[-1]")
        answers = self.completions(name, "instruct")
        complete = _with_answers(probes, answers)
        if len(complete.families) < LEAST_FAMILIES:
            recorded = collect(self.pair, probes, roles=roles, readout=True)
            return recorded, dict(recorded.readout)
        recorded = collect(self.pair, complete, roles=(*roles, "answer"), answers=answers, readout=True)
        missing = replace(probes, items=tuple(item for item in probes if item not in complete.items))
        if not missing.items:
            return recorded, dict(recorded.readout)
        others = collect(self.pair, missing, roles=("think_close[-1]",), layers=(0,), readout=True)
        place = {item.id: i for i, item in enumerate((*complete, *missing))}
        order = [place[item.id] for item in probes]
        return recorded, {side: torch.cat([recorded.readout[side], others.readout[side]])[order] for side in SIDES}

    def validate_readouts(self) -> dict[str, Any]:
        """Readouts of both models with an empty think block and as they are used, against what each was judged to do.

        With an empty block one readout serves both models, because the patch grids compare them; else each model has
        its own.
        """
        off, own = self.run.tensors("readout_states"), self.run.tensors("own_states")
        values, checks, crossed = [], [], []
        for side in SIDES:
            loaded = self.pair.open(side)
            for name in self.sets:
                for think, states in (("off", off), (self.modes[side], own)):
                    measured, check = self.validate_readout(
                        loaded, name, side, think, unembed(loaded, states[f"{name}.{side}"])
                    )
                    values.append(measured)
                    checks.append(check)
                thought = own[f"{name}.instruct.donor" if side == "instruct" else f"{name}.reasoning"]
                crossed += [
                    self.cross(loaded, name, side, think, kept)
                    for think, kept in (("off", off[f"{name}.{side}"]), ("own", thought))
                ]
            del loaded  # or a large model would still be in memory while the other side is opened
        self.run.write_table("readouts", pd.concat(values, ignore_index=True))
        self.run.write_table("readout_validation", pd.DataFrame(checks))
        self.run.write_table("passage", summarise_passage(pd.concat(crossed, ignore_index=True), self.config.seed))
        return {}

    def cross(self, loaded: LanguageModel, name: str, side: Side, think: ThinkMode, states: Tensor) -> pd.DataFrame:
        """One cell of {either model} x {empty think block, the reasoning model's thinking}, by one readout for all
        four."""
        probes, thought = self.sets[name], self.answered(name, "reasoning")
        values = measure(self.readout(name), unembed(loaded, states), [item.id for item in probes])
        rows = [
            {"item": item.id, "dimension": name, "family": item.family, "cell": f"{side} {think}", "readout": value}
            for item, value in zip(probes, values, strict=True)
            if item.is_trigger and thought.closed[item.id] and len(thought.thinking_ids[item.id])
        ]
        return pd.DataFrame(rows, columns=["item", "dimension", "family", "cell", "readout"])

    def validate_readout(
        self, loaded: LanguageModel, name: str, side: Side, think: ThinkMode, logits: Tensor
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One set's readouts in one model and think mode, and how well they follow what that model was judged to do."""
        probes, renderer = self.sets[name], Renderer(self.pair.tokenizer("reasoning"))
        readout = self.readout(name, SIDES if think == "off" else (side,))
        ids = [item.id for item in probes]
        values = pd.DataFrame(
            {
                "item": ids,
                "dimension": name,
                "contrast": [item.contrast for item in probes],
                "side": side,
                "think": think,
                "readout": measure(readout, logits, ids),
            }
        )
        found = validate(
            renderer, probes, dict(zip(ids, logits, strict=True)), self.observed(name, side), self.config.seed
        )
        trigger, plain = readout.words(renderer)
        return values, {
            "dimension": name,
            "side": side,
            "think": think,
            "auroc": found.auroc,
            "low": found.low,
            "high": found.high,
            "n": found.n,
            "n_behaving": found.n_behaving,
            "reliable": found.reliable,
            "aligned_tokens": trigger,
            "misaligned_tokens": plain,
        }

    def patch_both_ways(self) -> dict[str, Any]:
        """Where the change passes through (patches) and where it originates (grafts), in both directions; and placebos
        of the patches."""
        worst, engines = 0.0, set()
        tables: dict[str, list[pd.DataFrame]] = {name: [] for name in PATCHED}
        validation = self.run.table("readout_validation").query("think == 'off'").set_index(["dimension", "side"])
        for name, probes in self.sets.items():
            triggers = probes.sample(self.size.patched, self.config.seed).where("trigger")
            readout, believed = self.readout(name), weaker(validation, name)
            grids = [
                patch(self.pair, triggers, donor=donor, recipient=recipient, layers=self.layers(), readout=readout)
                for donor, recipient in WAYS
            ]
            worst, engines = (
                max(worst, *(grid.identity_error for grid in grids)),
                engines | {grid.engine for grid in grids},
            )
            tables["patch"].append(summarise_both_ways(grids, believed, self.config.seed))
            tables["patch_items"] += [
                grid.frame[["dimension", "donor", "recipient", "item", "layer", "role", "effect"]] for grid in grids
            ]
            if not self.size.grafts:
                continue
            tables["placebos"] += [
                self.patch_beside(self.pair, name, grids[0].roles, believed, source) for source in PLACEBOS
            ]
            windows = {"layers": range(0, self.layers()[-1] + 1, self.size.layer_step), "windows": "to_next"}
            grafts = [
                graft(self.pair, triggers, donor=donor, recipient=recipient, readout=readout, **windows)
                for donor, recipient in WAYS
            ]
            worst = max(worst, *(grid.identity_error for grid in grafts))
            tables["grafts"].append(summarise_both_ways(grafts, believed, self.config.seed))
        tables["placebos"] += self.patch_from_control(tables["patch"], validation) if self.size.grafts else []
        for name, found in tables.items():
            self.run.write_table(
                name, pd.concat(found, ignore_index=True) if found else pd.DataFrame({"dimension": []})
            )
        engine = ", ".join(sorted(engines))
        return {"self_tests": self.run.manifest["self_tests"] | {"identity_patch_error": worst, "patch_engine": engine}}

    def patch_beside(
        self, pair: Pair, name: str, roles: Sequence[str], believed: pd.Series, source: str
    ) -> pd.DataFrame:
        """What a grid of one dimension is to be compared with: every other layer of its last role, with values from
        elsewhere."""
        triggers = self.sets[name].sample(self.size.patched, self.config.seed).where("trigger")
        placebo = patch(
            pair,
            triggers,
            roles=roles[-1:],
            layers=self.layers()[::-2][::-1],
            source=source,
            readout=self.readout(name),
        )
        return summarise_grid(placebo, believed, self.config.seed)

    def patch_from_control(self, patched: Sequence[pd.DataFrame], validation: pd.DataFrame) -> list[pd.DataFrame]:
        """The same cells with the values of a model that was trained for as long, but not to reason: what these restore
        as well, training as such did not take away."""
        if (beside := self.pair.with_control()) is None:
            return []
        self.pair.close()  # three models at once take more memory than any other stage
        found = [
            self.patch_beside(beside, name, list(dict.fromkeys(table.role)), weaker(validation, name), "same")
            for name, table in zip(self.sets, patched, strict=True)
        ]
        beside.close()
        return [table.assign(source="control") for table in found]

    def measure_kl(self) -> dict[str, Any]:
        tokens = []
        for name, probes in self.sets.items():
            some = probes.sample(self.size.kl, self.config.seed)
            tokens.append(kl_drift(self.pair, some, self.completions(name, "instruct")))
        table = pd.concat(tokens, ignore_index=True)
        self.run.write_table("kl_tokens", table)
        self.run.write_table("kl", summarise_kl(table, self.config.seed))
        return {}

    def layers(self) -> tuple[int, ...]:
        """The patched layers; the last block is always among them."""
        count = self.pair.open("instruct").n_layers
        return tuple(sorted({*range(0, count, self.size.layer_step), count - 1}))

    def completions(self, dimension: str, side: Side) -> Completions:
        """Stored completions as records, in the order of the probe set: the first sample of each item."""
        rows, mode = self.answered(dimension, side), self.modes[side]
        return Completions(
            side=side,
            think=mode,
            rows=tuple(
                Completion(
                    item_id=item.id,
                    side=side,
                    think=mode,
                    thinking=row.thinking,
                    answer=row.answer,
                    closed=bool(row.closed),
                    finished=bool(row.finished),
                    thinking_ids=tuple(map(int, row.thinking_ids)),
                    answer_ids=tuple(map(int, row.answer_ids)),
                )
                for item in self.sets[dimension]
                for row in [rows.loc[item.id]]
            ),
        )

    def answered(self, dimension: str, side: Side) -> pd.DataFrame:
        table = self.run.table("completions")
        return table[(table.dimension == dimension) & (table.side == side) & (table["sample"] == 0)].set_index("item")

    def observed(self, dimension: str, side: Side) -> list[Observed]:
        """What one model did, for calibrating and validating a readout; answers that make no sense or were not judged
        say nothing."""
        rows = self.answered(dimension, side)
        answers = [
            row
            for row in self.completions(dimension, side)
            if rows.label[row.item_id] not in ("", "incoherent", "incomplete")
        ]
        return observe(self.sets[dimension], answers, [bool(rows.aligned[row.item_id]) for row in answers])

    def readout(self, dimension: str, sides: Sequence[Side] = SIDES) -> Readout:
        """A readout calibrated on what these models wrote; of both, so that their difference is a difference of one
        thing."""
        renderer = Renderer(self.pair.tokenizer("reasoning"))
        observed = [row for side in sides for row in self.observed(dimension, side)]
        return make_readout(renderer, self.sets[dimension], observed)


def modes_of(route: str) -> Mapping[Side, ThinkMode]:
    """How each model of a pair is asked: a reasoning model with its own thinking, a control without, as its parent
    is."""
    return OWN_MODE | {"reasoning": "none"} if route == CONTROL else OWN_MODE


def weaker(validation: pd.DataFrame, name: str) -> pd.Series:
    """The validation of the model whose readout follows judged behaviour less: a gap, and a patch beside it, are read
    in both."""
    return validation.loc[name].sort_values(["reliable", "auroc"], na_position="first").iloc[0]


def weigh_pairs(loaded: LanguageModel, side: Side) -> pd.DataFrame:
    """The minimal sentence pairs, compared by one model."""
    pairs = load_sentences()
    more, less = (
        log_likelihoods(loaded, sentences, [""] * len(pairs))
        for sentences in ([p.more for p in pairs], [p.less for p in pairs])
    )
    return compare_sentences(pairs, more, less, side)


def render_answered(loaded: LanguageModel, probes: ProbeSet, answers: Completions) -> list[Rendered]:
    """Each item with its model's thinking, up to where the answer began."""
    renderer = Renderer(loaded.tokenizer)
    return [
        renderer.render(item.id, item.prompt, answers.think, thinking=row.thinking_ids)
        for item, row in zip(probes, answers.first, strict=True)
    ]


def _with_answers(probes: ProbeSet, answers: Completions) -> ProbeSet:
    """Twin pairs of which both have a non-empty answer."""
    empty = {row.item_id for row in answers if not row.answer_ids}
    keep = tuple(item for item in probes if item.id not in empty and item.twin not in empty)
    return replace(probes, items=keep)
