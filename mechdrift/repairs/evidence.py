"""What a repair may look at: the pair, the *seen* families of the probe sets, and what is computed from them.

Families are split in halves before anything is made. Methods and the choice of a strength see one half (`sets`, and of
a run's answers only those to its items). The other half is asked once a strength is chosen, and its numbers are
reported. Everything here is computed once, when a method first asks for it.

    change          child less parent, by place
    alignment       parent less the model before alignment, by place
    block_effects   how much of the parent's behaviour each of its blocks alone brings back in the child
    directions      per dimension and layer, the directions that separate triggers from neutral twins
    basis_after     an orthonormal basis of all dimensions' directions after one block

What methods share is timed (`shared`), so that each is charged for all that it used, whichever method computed it.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import forward_batches
from mechdrift.activations.capture import collect
from mechdrift.activations.readouts import Readout
from mechdrift.audits.answers import RunAnswers
from mechdrift.behaviour.labels import everyday_set
from mechdrift.directions.best_layer import best_layer
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import find_directions
from mechdrift.directions.thinking import READOUT_ROLE
from mechdrift.hooks import record
from mechdrift.pairs.loading import LanguageModel, ModelSource, load_weights
from mechdrift.pairs.pair import Pair, give_back_memory
from mechdrift.pairs.structure import find_structure
from mechdrift.patching.grafts import graft
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_everyday
from mechdrift.records import Completion, Directions, MechdriftError, ProbeItem, ProbeSet, Side
from mechdrift.repairs.changes import Changes, dense, difference, parameters_by_place, weights_of

if TYPE_CHECKING:
    from mechdrift.repairs.training import Row

Contrast = Literal["trigger", "neutral"]
SITE = "resid_post"
MOST_STATES = {"trigger": 1024, "neutral": 8192}  # tokens; the regression has one equation per trigger token
GRAFTED = 12  # twin pairs per dimension, whose triggers locate the loss
WRITERS = ("o", "down")


T = TypeVar("T")


class shared(Generic[T]):  # noqa: N801, a decorator as functools.cached_property
    """A part of the evidence that is computed once. The evidence's `Costs` learn how long it took, and who asked."""

    def __init__(self, compute: "Callable[[Any], T]"):
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, evidence: None, owner: type) -> "shared[T]": ...
    @overload
    def __get__(self, evidence: "Evidence", owner: type) -> T: ...
    def __get__(self, evidence: "Evidence | None", owner: type) -> "shared[T] | T":
        if evidence is None:
            return self
        costs = evidence.costs
        if self.name not in costs.known:
            asker, costs.used = costs.used, set()
            start, nested = time.perf_counter(), costs.total
            try:
                costs.known[self.name] = self.compute(evidence)
            finally:
                costs.parts[self.name], costs.used = costs.used | {self.name}, asker
            costs.seconds[self.name] = time.perf_counter() - start - (costs.total - nested)
        costs.used |= costs.parts[self.name]
        return costs.known[self.name]

    def __set__(self, evidence: "Evidence", value: T) -> None:
        raise AttributeError(f"{self.name} is computed")


