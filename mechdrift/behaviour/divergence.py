"""How far the reasoning model's next-token distribution has moved: KL drift on the instruct model's own answers.

    KL(p ‖ q) per token,  p = instruct, q = reasoning,  teacher-forced on the instruct model's answers, temperature 1, in nats;

only answer tokens count, and position 0 is the first of them. Both models read the same ids (an empty think block is prefilled for
both, as a first-token KL across `<think>` would mean nothing). `kl_reverse` is KL(q ‖ p) on the same tokens.

No stage needs both models in memory, and a vocabulary is too large to store. So the first model's `TOP` most likely tokens per
position are kept, and everything else becomes one tail event: the KL of these coarser distributions is a lower bound of the
full one (data processing inequality), and exactly zero for identical models. `tail` is p's probability outside the top.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mechdrift.capture import batches, pad, render_probes
from mechdrift.pairs import LanguageModel, Pair
from mechdrift.progress import progress
from mechdrift.records import Completions, ProbeSet, Rendered

TOP = 512


def kl_drift(pair: Pair, probes: ProbeSet, answers: Completions) -> pd.DataFrame:
    """One row per answer token: `item, family, dimension, position, token, kl, kl_reverse, tail`.

    `answers` are the instruct model's completions of `probes`; items without an answer are left out.
    """
    rendered = [prompt for prompt in render_probes(pair, probes, "off", answers) if "answer" in prompt.roles]
    if not rendered:
        return pd.DataFrame(columns=["item", "family", "dimension", "position", "token", "kl", "kl_reverse", "tail"])
    top = _top_tokens(pair.open("instruct"), rendered, f"KL on {probes.name}, instruct")
    other = _gathered(pair.open("reasoning"), rendered, [ids for ids, _ in top], f"KL on {probes.name}, reasoning")
    decode = pair.tokenizer("reasoning").decode
    rows = []
    for prompt, (_, ours), theirs in zip(rendered, top, other, strict=True):
        forward, reverse, tail = _coarse_kl(ours, theirs), _coarse_kl(theirs, ours), 1 - ours.exp().sum(-1)
        start, stop = prompt.roles["answer"]
        rows.append(pd.DataFrame({
            "item": prompt.item_id, "family": probes[prompt.item_id].family, "position": np.arange(stop - start),
            "token": [decode([token]) for token in prompt.ids[start:stop]],
            "kl": forward.numpy(), "kl_reverse": reverse.numpy(), "tail": tail.clamp(min=0).numpy(),
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True).assign(dimension=probes.dimension)


def _coarse_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL of the distributions {top tokens, everything else}, from their log-probabilities `[pos, top]`, in float64."""
    p, q = p.double(), q.double()
    tails = [torch.log1p(-x.exp().sum(-1).clamp(max=1 - 1e-12)) for x in (p, q)]
    inside = (p.exp() * (p - q)).sum(-1)
    return (inside + tails[0].exp() * (tails[0] - tails[1])).clamp(min=0)


def _top_tokens(loaded: LanguageModel, rendered: Sequence[Rendered], description: str) -> list[tuple[Tensor, Tensor]]:
    """Ids and log-probabilities of the most likely tokens at every answer position, per prompt `[pos, top]`."""

    def pick(log_probabilities: Tensor, _: int) -> tuple[Tensor, Tensor]:
        values, ids = log_probabilities.topk(min(TOP, log_probabilities.shape[-1]), dim=-1)
        return ids, values

    return _answer_positions(loaded, rendered, pick, description)


def _gathered(loaded: LanguageModel, rendered: Sequence[Rendered], wanted: Sequence[Tensor], description: str) -> list[Tensor]:
    """Log-probabilities of the given ids at every answer position."""

    def pick(log_probabilities: Tensor, index: int) -> Tensor:
        return log_probabilities.gather(-1, wanted[index])

    return _answer_positions(loaded, rendered, pick, description)


@torch.inference_mode()
def _answer_positions(loaded: LanguageModel, rendered: Sequence[Rendered], pick, description: str) -> list:
    """`pick(log-probabilities [pos, vocab], index)` for each prompt; only answer positions are unembedded."""
    out: list = [None] * len(rendered)
    with progress(description, len(rendered)) as advance:
        for group in batches([len(prompt.ids) for prompt in rendered]):
            batch = pad([rendered[i].ids for i in group], loaded.tokenizer.pad_token_id or 0)
            hidden = loaded.model.base_model(**batch.forward_arguments(loaded.device), use_cache=False).last_hidden_state
            for row, index in enumerate(group):
                start, stop = rendered[index].roles["answer"]
                # The logits at a position predict the token after it.
                logits = loaded.structure.unembed(hidden[row, start - 1 : stop - 1]).float()
                out[index] = pick(logits.log_softmax(-1).cpu(), index)
            advance(len(group))
    return out
