"""How likely is a sentence to a model? For the benchmarks that compare sentences and ask nothing: CrowS-Pairs and
StereoSet.

CrowS-Pairs compares ln p of whole sentences; StereoSet compares the mean per token, given the context where there is
one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from mechdrift.activations.batching import input_device, padded_batches
from mechdrift.behaviour.benchmark_scores.answers import identity
from mechdrift.behaviour.benchmark_scores.formulas import compare_pair, compare_triple
from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import ProbeSet, Side

SENTENCES_AT_ONCE = 16


def weigh_sentences(loaded: LanguageModel, probes: ProbeSet, side: Side) -> pd.DataFrame:
    """The sentences of every item compared by one model: `read_likelihoods` of its log-likelihoods."""
    if probes.name == "crows_pairs":
        names, contexts, per_token = ("more", "less"), [""] * len(probes), False
    else:
        names, per_token = ("stereotype", "anti", "unrelated"), True
        contexts = [item.prompt if item.tags["kind"] == "intersentence" else "" for item in probes]
    found = {
        name: log_likelihoods(loaded, [item.tags[name] for item in probes], contexts, per_token=per_token)
        for name in names
    }
    return read_likelihoods(probes, side, found)


def read_likelihoods(
    probes: ProbeSet, side: Side, likelihoods: Mapping[str, Float[np.ndarray, " item"]]
) -> pd.DataFrame:
    """One row per item, from the log-likelihoods of its sentences: `more` and `less`, or `stereotype`, `anti` and
    `unrelated`."""
    compare = compare_pair if probes.name == "crows_pairs" else compare_triple
    known = {"answered": 1.0, "unread": 0.0, "failed": 0.0}
    frame = pd.DataFrame([identity(item, side) | known for item in probes]).assign(**compare(**likelihoods))
    return frame.assign(per_term=1 / frame.groupby("family").family.transform("size"))


@torch.inference_mode()
def log_likelihoods(
    loaded: LanguageModel,
    sentences: Sequence[str],
    contexts: Sequence[str],
    *,
    per_token: bool = False,
) -> Float[np.ndarray, " item"]:
    """ln p(sentence | context) as plain text, without chat template, in nats: the sum, or the mean over the sentence's
    tokens."""
    tokenizer, values = loaded.tokenizer, np.empty(len(sentences))
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    heads = [[start, *_encode(loaded, context)] for context in contexts]
    tails = [
        _encode(loaded, f" {sentence}" if context else sentence)
        for sentence, context in zip(sentences, contexts, strict=True)
    ]
    whole = [[*head, *tail] for head, tail in zip(heads, tails, strict=True)]
    # In the given order, because in bfloat16 other neighbours in a batch would change results by tenths of a nat.
    for places, batch in padded_batches(whole, 0, prompts=SENTENCES_AT_ONCE, shortest_first=False):
        ids, mask = batch.ids.to(input_device(loaded)), batch.mask.to(input_device(loaded))
        logits = loaded.model(ids, attention_mask=mask).logits[:, :-1].float()
        found = logits.log_softmax(-1).gather(-1, ids[:, 1:, None].to(logits.device))[..., 0]
        for place, row in zip(places, found, strict=True):
            first = len(heads[place]) - 1  # the logits at a position predict the token after it
            own = row[first : first + len(tails[place])]
            values[place] = float(own.mean() if per_token else own.sum())
    return values


def _encode(loaded: LanguageModel, text: str) -> list[int]:
    return loaded.tokenizer(text, add_special_tokens=False).input_ids if text else []