@dataclass
class Costs:
    """What was computed so far: by name the value, the seconds that it took without the parts within it, and those
    parts; and the parts that were `used` since the last `begin`."""

    known: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    parts: dict[str, set[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def begin(self) -> float:
        """Forget what was used; returns the seconds of all that was computed before."""
        self.used = set()
        return self.total

    def of_earlier(self, before: float) -> float:
        """Seconds that others took, before the last `begin`, for what was used since."""
        return sum(self.seconds[name] for name in self.used) - (self.total - before)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What methods may look at: `pair`, the seen halves of the probe sets (`sets`), and what is computed from them when
    it is asked for.

    `base` is the model before alignment, `answers` are a run's judged answers to `sets`, `own_tasks` the child's own
    right answers to the seen reasoning tasks, and `think_budget` is how many tokens the child may think.
    """

    pair: Pair
    sets: Mapping[str, ProbeSet]
    answers: RunAnswers | None = None
    base: ModelSource | None = None
    own_tasks: "tuple[Row, ...]" = ()
    think_budget: int = 96
    seed: int = 0
    scratch: tempfile.TemporaryDirectory = field(default_factory=tempfile.TemporaryDirectory, repr=False)
    costs: Costs = field(default_factory=Costs, repr=False)

    @property
    def folder(self) -> Path:
        """A folder for the weights of models that do not stay in memory; removed with this record."""
        return Path(self.scratch.name)

    @shared
    def change(self) -> Changes:
        parent = weights_of(self.pair, "instruct", self.folder)
        found = difference(weights_of(self.pair, "reasoning", self.folder), parent)
        if not found:
            raise MechdriftError("the child's weights are the parent's: there is nothing to repair.")
        return found

    @shared
    def alignment(self) -> Changes:
        if self.base is None:
            raise MechdriftError(
                f"there is no model before alignment of {self.pair.instruct.name}: name it with base= (--base), or "
                "choose a method that does without."
            )
        parent = weights_of(self.pair, "instruct", self.folder)
        model = load_weights(self.base, torch.float32)
        structure = find_structure(model, self.base.layout)
        before = LanguageModel(
            source=self.base,
            model=model,
            tokenizer=self.pair.tokenizer("instruct"),
            structure=structure,
            max_surface_error=float("nan"),
        )
        weights = {place: parameter.detach() for place, parameter in parameters_by_place(before).items()}
        found = difference(parent, {place: lambda tensor=tensor: tensor for place, tensor in weights.items()})
        if not found:
            raise MechdriftError(f"{self.base.name} has the weights of {self.pair.instruct.name}: name another base.")
        # As tensors, so that the base model can be freed.
        return Changes.of({place: found[place] for place in found})

    @property
    def d_model(self) -> int:
        return self.pair.open("reasoning", "float32").structure.d_model

    @shared
    def writing_places(self) -> tuple[str, ...]:
        """The matrices that write to the residual stream and that training changed."""
        loaded = self.pair.open("reasoning", "float32")
        places = (
            f"layers.{layer}.{name}"
            for layer in range(loaded.n_layers)
            for module in WRITERS
            for name in loaded.structure.parameters(layer, module)
        )
        return tuple(place for place in places if place in self.change and dense(self.change[place]).dim() == 2)

    @shared
    def readouts(self) -> dict[str, Readout | None]:
        """Per dimension a readout that was calibrated on the answers to the seen families, where there are any."""
        return {name: self.answers.readout(name) if self.answers else None for name in self.sets}

    @shared
    def block_effects(self) -> pd.Series:
        """By layer, the share of the parent–child gap that the parent's block brings back in the child by itself: the
        mean over the dimensions whose readouts differ beyond noise."""
        shares = []
        for name, probes in self.sets.items():
            triggers = probes.sample(GRAFTED, self.seed).where("trigger")
            if not triggers.items:
                continue
            grid = graft(self.pair, triggers, readout=self.readouts[name])
            if not grid.gap_is_noise:
                shares.append(pd.Series(grid.effect.mean(axis=0)[:, 0] / grid.gap.mean(), index=list(grid.layers)))
        give_back_memory()
        if not shares:
            raise MechdriftError(
                "the readouts of the two models do not differ beyond noise on the seen families, so no block can be "
                "named: take more items, or a method that needs no probes."
            )
        return pd.concat(shares, axis=1).mean(axis=1)

    @shared
    def directions(self) -> dict[str, Directions]:
        """Per dimension, the directions after every block at the readout position."""
        found = {}
        for name, probes in self.sets.items():
            if {item.contrast for item in probes} == {"trigger", "neutral"}:
                found[name] = find_directions(collect(self.pair, probes, site=SITE, roles=(READOUT_ROLE,)), splits=4)
        if not found:
            raise MechdriftError("no probe set holds triggers and neutral items: there is no direction to find.")
        return found

    @shared
    def steered(self) -> tuple[str, int]:
        """The dimension and layer whose direction stands for alignment: safety where it was asked, else the first
        dimension; at the layer where the parent's classes separate best on held-out families."""
        name = "safety" if "safety" in self.directions else next(iter(self.directions))
        layer = best_layer(compare_directions(self.directions[name], seed=self.seed).frame, READOUT_ROLE)
        if layer is None:
            raise MechdriftError(f"the parent has no {name} direction after the think block: there is nothing to add.")
        return name, layer

    @property
    def steering_vector(self) -> Float[Tensor, " d_model"]:
        """The parent's class difference of the steered dimension, at the steered layer."""
        name, layer = self.steered
        found = self.directions[name]
        place = found.layers.index(layer), 0
        return found.instruct[place] * found.norm_instruct[place]

    @property
    def projection(self) -> "Projection":
        """A function that reads, at a text's last token, how harmful the child takes the text to be."""
        name, layer = self.steered
        found = self.directions[name]
        unit = found.instruct[found.layers.index(layer), 0]
        along = found.activations.instruct[:, found.layers.index(layer), 0] @ unit
        is_trigger = torch.from_numpy(found.activations.is_trigger)
        return Projection(
            loaded=self.pair.open("reasoning", "float32"),
            layer=layer,
            unit=unit,
            neutral=float(along[~is_trigger].mean()),
            trigger=float(along[is_trigger].mean()),
        )

    @torch.inference_mode()
    def token_states(self, contrast: Contrast, layer: int) -> Float[Tensor, "token d_model"]:
        """The child's residual stream after a block, on its own text: for triggers from the end of the user's words on,
        for harmless prompts at every token but the first."""
        items = self.harmless.items if contrast == "neutral" else self._triggers
        renderer, loaded = Renderer(self.pair.tokenizer("reasoning")), self.pair.open("reasoning", "float32")
        written = self._written if self.pair.child_thinks else {}
        rendered = [
            renderer.render(item.id, item.prompt, "own", thinking=row.thinking_ids, answer=row.answer_ids)
            if (row := written.get(item.id)) is not None and row.thinking_ids
            else renderer.render(item.id, item.prompt, "off")
            for item in items
        ]
        found: list[Tensor] = []
        for each in forward_batches(loaded, rendered):
            with record({"x": loaded.structure.hook_point(SITE, layer)}) as seen:
                each.run()
            for row, prompt, offset in zip(seen["x"], each.prompts, each.batch.offsets, strict=True):
                first = prompt.roles["user"][1] if contrast == "trigger" else 1  # the first token is like no other
                found.append(row[offset + first : offset + len(prompt.ids)].float().cpu())
        states = torch.cat(found)
        chosen = torch.randperm(len(states), generator=torch.Generator().manual_seed(self.seed))[
            : MOST_STATES[contrast]
        ]
        return states[chosen]

    @property
    def _triggers(self) -> tuple[ProbeItem, ...]:
        return self.sets[self.steered[0]].where("trigger").items

    @shared
    def _written(self) -> dict[str, Completion]:
        """What the child wrote to the seen items, where that is known."""
        if self.answers is None:
            return {}
        return {row.item_id: row for name in self.sets for row in self.answers.completions(name, "reasoning")}

    def basis_after(self, layer: int) -> Float[Tensor, "d_model k"]:
        """Orthonormal columns that span the parent's directions after a block."""
        vectors = [found.instruct[found.layers.index(layer), 0] for found in self.directions.values()]
        return torch.linalg.qr(torch.stack([vector for vector in vectors if vector.norm() > 0], dim=1)).Q

    @property
    def items(self) -> list[ProbeItem]:
        """All seen items."""
        return [item for probes in self.sets.values() for item in probes]

    def judged(self, name: str, side: Side) -> pd.DataFrame:
        """One model's judged answers to a seen probe set, by item."""
        assert self.answers is not None  # a method that calls this names "answers" in its needs
        return self.answers.rows(name, side)

    @shared
    def harmless(self) -> ProbeSet:
        """Prompts on which nothing should change: the seen neutral twins and everyday requests."""
        everyday = everyday_set(load_everyday())
        neutral = [item for probes in self.sets.values() for item in probes.where("neutral")]
        return replace(everyday, name="harmless", items=(*neutral, *everyday.items))


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The projection of a text's last token on the parent's direction, after one block of the child: 0 where the
    parent's neutral prompts lie, 1 where its triggers do."""

    loaded: LanguageModel
    layer: int
    unit: Float[Tensor, " d_model"]
    neutral: float
    trigger: float

    @torch.inference_mode()
    def __call__(self, ids: tuple[int, ...]) -> float:
        with record({"x": self.loaded.structure.hook_point(SITE, self.layer)}) as seen:
            self.loaded.decoder(torch.tensor([ids], device=self.loaded.device), use_cache=False)
        along = float(seen["x"][0, -1].float().cpu() @ self.unit)
        return (along - self.neutral) / (self.trigger - self.neutral)


def base_of(pair: Pair, base: str | None) -> ModelSource | None:
    """The model before alignment: the one that is named, or else the base of a parent that is an adapter."""
    parent = pair.instruct
    if base is not None:
        return replace(parent, name=base, path=base, adapters=(), revision=None)
    if parent.adapters:
        return replace(parent, name=f"{parent.name}, before alignment", adapters=parent.adapters[:-1])
    return None
