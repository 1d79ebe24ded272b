"""How far the reasoning model's next-token distribution has moved: KL drift on the instruct model's own answers.

    KL(p ‖ q) per token in nats,  p = instruct, q = reasoning,  teacher-forced on the instruct model's answers,
                                  at temperature 1

Only answer tokens count; position 0 is the first of them. Both models read the same ids. Both get an empty think block,
because a first-token KL across `<think>` would mean nothing. `kl_reverse` is KL(q ‖ p) on the same tokens.

No stage needs both models in memory. The first model's distributions on a probe set are kept whole where they fit
(`MEMORY`), and the KL is exact. Where a large vocabulary makes them too large, the `TOP` most likely tokens per
position are kept, and everything else becomes one tail event. The KL of these coarser distributions is a lower bound of
the full one (data processing inequality), and the rest is

    P KL(p | tail ‖ q | tail)  <=  P ln( max_tail p / P · Q / min_tail q ),     P = p(tail), Q = q(tail).

The right side is the column `error`, and with p and q exchanged `error_reverse`; both are 0 where the KL is exact. The
column `tail` is P.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechdrift.activations.batching import ForwardBatch, forward_batches
from mechdrift.activations.prompts import render_sides
from mechdrift.activations.recording import long_prompts_in_parts
from mechdrift.pairs.comparable import shared_vocabulary
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.records import Completions, ProbeSet, Rendered, Side
from mechdrift.records.progress import progress

TOP = 512
BLOCK = 2**26  # bytes of one block of distributions in float32; comparing two takes eight times as much
MEMORY = 2**28  # bytes for one probe set's log-probabilities: 1,300 answer tokens of a vocabulary of 50,000


COLUMNS = ["item", "family", "dimension", "position", "token", "kl", "kl_reverse", "tail", "error", "error_reverse"]


def kl_drift(pair: Pair, probes: ProbeSet, answers: Completions) -> pd.DataFrame:
    """How far has the next-token distribution moved? KL(instruct || reasoning) per token of the instruct model's
    answers.

    Both models read the same tokens, after an empty think block, at temperature 1.

    Args:
        pair: the two models.
        probes: what was asked.
        answers: the instruct model's completions of `probes`; items without an answer are left out.

    Returns:
        One row per answer token: `item, family, dimension, position` (0 is the first answer token), `token` (its
        text), `kl` and `kl_reverse` in nats, `tail` (the probability of the tokens that were not kept), and the error
        bounds `error` and `error_reverse` in nats: 0 where the KL is exact.

    Raises:
        MechdriftError: when a role or a model is missing.

    Source:
        The measure of arXiv 2606.11046; the bound for large vocabularies is derived in
        `mechdrift.behaviour.divergence`.

    Example:
        >>> tokens = md.kl_drift(pair, probes, answers["instruct"])
        >>> by_position = tokens.groupby("position").kl.mean()
        >>> bool((tokens.kl >= 0).all())
        True
    """
    prompts = answered_prompts(pair, probes, answers)
    return compare_with(pair, probes, prompts, keep_instruct(pair, probes, prompts))


def answered_prompts(pair: Pair, probes: ProbeSet, answers: Completions) -> dict[Side, list[Rendered]]:
    """The prompts of the items that have an answer, followed by that answer, as each model reads them."""
    sides = render_sides(pair, probes, "off", answers)
    return {side: [prompt for prompt in prompts if "answer" in prompt.roles] for side, prompts in sides.items()}


def keep_instruct(pair: Pair, probes: ProbeSet, prompts: Mapping[Side, Sequence[Rendered]]) -> "list[list[Kept]]":
    """The instruct model's distributions at the answer tokens of every prompt, which `compare_with` needs."""
    rendered, description = prompts["instruct"], f"KL on {probes.name}, instruct"
    return keep_first(pair.open("instruct"), rendered, shared_vocabulary(pair), description) if rendered else []


