"""The items on which directions are tried: which families, how one model reads them, and how it is read out.

Families go to three parts: *find* (a half: candidates are found there), *validate* (a quarter: candidates are scored
there, and one is chosen) and *test* (a quarter: nothing is chosen there, so steering may be measured there).
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from mechdrift.activations.prompts import Answers, render_sides
from mechdrift.activations.readouts import Readout, make_readout, measure, unembed
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import MechdriftError, ProbeSet, Rendered, Side, ThinkMode

PARTS = ("find", "validate", "test")
GIVEN = ("own", "donor")  # think modes whose thinking is given
_DEAL = {"find": (0, 2), "validate": (1,), "test": (3,)}


def split_families(probes: ProbeSet, seed: int) -> dict[str, tuple[str, ...]]:
    """Families, split at random: a half to find, a quarter to validate, a quarter to test.

    Each part gets its share of every kind of family: with both classes, with triggers only, with neutral items only.
    """
    kinds: dict[str, set[bool]] = {}
    for item in probes:
        kinds.setdefault(item.family, set()).add(item.is_trigger)
    shuffled = [str(name) for name in np.random.default_rng(seed).permutation(sorted(kinds))]
    dealt = sorted(shuffled, key=lambda name: sorted(kinds[name]))  # by kind, so that each kind is dealt in turn
    families = {
        part: tuple(sorted(dealt[i] for i in range(len(dealt)) if i % 4 in places)) for part, places in _DEAL.items()
    }
    for part in PARTS[:2]:
        if not set[bool]().union(*(kinds[name] for name in families[part])) == {True, False}:
            raise MechdriftError(
                f"probe set {probes.name!r} has {len(kinds)} families: finding directions on some and trying them on "
                "others needs both classes in two families at least, so take more items."
            )
    return families


def items_of(probes: ProbeSet, families: tuple[str, ...], pairs: int, seed: int) -> ProbeSet:
    """At most `pairs` trigger items of some families with their twins; where items have no twins, the same number of
    neutral items."""
    inside = replace(probes, items=tuple(item for item in probes if item.family in set(families)))
    if any(item.twin for item in inside):
        return inside.sample(pairs, seed)
    rng = np.random.default_rng(seed)
    kept = set()
    for trigger in (True, False):
        ids = [item.id for item in inside if item.is_trigger == trigger]
        kept |= {ids[i] for i in rng.permutation(len(ids))[:pairs]}
    return replace(inside, items=tuple(item for item in inside if item.id in kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Items as one model reads them, and the readout of their answers' beginnings."""

    probes: ProbeSet
    rendered: tuple[Rendered, ...]
    readout: Readout

    @classmethod
    def of(
        cls,
        pair: Pair,
        probes: ProbeSet,
        side: Side,
        think: ThinkMode,
        answers: Answers | None,
        readout: Readout | None,
    ) -> "Asked":
        if think in GIVEN and answers is None:
            raise MechdriftError(
                f"think mode {think!r} reads thinking that was written earlier: give the answers= that hold it."
            )
        rendered = render_sides(pair, probes, think, answers if think in GIVEN else None)[side]
        readout = readout or make_readout(Renderer(pair.tokenizer("reasoning")), probes)
        return cls(probes=probes, rendered=tuple(rendered), readout=readout)

    @property
    def is_trigger(self) -> Bool[np.ndarray, " prompt"]:
        return np.array([item.is_trigger for item in self.probes])

    @property
    def families(self) -> np.ndarray:
        return np.array([item.family for item in self.probes])

    def where(self, contrast: Literal["trigger", "neutral"]) -> "Asked":
        kept = self.is_trigger == (contrast == "trigger")
        rendered = tuple(prompt for prompt, wanted in zip(self.rendered, kept, strict=True) if wanted)
        return replace(self, probes=self.probes.where(contrast), rendered=rendered)

    def read(self, loaded: LanguageModel, states: Float[Tensor, "prompt d_model"]) -> Float[np.ndarray, " prompt"]:
        return measure(self.readout, unembed(loaded, states), [item.id for item in self.probes])

    def kl(
        self, loaded: LanguageModel, before: Float[Tensor, "prompt d_model"], after: Float[Tensor, "prompt d_model"]
    ) -> Float[np.ndarray, " prompt"]:
        """KL(before ‖ after) of the whole next-token distributions, in nats, float64."""
        return next_token_kl(unembed(loaded, before), unembed(loaded, after))


def ask_harmless(pair: Pair, probes: ProbeSet, side: Side, think: ThinkMode) -> Asked:
    """Items on which only KL is measured. They have no recorded thinking, so in think modes that need some they get an
    empty block."""
    return Asked.of(pair, probes, side, "off" if think in GIVEN else think, None, None)


def next_token_kl(
    before: Float[Tensor, "prompt vocab"], after: Float[Tensor, "prompt vocab"]
) -> Float[np.ndarray, " prompt"]:
    """KL(before ‖ after) from logits, in nats."""
    p, q = (logits.double().log_softmax(-1) for logits in (before, after))
    return (p.exp() * (p - q)).sum(-1).clamp(min=0).numpy()
