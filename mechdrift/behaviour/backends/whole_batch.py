"""The simple loop: a batch is padded on the left, and kept whole until its last row is finished.

It is for architectures whose cache or attention `kv_cache` cannot separate by rows: compressed or indexed caches, or
attention that does not go through transformers' interface. It is slower, and does the same as the greedy or sampling
loop of Hugging Face's `generate`. A model that takes no cache but one of its own (MiniMax) reads the whole text again
for each token, alone.
"""

import inspect
import random
from collections import deque
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from torch import nn
from transformers import DynamicCache

from mechdrift.activations.batching import input_device, pad
from mechdrift.behaviour.backends.protocol import Request, Written, finish_of
from mechdrift.behaviour.backends.sampling import choose
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.structure import with_cache

_TAKES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def write_whole(loaded: LanguageModel, queue: deque[Request], rows: int) -> Iterator[tuple[Request, Written]]:
    """See `protocol.Generator.write`; at most `rows` requests at a time."""
    cached = takes_cache(loaded)
    while queue:
        group = [queue.popleft() for _ in range(min(rows if cached else 1, len(queue)))]
        yield from zip(group, _write_group(loaded, group, cached), strict=True)


@torch.inference_mode()
def takes_cache(loaded: LanguageModel) -> bool:
    """Whether a model reads a token with Hugging Face's own cache for its configuration. Tried once per model."""
    if loaded.model not in _TAKES:
        one = torch.zeros(1, 1, dtype=torch.long, device=input_device(loaded))
        try:
            loaded.decoder(one, **with_cache(loaded.decoder, DynamicCache(config=loaded.model.config)))
        except (ValueError, TypeError, AttributeError, IndexError, KeyError):
            _TAKES[loaded.model] = False
        else:
            _TAKES[loaded.model] = True
    return _TAKES[loaded.model]


@torch.inference_mode()
def _write_group(loaded: LanguageModel, group: list[Request], cached: bool) -> list[Written]:
    batch, device = pad([request.prompt for request in group], 0, side="left"), input_device(loaded)
    ids, mask, positions = batch.ids, batch.mask, batch.positions
    accepted = inspect.signature(loaded.model.forward).parameters
    cache = DynamicCache(config=loaded.model.config)
    given = with_cache(loaded.model, cache) if cached else {"use_cache": False}
    written: list[list[int]] = [[] for _ in group]
    values: list[list[float]] = [[] for _ in group]
    randoms = [random.Random(request.seed) for request in group]
    while True:
        arguments = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        arguments = {key: value.to(device) for key, value in arguments.items() if key in accepted}
        keep = torch.tensor([ids.shape[1] - 1])  # an index, not a slice: see `hugging_face`
        logits = loaded.model(**arguments, **given, logits_to_keep=keep).logits[:, -1:]
        logits = rearrange(logits, "row 1 vocab -> row vocab").float()
        chosen, found = choose(logits, [request.temperature for request in group], randoms, loaded.source.name)
        for index, request in enumerate(group):
            if finish_of(request, written[index]) is None:
                written[index].append(chosen[index])
                values[index].append(found[index])
        finishes = [finish_of(request, own) for request, own in zip(group, written, strict=True)]
        if all(finishes):
            return [
                Written(ids=tuple(own), log_probabilities=tuple(logs), finish=finish or "length")
                for own, logs, finish in zip(written, values, finishes, strict=True)
            ]
        new, place = torch.tensor(chosen)[:, None], positions[:, -1:] + 1
        ids, positions = (new, place) if cached else (torch.cat([ids, new], 1), torch.cat([positions, place], 1))
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