def compare_with(
    pair: Pair, probes: ProbeSet, prompts: Mapping[Side, Sequence[Rendered]], ours: "Sequence[Sequence[Kept]]"
) -> pd.DataFrame:
    """The table of `kl_drift`, from the instruct model's kept distributions and the reasoning model's, computed now."""
    rendered = prompts["reasoning"]
    if not rendered:
        return pd.DataFrame(columns=COLUMNS)

    def compare(log_probabilities: Tensor, index: int, part: int) -> dict[str, np.ndarray]:
        """Runs batch by batch, so that both models' distributions of a whole set are never in memory together."""
        p = ours[index][part]
        q = keep(log_probabilities, p.ids)
        found = {
            "kl": coarse_kl(p, q),
            "kl_reverse": coarse_kl(q, p),
            "tail": p.tail.exp(),
            "error": error_bound(p, q),
            "error_reverse": error_bound(q, p),
        }
        return {name: values.numpy() for name, values in found.items()}

    child, description = pair.open("reasoning"), f"KL on {probes.name}, reasoning"
    compared = answer_positions(child, rendered, shared_vocabulary(pair), compare, description)
    decode = pair.tokenizer("reasoning").decode
    rows = []
    for prompt, parts in zip(rendered, compared, strict=True):
        numbers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        start, stop = prompt.roles["answer"]
        tokens = [decode([token]) for token in prompt.ids[start:stop]]
        place = {
            "item": prompt.item_id,
            "family": probes[prompt.item_id].family,
            "position": np.arange(stop - start),
            "token": tokens,
        }
        rows.append(pd.DataFrame(place | numbers))
    return pd.concat(rows, ignore_index=True).assign(dimension=probes.dimension)[COLUMNS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A distribution per position: the log-probabilities of some tokens (`inside`), and that of all others together
    (`tail`).

    `most` and `least` bound the log-probability of each other token. `ids` is None where every token is kept.
    """

    ids: Int[Tensor, "pos token"] | None
    inside: Float[Tensor, "pos token"]
    tail: Float[Tensor, " pos"]
    most: Float[Tensor, " pos"]
    least: Float[Tensor, " pos"]


def save_kept(kept: Sequence[Sequence[Kept]], file: Path) -> None:
    """Write distributions, by prompt and part, to a file, so that those of many probe sets need not be in memory at
    once."""
    values = {
        f"{prompt} {part} {field.name}": getattr(each, field.name)
        for prompt, parts in enumerate(kept)
        for part, each in enumerate(parts)
        for field in fields(Kept)
    }
    save_file({name: value.contiguous() for name, value in values.items() if value is not None}, file)


def load_kept(file: Path) -> list[list[Kept]]:
    """What `save_kept` wrote, bit for bit."""
    stored = load_file(file)
    found: list[list[Kept]] = []
    for prompt, part in sorted({(int(name.split()[0]), int(name.split()[1])) for name in stored}):
        if part == 0:
            found.append([])
        found[-1].append(Kept(**{each.name: stored.get(f"{prompt} {part} {each.name}") for each in fields(Kept)}))
    return found


def coarse_kl(p: Kept, q: Kept) -> Float[Tensor, " pos"]:
    """KL of the distributions {kept tokens, everything else}, in float64."""
    ours, theirs = p.inside.double(), q.inside.double()
    inside = (ours.exp() * (ours - theirs)).sum(-1)
    if p.ids is None:
        return inside.clamp(min=0)
    return (inside + p.tail.exp() * (p.tail - q.tail)).clamp(min=0)


def error_bound(p: Kept, q: Kept) -> Float[Tensor, " pos"]:
    """The most by which the full KL can exceed `coarse_kl`, in nats; 0 where every token is kept."""
    if p.ids is None:
        return torch.zeros(len(p.inside), dtype=torch.float64)
    return p.tail.exp() * ((p.most - p.tail) + (q.tail - q.least)).clamp(min=0)


def keep(log_probabilities: Float[Tensor, "pos vocab"], ids: Int[Tensor, "pos token"] | None) -> Kept:
    """Whole distributions, reduced to the given tokens; all tokens for None."""
    if ids is None:
        nothing = torch.full((len(log_probabilities),), -torch.inf, dtype=torch.float64)
        return Kept(ids=None, inside=log_probabilities, tail=nothing, most=nothing.clone(), least=nothing.clone())
    inside = log_probabilities.gather(-1, ids)
    others = log_probabilities.double().scatter(-1, ids, -torch.inf)
    lowest = log_probabilities.double().scatter(-1, ids, torch.inf).min(-1).values
    return Kept(ids=ids, inside=inside, tail=others.logsumexp(-1), most=others.max(-1).values, least=lowest)


def keep_first(
    loaded: LanguageModel, rendered: Sequence[Rendered], vocabulary: int, description: str
) -> list[list[Kept]]:
    """The first model's distributions at every answer position: whole if they fit into `MEMORY`, else its most likely
    tokens."""
    positions = sum(stop - start for start, stop in (prompt.roles["answer"] for prompt in rendered))
    is_exact = vocabulary <= TOP or positions * vocabulary * 4 <= MEMORY

    def pick(log_probabilities: Tensor, _: int, __: int) -> Kept:
        return keep(log_probabilities, None if is_exact else log_probabilities.topk(TOP, dim=-1).indices)

    return answer_positions(loaded, rendered, vocabulary, pick, description)


def positions_at_once(vocabulary: int) -> int:
    """How many positions' distributions over the whole vocabulary are held together: 110 of a vocabulary of 152,000."""
    return max(1, BLOCK // (4 * vocabulary))


T = TypeVar("T")


@torch.inference_mode()
def answer_positions(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    vocabulary: int,
    pick: Callable[[Tensor, int, int], T],
    description: str,
    around: Callable[[ForwardBatch], AbstractContextManager] = nullcontext,
) -> list[list[T]]:
    """`pick(log-probabilities [pos, vocab], index, part)` for each part of each prompt's answer, over the first
    `vocabulary` tokens: those that both models have.

    Only answer positions are unembedded, `positions_at_once` of them at a time: 32,000 positions of a vocabulary of
    152,000 are 20 GB in float32. Each batch runs inside `around(batch)`, which may edit activations.
    """
    out: list[list[T]] = [[] for _ in rendered]
    most = positions_at_once(vocabulary)
    with progress(description, len(rendered)) as advance, long_prompts_in_parts(loaded):
        for each in forward_batches(loaded, rendered, advance=advance):
            with around(each):
                hidden = each.run()
            for index, own in zip(each.places, hidden, strict=True):
                start, stop = rendered[index].roles["answer"]
                # The logits at a position predict the token after it.
                for part, states in enumerate(own[start - 1 : stop - 1].split(most)):
                    logits = loaded.structure.logits(states).float()[..., :vocabulary]
                    out[index].append(pick(logits.log_softmax(-1).cpu(), index, part))
    return out
