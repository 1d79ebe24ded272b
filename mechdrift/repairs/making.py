"""Make a repair: a method and a strength become a repaired model.

    fixed = md.repair(pair, method="located", strength=0.25)
    fixed.pair                       the parent and the repaired child: a pair to audit, patch or graft like any other
    fixed.save("fix.safetensors")    the change alone, with its method and strength; `load_repair` reads it back
    fixed.export("fix/")             a LoRA adapter, or a merged folder (form="folder")

The child's own weights stay as they are: the repaired model is a copy.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.loading import LanguageModel, fingerprint
from mechdrift.pairs.pair import ModelCache, Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import Completions, MechdriftError, ProbeSet, exactly, several
from mechdrift.records.notebook import Record
from mechdrift.repairs.changes import Change, LowRank, layer_of, module_of, size, with_changes
from mechdrift.repairs.editing import Editing
from mechdrift.repairs.evidence import Evidence, Projection, base_of
from mechdrift.repairs.files import (
    changes_of,
    is_repaired,
    mark,
    read_made,
    tensors_of,
    write_adapter,
    write_folder,
    write_made,
)
from mechdrift.repairs.record import Repair
from mechdrift.repairs.registry import find_repair
from mechdrift.repairs.training import Recipe, train
from mechdrift.repairs.using import InUse, in_use
from mechdrift.repairs.words import Words
from mechdrift.runs import version_of

Form = Literal["adapter", "folder"]
COLUMNS = ["place", "layer", "module", "rank", "norm"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Repaired(Record):
    """A repair that was made for one pair: `made` is what the method gave at `strength`, in `seconds`.

    `frame` has a row per changed parameter: its place in the decoder, layer, module, the rank of its change (missing
    for a change that is no narrow product) and the change's Frobenius norm.
    """

    original: Pair
    repair: Repair
    strength: float
    made: Any
    seconds: float
    recipe: Recipe | None = None

    @property
    def name(self) -> str:
        return f"{self.repair.name}@{exactly(self.strength)}"

    @property
    def summary(self) -> str:
        return f"{self.original.name} repaired by {self.name} ({self.repair.dose}), made in {self.seconds:.0f} s"

    @property
    def changes(self) -> Mapping[str, Change]:
        """The change of weights, by place; raises for a repair of another kind."""
        if not isinstance(self.made, Mapping):
            raise MechdriftError(
                f"{self.repair.name} is a repair of the kind {self.repair.kind}, which changes no weights: generate "
                "with it (.generate) instead."
            )
        return self.made

    @property
    def frame(self) -> pd.DataFrame:
        if not isinstance(self.made, Mapping):
            return pd.DataFrame(columns=COLUMNS)
        rows = [_row(place, change) for place, change in self.changes.items()]
        return pd.DataFrame(rows, columns=COLUMNS)

    def use(self, dtype: str = "float32") -> InUse:
        """The repaired model, ready to write and to be read."""
        return in_use(self.original, self.made, dtype, f"{self.original.reasoning.name}{mark(self.name)}")

    def generate(self, probes: ProbeSet, *, budget: Budget | None = None, dtype: str = "float32") -> Completions:
        """Greedy completions of a probe set by the repaired model, as `md.generate` gives."""
        used = self.use(dtype)
        return ask(
            used.loaded,
            [Question(id=item.id, prompt=item.prompt) for item in probes],
            "reasoning",
            used.think,
            budget=budget or Budget(),
            generator=used.generator,
            is_model=used.is_model,
        )

    def open(self, dtype: str = "float32") -> LanguageModel:
        """The child with the change in its weights."""
        child = self.original.open("reasoning", "float32")
        return with_changes(child, self.changes, dtype, f"{child.source.name}{mark(self.name)}")

    @property
    def facts(self) -> dict[str, Any]:
        """Method, strength, child and versions, for files."""
        child = self.original.open("reasoning", "float32")
        return {
            "method": self.repair.name,
            "kind": self.repair.kind,
            "strength": self.strength,
            "paper": self.repair.paper,
            "child": child.source.name,
            "child_fingerprint": fingerprint(child.model),
            "mechdrift": version_of("mechdrift"),
        }

    def save(self, path: str | Path) -> Path:
        """Write the repair alone (a change, an edit, words) to a safetensors file; `load_repair` reads it back onto the
        same child."""
        tensors, facts = (tensors_of(self.made), {}) if isinstance(self.made, Mapping) else dissolved(self.made)
        return write_made(Path(path), tensors, self.facts | facts)

    def write_rows(self, path: str | Path) -> Path:
        """Of a repair by data, its training rows as JSON lines that trl's trainers read."""
        if self.recipe is None:
            raise MechdriftError(f"{self.repair.name} is a repair of the kind {self.repair.kind}: it has no rows.")
        return self.recipe.write(path, Renderer(self.original.tokenizer("reasoning")))

    def export(self, folder: str | Path, form: Form = "adapter") -> Path:
        """Write a LoRA adapter for the child, or a merged model folder (`form="folder"`); plain peft and transformers
        load either."""
        child, facts = self.original.open("reasoning", "float32"), self.facts
        if form == "adapter":
            return write_adapter(Path(folder), child, self.changes, facts)
        return write_folder(Path(folder), self.open(), facts)

    @property
    def pair(self) -> Pair:
        """The parent and the repaired child, in memory and in float32. To audit in another number format, export it."""
        loaded = self.open()
        models = {**self.original.models, "reasoning": ModelCache(own=loaded, tokenizer=loaded.tokenizer)}
        return replace(
            self.original, name=f"{self.original.name}{mark(self.name)}", reasoning=loaded.source, models=models
        )


