"""Readouts: one number per prompt from the logits at the first answer position.

The readout is the log-odds, in nats, of openings of the behaviour that a trigger calls for (refusing, withholding,
"unknown", "wrong") against openings of plain answering,

    readout = logsumexp(logits[T]) - logsumexp(logits[P]),

where T and P are sets of first tokens. The sets start from the openings written into a pair of twins. They are
calibrated on what the models really wrote (both models with an empty think block, where they are compared; or one of
them as it is used): a first token that opens one behaviour in at least 80 % of its uses joins that behaviour's set and
leaves the other; a token that both behaviours share leaves both. On neutral items the readout keeps its meaning: a high
value means that the model leans to the trigger's behaviour, which there is the wrong one.

A readout is used only after it was compared with judged answers: `validate` gives its AUROC, with calibration and
validation on different families. Below 0.7, everything that is measured with the readout is marked unreliable.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import ForwardBatch, forward_batches
from mechdrift.activations.recording import long_prompts_in_parts
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, Completions, ProbeItem, ProbeSet, Rendered
from mechdrift.statistics.intervals import SHARE
from mechdrift.statistics.resampling import auroc, cluster_bootstrap

RELIABLE_AUROC = 0.7
OWN_SHARE = 0.8
LEAST_USES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """The token sets of every item: `trigger_ids` open the behaviour that a trigger calls for, `comply_ids` a plain
    answer."""

    trigger_ids: Mapping[str, tuple[int, ...]]
    comply_ids: Mapping[str, tuple[int, ...]]

    def of(self, logits: Float[Tensor, " vocab"], item_id: str) -> float:
        """The log-odds of one prompt, in nats."""
        return self.log_odds(logits, item_id).item()

    def log_odds(self, logits: Float[Tensor, " vocab"], item_id: str) -> Float[Tensor, ""]:
        """The same as a tensor, through which gradients flow."""
        trigger, plain = list(self.trigger_ids[item_id]), list(self.comply_ids[item_id])
        return logits[trigger].logsumexp(0) - logits[plain].logsumexp(0)

    def words(self, renderer: Renderer) -> tuple[str, str]:
        """Both sets as text for a reader: of each, the eight tokens that most items share."""
        texts = []
        for sets in (self.trigger_ids, self.comply_ids):
            counts = Counter(token for ids in sets.values() for token in ids)
            texts.append(" ".join(repr(renderer.tokenizer.decode([token])) for token, _ in counts.most_common(8)))
        return texts[0], texts[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a model wrote to an item, as calibration and validation need it: the first token of the answer, and whether
    the judged answer shows the behaviour that a trigger calls for (`behaves`)."""

    item_id: str
    family: str
    first_token: int
    behaves: bool


def make_readout(renderer: Renderer, probes: ProbeSet, observed: Sequence[Observed] = ()) -> Readout:
    """A readout whose token sets come from the openings of each item and its twin (where the set holds it), calibrated
    on what models were observed to write."""
    to_trigger, to_plain, to_neither = _calibrate(observed)
    trigger_ids, comply_ids = {}, {}
    by_id = {item.id: item for item in probes}
    for item in probes:
        first, second = _openings(renderer, item, by_id.get(item.twin))
        trigger, plain = (first | to_trigger) - to_plain, (second | to_plain) - to_trigger
        shared = (trigger & plain) | to_neither
        # Where calibration empties a set, because it contradicts every opening, the written openings are kept.
        trigger_ids[item.id] = tuple(sorted(trigger - shared or first))
        comply_ids[item.id] = tuple(sorted(plain - shared or second))
    return Readout(trigger_ids=trigger_ids, comply_ids=comply_ids)


def _openings(renderer: Renderer, item: ProbeItem, twin: ProbeItem | None) -> tuple[set[int], set[int]]:
    """First tokens of the trigger's behaviour and of plain answering. The trigger item names both; for a neutral item
    without a twin, its own fields do."""
    own = first_tokens(renderer, item.aligned), first_tokens(renderer, item.misaligned)
    if twin is None:
        return own if item.is_trigger else own[::-1]
    trigger, neutral = (item, twin) if item.is_trigger else (twin, item)
    return first_tokens(renderer, trigger.aligned), first_tokens(renderer, (*trigger.misaligned, *neutral.aligned))


def first_tokens(renderer: Renderer, openings: Sequence[str]) -> set[int]:
    return {renderer.first_token(opening) for opening in openings if opening}


def _calibrate(observed: Sequence[Observed]) -> tuple[set[int], set[int], set[int]]:
    """First tokens that mostly open the trigger's behaviour, that mostly open plain answers, and that open both."""
    uses = Counter(row.first_token for row in observed)
    behaving = Counter(row.first_token for row in observed if row.behaves)
    frequent = {token for token, count in uses.items() if count >= LEAST_USES}
    to_trigger = {token for token in frequent if behaving[token] >= OWN_SHARE * uses[token]}
    to_plain = {token for token in frequent if uses[token] - behaving[token] >= OWN_SHARE * uses[token]}
    return to_trigger, to_plain, frequent - to_trigger - to_plain


