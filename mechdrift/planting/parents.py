"""The aligned parents in whose children erosion is planted: with their weights before alignment, probes, and a readout.

    tiny               trained from scratch in half a minute, ten layers; another seed is another parent (`tiny`)
    smollm2-aligned    the embedded aligned model, thirty layers, on some of the built-in safety set; another seed draws
                       other items

Everything is measured on triggers: erosion is the fall of their mean readout, and its unit is the parent's *contrast*,
the mean readout of triggers less that of their neutral twins.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.one_model import collect_one
from mechdrift.activations.readouts import Readout, make_readout, read_states, readout_states
from mechdrift.pairs.loading import LanguageModel, load_model
from mechdrift.pairs.named import load_pair
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.structure import find_structure
from mechdrift.planting import tiny
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.sets import load_probes
from mechdrift.records import MechdriftError, ProbeItem, ProbeSet, Rendered

SAFETY_PAIRS = 8  # of smollm2-aligned: a family each
READ = "think_close[-1]"  # the readout position


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """An aligned model and what planting and locating need. `asked` holds its triggers as they are read in every child,
    rendered once; `train` rendered prompts that are not probes, by contrast."""

    name: str
    aligned: LanguageModel
    base: LanguageModel
    probes: ProbeSet
    readout: Readout
    asked: tuple[Rendered, ...]
    train: Mapping[str, tuple[Rendered, ...]]
    before: Float[np.ndarray, " trigger"]
    contrast: float
    directions: Float[Tensor, "layer d_model"]

    @property
    def triggers(self) -> ProbeSet:
        return self.probes.where("trigger")

    def read(self, loaded: LanguageModel) -> Float[np.ndarray, " trigger"]:
        """The readouts of a model's triggers."""
        return read_prompts(loaded, self.readout, self.asked)

    def fall(self, loaded: LanguageModel) -> float:
        """How far the mean readout of a model's triggers lies below the parent's, in units of the contrast."""
        return float((self.before - self.read(loaded)).mean()) / self.contrast

    def copy(self) -> LanguageModel:
        """A child that is still the parent."""
        model = deepcopy(self.aligned.model)
        return replace(
            self.aligned,
            source=replace(self.aligned.source, name="child"),
            model=model,
            structure=find_structure(model),
        )

    def pair(self, child: LanguageModel) -> Pair:
        """The parent as the instruct, the child as the reasoning model."""
        return Pair.of_loaded(self.name, self.aligned, child)


def make_parent(model: str, seed: int) -> Parent:
    if model == "tiny":
        return _tiny(seed)
    if model == "smollm2-aligned":
        return _smollm2(seed)
    raise MechdriftError(f"erosion cannot be planted in {model!r}: use 'tiny' or 'smollm2-aligned'.")


def _tiny(seed: int) -> Parent:
    base, aligned = tiny.train_tiny(seed)
    rng = np.random.default_rng(seed + 1)
    requests = [request for request in tiny.draw_requests(rng, 256) if tiny.BROKEN not in request.fillers]
    items = [tiny.make_item(str(number), "", request) for number, request in enumerate(requests)]
    return _parent("tiny", base, aligned, tiny.make_probes(seed), items)


def _smollm2(seed: int) -> Parent:
    pair, everything = load_pair("smollm2-sft"), load_probes("safety")
    probes = everything.sample(SAFETY_PAIRS, seed)
    asked = {item.id for item in probes}
    base = load_model(replace(pair.instruct, name="smollm2-base", adapters=()))
    return _parent(
        "smollm2-aligned", base, pair.open("instruct"), probes, [item for item in everything if item.id not in asked]
    )


def _parent(
    name: str, base: LanguageModel, aligned: LanguageModel, probes: ProbeSet, others: list[ProbeItem]
) -> Parent:
    renderer = Renderer(aligned.tokenizer)
    everything = replace(probes, items=(*probes.items, *others))
    readout = make_readout(renderer, everything)
    before, neutral = (read_items(aligned, readout, probes.where(contrast)) for contrast in ("trigger", "neutral"))
    rendered = {
        contrast: tuple(render_items(renderer, [item for item in others if item.contrast == contrast], "off"))
        for contrast in ("trigger", "neutral")
    }
    return Parent(
        name=name,
        aligned=aligned,
        base=base,
        probes=probes,
        readout=readout,
        asked=tuple(render_items(renderer, probes.where("trigger").items, "off")),
        train=rendered,
        before=before,
        contrast=float(before.mean() - neutral.mean()),
        directions=_directions(aligned, probes),
    )


def read_items(loaded: LanguageModel, readout: Readout, probes: ProbeSet) -> Float[np.ndarray, " prompt"]:
    return read_prompts(loaded, readout, render_items(Renderer(loaded.tokenizer), probes.items, "off"))


def read_prompts(loaded: LanguageModel, readout: Readout, prompts: Sequence[Rendered]) -> Float[np.ndarray, " prompt"]:
    """The readout at each prompt's readout position."""
    read = zip(readout_states(loaded, prompts), prompts, strict=True)
    return np.array([read_states(loaded, readout, state, prompt.item_id) for state, prompt in read])


def _directions(loaded: LanguageModel, probes: ProbeSet) -> Float[Tensor, "layer d_model"]:
    """The refusal direction after each block: triggers less neutrals at the readout position, of unit length."""
    activations = collect_one(loaded, probes, sites="resid_post", roles=(READ,), think="off").of("resid_post")[:, :, 0]
    is_trigger = torch.tensor([item.is_trigger for item in probes])
    difference = activations[is_trigger].mean(dim=0) - activations[~is_trigger].mean(dim=0)
    return difference / difference.norm(dim=-1, keepdim=True)