def _row(place: str, change: Change) -> dict[str, Any]:
    rank = change.up.shape[1] if isinstance(change, LowRank) else float("nan")
    return {"place": place, "layer": layer_of(place), "module": module_of(place), "rank": rank, "norm": size(change)}


def repair(
    pair: Pair,
    *,
    method: str = "located",
    strength: float | None = None,
    probes: ProbeSet | Sequence[ProbeSet] | None = None,
    base: str | None = None,
    roles: str | Sequence[str] | None = None,
    seed: int = 0,
) -> Repaired:
    """Can I have the reasoning and the alignment? One repair of a pair's child, at one strength.

    `mechdrift repair RUN` makes many, measures what each costs and chooses; this makes the one that you name.

    Args:
        pair: the two models.
        method: a name of `mechdrift.repairs.registry`, such as `"interpolate"`, `"located"`, `"resta"`.
        strength: how much of the method, in its own unit (`Repair.dose` says which, such as the share of the way back
            to the parent); by default the middle one of those that `mechdrift repair` tries.
        probes: what the method may look at, where it needs prompts: a probe set or several; by default the safety set.
        base: the model before alignment (a Hugging Face id or a folder), for the methods that need one. A parent that
            is an adapter on its base names it already.
        roles: for an edit of activations, the role or roles whose tokens it acts on, instead of the method's own: of
            `prompt`, `think` and `answer`.
        seed: seed of everything that is drawn.

    Returns:
        A `Repaired`: `.pair` (the parent and the repaired child), `.open(dtype)`, `.generate(probes)`, `.save(file)`
        and `.export(folder)`. `.frame` has a row per changed parameter: `place` (its name in the decoder), `layer`
        (counted from 0), `module`, `rank` of its change (missing for one that is no narrow product) and `norm` (the
        change's Frobenius norm). An edit of activations and words change no parameter: there it has no rows.

    Raises:
        MechdriftError: for an unknown method, a strength outside of its range, a model that was repaired already, and
            where something that the method needs is lacking.

    Source:
        Each method names its paper; the list is `mechdrift.repairs.registry`.

    Example:
        >>> fixed = md.repair(pair, method="interpolate", strength=0.5)
        >>> fixed.pair.name.endswith("repaired by interpolate@0.5")
        True
        >>> fixed.frame[["place", "rank", "norm"]].shape[1]
        3
    """
    found = find_repair(method)
    sets = [probes] if isinstance(probes, ProbeSet) else list(probes or [load_probes("safety")])
    evidence = Evidence(pair=pair, sets={each.name: each for each in sets}, base=base_of(pair, base), seed=seed)
    middle = found.strengths[len(found.strengths) // 2]
    fixed = make(found, evidence, middle if strength is None else strength)
    if roles is None:
        return fixed
    if not isinstance(fixed.made, Editing):
        raise MechdriftError(f"roles= is for edits of activations; {method} is a repair of the kind {found.kind}.")
    return replace(fixed, made=replace(fixed.made, roles=several(roles)))


def load_repair(path: str | Path, pair: Pair) -> Repaired:
    """A repair that `Repaired.save` wrote, for the child that it was made for.

    Args:
        path: the file.
        pair: a pair with the same child.

    Returns:
        A `Repaired`, as `repair` gives.

    Raises:
        MechdriftError: for a file of another kind, and for another child: the weights are compared.

    Source:
        The format: `mechdrift.repairs.files`.

    Example:
        >>> file = md.repair(pair, method="interpolate", strength=0.5).save("half.safetensors")
        >>> md.load_repair(file, pair).strength
        0.5
    """
    tensors, facts = read_made(Path(path))
    child = pair.open("reasoning", "float32")
    if fingerprint(child.model) != facts["child_fingerprint"]:
        raise MechdriftError(
            f"{path} is a repair of {facts['child']}, whose weights are not those of {child.source.name}: give that "
            "child, or make the repair again."
        )
    return Repaired(
        original=pair,
        repair=find_repair(facts["method"]),
        strength=facts["strength"],
        made=restored(pair, tensors, facts),
        seconds=0.0,
    )


def dissolved(made: Editing | Words) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An edit or words as tensors and facts."""
    if isinstance(made, Editing):
        return made.tensors(), {"roles": list(made.roles)}
    said = {"start": made.start, "end": made.end, "falling": made.falling, "falls_below": made.falls_below}
    if made.read is None:
        return {"nothing": torch.zeros(1)}, {"words": said | {"think": made.think}}
    scale = {"layer": made.read.layer, "neutral": made.read.neutral, "trigger": made.read.trigger}
    return {"unit": made.read.unit}, {"words": said | {"think": made.think}, "projection": scale}


def restored(pair: Pair, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Any:
    """What a file holds, as it was made."""
    if "roles" in facts:
        return Editing.of(tensors, facts["roles"])
    if "words" not in facts:
        return changes_of(tensors)
    read = None
    if "projection" in facts:
        read = Projection(loaded=pair.open("reasoning", "float32"), unit=tensors["unit"], **facts["projection"])
    return Words(**facts["words"], read=read)


def make(found: Repair, evidence: Evidence, strength: float) -> Repaired:
    """One repair from evidence. `seconds` count all that it used, also what another repair has computed before."""
    found.check(strength)
    check_needs(found, evidence)
    start, before = time.perf_counter(), evidence.costs.begin()
    made, recipe = found.make(evidence, strength), None
    if isinstance(made, Recipe):
        recipe, made = made, train(evidence.pair.open("reasoning", "float32"), made, evidence.seed)
    if isinstance(made, Mapping) and not made:
        raise MechdriftError(f"{found.name} at {strength:g} ({found.dose}) changes nothing: take a greater strength.")
    return Repaired(
        original=evidence.pair,
        repair=found,
        strength=strength,
        made=made,
        recipe=recipe,
        seconds=time.perf_counter() - start + evidence.costs.of_earlier(before),
    )


def check_needs(found: Repair, evidence: Evidence) -> None:
    """Raise where a method lacks something, before anything is computed."""
    if is_repaired(evidence.pair.reasoning):
        raise MechdriftError(
            f"{evidence.pair.reasoning.name} is a repaired model already: repair the child that it was made from."
        )
    if lacking := lacks(found, evidence):
        raise MechdriftError(f"{found.name} {lacking}.")


def lacks(found: Repair, evidence: Evidence) -> str:
    """What a method needs and lacks, as the second half of a sentence; empty where it lacks nothing."""
    if "base" in found.needs and evidence.base is None:
        return f"needs the model before alignment of {evidence.pair.instruct.name}: name it with base= (--base)"
    if "answers" in found.needs and evidence.answers is None:
        return "needs judged answers of both models: make it from an audit's run folder (mechdrift repair RUN)"
    return ""