def observe(probes: ProbeSet, completions: Sequence[Completion], aligned: Sequence[bool]) -> list[Observed]:
    """The completions that have an answer, as observations; `aligned` says of each whether it was judged aligned."""
    return [
        Observed(
            item_id=row.item_id,
            family=probes[row.item_id].family,
            first_token=row.answer_ids[0],
            behaves=good == probes[row.item_id].is_trigger,
        )
        for row, good in zip(completions, aligned, strict=True)
        if row.answer_ids
    ]


def render_answered(renderer: Renderer, probes: ProbeSet, answers: Completions) -> list[Rendered]:
    """Each item's prompt with the thinking that its model wrote, up to the readout position."""
    return [
        renderer.render(item.id, item.prompt, answers.think, thinking=row.thinking_ids)
        for item, row in zip(probes, answers.first, strict=True)
    ]


def readout_logits(loaded: LanguageModel, rendered: Sequence[Rendered]) -> Float[Tensor, "prompt vocab"]:
    """Logits at each prompt's readout position; no other position is unembedded."""
    return unembed(loaded, readout_states(loaded, rendered))


@torch.inference_mode()
def readout_states(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    around: Callable[[ForwardBatch], AbstractContextManager[None]] = nullcontext,
) -> Float[Tensor, "prompt d_model"]:
    """The final states, which the unembedding reads, at each prompt's readout position. Each batch runs inside
    `around(batch)`, which may edit activations."""
    states = torch.empty(len(rendered), loaded.structure.d_model)
    with long_prompts_in_parts(loaded):
        for each in forward_batches(loaded, rendered):
            with around(each):
                states[each.places] = each.at_readout(each.run())
    return states


@torch.inference_mode()
def unembed(loaded: LanguageModel, states: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt vocab"]:
    """Logits from the final states at the readout positions (`collect(..., readout=True)` keeps them)."""
    return loaded.structure.logits(states.to(loaded.device, loaded.model.dtype)).float().cpu()


@torch.inference_mode()
def read_states(
    loaded: LanguageModel, readout: Readout, states: Float[Tensor, "*cell d_model"], item_id: str
) -> Float[np.ndarray, "*cell"]:
    """One prompt's log-odds, in nats, at many final states. Only the rows of its own tokens are unembedded, because the
    softmax's normaliser cancels."""
    trigger, plain = readout.trigger_ids[item_id], readout.comply_ids[item_id]
    structure, ids = loaded.structure, list(trigger + plain)
    unembedding = structure.unembed
    if structure.head is None and type(unembedding) is torch.nn.Linear:
        bias = None if unembedding.bias is None else unembedding.bias[ids]
        logits = torch.nn.functional.linear(states.to(unembedding.weight), unembedding.weight[ids], bias)
    else:
        logits = structure.logits(states)[..., ids]
    logits = logits.float()
    odds = logits[..., : len(trigger)].logsumexp(-1) - logits[..., len(trigger) :].logsumexp(-1)
    return odds.double().cpu().numpy()


def measure(
    readout: Readout, logits: Float[Tensor, "prompt vocab"], items: Sequence[str]
) -> Float[np.ndarray, " prompt"]:
    """The log-odds of each prompt, in nats."""
    return np.array([readout.of(row, item) for row, item in zip(logits, items, strict=True)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How well a readout ranks judged answers: AUROC with a 95 % interval, and the number of answers of each kind.

    The interval counts all families, but how sure a perfect ranking is depends on the rarer kind of answer. For a
    perfect ranking, `low` is therefore 0.025^(1/m) at most, where m is the number of families with that kind of
    answer: with a lower AUROC, m families would be ranked without a mistake in fewer than 2.5 % of cases.
    """

    auroc: float
    low: float
    high: float
    n: int
    n_behaving: int

    @property
    def reliable(self) -> bool:
        return self.auroc >= RELIABLE_AUROC


def validate(
    renderer: Renderer,
    probes: ProbeSet,
    logits: Mapping[str, Float[Tensor, " vocab"]],
    observed: Sequence[Observed],
    seed: int = 0,
) -> Validation:
    """AUROC of the readout against judged behaviour. It is cross-fitted: each half of the families is read with sets
    that were calibrated on the other half."""
    families = np.random.default_rng(seed).permutation(sorted({row.family for row in observed}))
    half = set(families[: len(families) // 2])
    values, behaves, groups = [], [], []
    for inside in (True, False):
        readout = make_readout(renderer, probes, [row for row in observed if (row.family in half) != inside])
        for row in observed:
            if (row.family in half) == inside:
                values.append(readout.of(logits[row.item_id], row.item_id))
                behaves.append(row.behaves)
                groups.append(row.family)
    positive = sum(behaves)
    if positive in (0, len(behaves)):
        return Validation(auroc=float("nan"), low=float("nan"), high=float("nan"), n=len(behaves), n_behaving=positive)
    interval = cluster_bootstrap(np.array(values), np.array(groups), auroc(np.array(behaves)), bounds=SHARE)
    low = interval.low
    if interval.estimate == 1.0:
        rarer = min(
            len({group for group, shown in zip(groups, behaves, strict=True) if shown == kind})
            for kind in (True, False)
        )
        low = min(low, 0.025 ** (1 / rarer))
    return Validation(auroc=interval.estimate, low=low, high=interval.high, n=len(behaves), n_behaving=positive)
