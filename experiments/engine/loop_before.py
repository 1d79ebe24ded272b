"""mechdrift's decoding loop before continuous batching, kept for comparison.

Hugging Face's `generate` on a left-padded batch of 48 prompts, eight steps at a time; rows that have finished leave the
batch, and their keys and values the cache, in between. Hugging Face's cache is copied at every step to make room for
one more token. Rows end at lengths that are given, so that both loops write the same number of tokens.
"""

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from mechdrift.activations.batching import pad
from mechdrift.hooks import HookPoint, edit
from mechdrift.pairs.loading import LanguageModel

PROMPTS_PER_BATCH = 48
STEPS_AT_ONCE = 8


class _StopAt(StoppingCriteria):
    """Ends each row for itself once it has its length."""

    def __init__(self, start: int, lengths: list[int]):
        self.start, self.lengths = start, torch.tensor(lengths)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor | None, **_: object) -> torch.Tensor:
        return input_ids.shape[1] - self.start >= self.lengths


def write(loaded: LanguageModel, prompts: list[tuple[int, ...]], lengths: list[int]) -> list[list[int]]:
    """Greedy continuations of `prompts`, each of its length in tokens."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    written: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), PROMPTS_PER_BATCH):
        group = order[start : start + PROMPTS_PER_BATCH]
        rows = _continue(loaded, [prompts[index] for index in group], [lengths[index] for index in group])
        for index, row in zip(group, rows, strict=True):
            written[index] = row
    return written


@torch.inference_mode()
def _continue(loaded: LanguageModel, prompts: list[tuple[int, ...]], lengths: list[int]) -> list[list[int]]:
    pad_id = loaded.tokenizer.pad_token_id or 0
    batch = pad(prompts, pad_id, side="left")
    ids, mask, cache = batch.ids, batch.mask, None
    start, going, written = ids.shape[1], torch.arange(len(prompts)), [[] for _ in prompts]
    whole = {HookPoint(loaded.structure.unembed, "input"): torch.Tensor.contiguous}
    while len(going):
        wanted = [lengths[index] for index in going.tolist()]
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=min(STEPS_AT_ONCE, start + max(wanted) - ids.shape[1]),
            pad_token_id=pad_id,
            eos_token_id=-1,  # none: else the model's own setting counts, and a row that writes it goes on with padding
            return_dict_in_generate=True,
        )
        with edit(whole):
            out = loaded.model.generate(
                ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([_StopAt(start, wanted)]),
            )
        rows = out.sequences[:, start:].tolist()
        for index, row in zip(going.tolist(), rows, strict=True):
            written[index] = row[: lengths[index]]
        keep = torch.tensor([i for i, row in enumerate(rows) if len(row) < wanted[i]], dtype=torch.long)
        mask = torch.nn.functional.pad(mask, (0, out.sequences.shape[1] - ids.shape[1]), value=1)[keep]
        ids, cache, going = out.sequences[keep], out.past_key_values, going[keep]
        if len(keep):
            cache.batch_select_indices(keep)
    return written
