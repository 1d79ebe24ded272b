"""The one loop of forward passes: prompts of different lengths, sorted, padded in batches, run, and put back in order.

    out = torch.empty(len(rendered), width)
    for each in forward_batches(loaded, rendered):
        out[each.places] = take_what_is_needed(each.run())

Prompts of similar length share a batch, so that little of it is padding. Padding does not change positions: each prompt
keeps the position ids that it would have alone. `padded_batches` is the same loop over bare token ids, without a model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import MechdriftError, Rendered

TOKENS_PER_BATCH = 2048
_READS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Right- or left-padded token ids with everything a forward pass needs."""

    ids: Int[Tensor, "prompt pos"]
    mask: Int[Tensor, "prompt pos"]
    positions: Int[Tensor, "prompt pos"]
    offsets: tuple[int, ...]  # how many pads stand before each prompt

    def forward_arguments(self, device: torch.device) -> dict[str, Tensor]:
        """Arguments of a decoder's forward; the mask is left out when nothing is padded, so SDPA takes its fast
        path."""
        arguments = {"input_ids": self.ids.to(device), "position_ids": self.positions.to(device)}
        if not bool(self.mask.all()):
            arguments["attention_mask"] = self.mask.to(device)
        return arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardBatch:
    """Some prompts of similar length, ready for one forward pass of a model. `places` are their indices among all
    prompts: `out[each.places] = ...` puts results back in order."""

    loaded: LanguageModel
    places: list[int]
    prompts: list[Rendered]
    batch: Batch

    @classmethod
    def of(cls, loaded: LanguageModel, prompts: Sequence[Rendered]) -> "ForwardBatch":
        """These prompts as one batch, in their order."""
        batch = pad([prompt.ids for prompt in prompts], pad_id(loaded))
        return cls(loaded=loaded, places=list(range(len(prompts))), prompts=list(prompts), batch=batch)

    def run(self) -> Float[Tensor, "prompt pos d_model"]:
        """The final states, which the unembedding reads, at every position: one forward pass with the hooks that are
        set."""
        return forward(self.loaded, self.batch)

    def at_readout(self, hidden: Float[Tensor, "prompt pos d_model"]) -> Float[Tensor, "prompt d_model"]:
        """The final states at the prompts' readout positions, in float32 on the CPU."""
        places = [
            prompt.readout_position + offset for prompt, offset in zip(self.prompts, self.batch.offsets, strict=True)
        ]
        rows = torch.arange(len(places), device=hidden.device)
        return hidden[rows, torch.tensor(places, device=hidden.device)].float().cpu()


def forward_batches(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    *,
    tokens: int = TOKENS_PER_BATCH,
    prompts: int | None = None,
    side: str = "right",
    advance: Callable[[int], object] | None = None,
) -> Iterator[ForwardBatch]:
    """Yields the prompts batch by batch, the shortest first, grouped as in `padded_batches`. After each batch,
    `advance` is called with the number of its prompts."""
    for places, batch in padded_batches(
        [prompt.ids for prompt in rendered],
        pad_id(loaded),
        tokens=tokens,
        prompts=prompts,
        side=side,
    ):
        yield ForwardBatch(loaded=loaded, places=places, prompts=[rendered[i] for i in places], batch=batch)
        if advance is not None:
            advance(len(places))


def padded_batches(
    sequences: Sequence[Sequence[int]],
    pad_id: int,
    *,
    tokens: int = TOKENS_PER_BATCH,
    prompts: int | None = None,
    side: str = "right",
    shortest_first: bool = True,
) -> Iterator[tuple[list[int], Batch]]:
    """Yields token ids sorted by length and padded: the indices of a batch's sequences, and the batch.

    A batch has at most `tokens` padded tokens (or one sequence). Where `prompts` is given, it has that many sequences
    instead; with `shortest_first=False` they are taken in the order given.
    """
    lengths = [len(ids) for ids in sequences]
    order = _shortest_first(lengths) if shortest_first else list(range(len(lengths)))
    for places in batches(lengths, tokens) if prompts is None else _by_count(order, prompts):
        yield places, pad([sequences[i] for i in places], pad_id, side)


def forward(loaded: LanguageModel, batch: Batch) -> Float[Tensor, "prompt pos d_model"]:
    """The final states, which the unembedding reads, at every position: one pass of the decoder without its head."""
    arguments = batch.forward_arguments(input_device(loaded))
    return loaded.decoder(**arguments, use_cache=False).last_hidden_state


def check_padding(loaded: LanguageModel, batch: Batch) -> None:
    """Raise where prompts are padded on the left and the model reads the padding, masked or not, as models that keep a
    state may do (RecurrentGemma, MiniMax). It is tried with passes of its own: call it before hooks are set."""
    if any(batch.offsets) and reads_padding(loaded):
        raise MechdriftError(
            f"{loaded.source.name} reads the padding before a prompt, masked or not, so that prompts of different "
            "lengths cannot be patched or steered together: give prompts of one length, in tokens."
        )


@torch.inference_mode()
def reads_padding(loaded: LanguageModel) -> bool:
    """Whether padding on the left changes what a model computes for a prompt behind it. Tried once per model.

    A batch of another shape rounds differently, too, and in half precision a router may then take other experts. So the
    control is a batch of the same shape with the padding on the right, which no causal model can read.
    """
    if loaded.model not in _READS:
        size = next(loaded.model.get_input_embeddings().parameters()).shape[0]
        longer, prompt = torch.randint(size, (2, 11), generator=torch.Generator().manual_seed(0)).tolist()
        prompt = prompt[:8]
        left, right = (pad([longer, prompt], pad_id(loaded), side) for side in ("left", "right"))
        found, control = forward(loaded, left)[1, -8:].float(), forward(loaded, right)[1, :8].float()
        alone = forward(loaded, pad([prompt], pad_id(loaded)))[0].float()
        change, rounding = ((states - alone).abs().mean() / alone.abs().mean() for states in (found, control))
        least = 1e-3 if loaded.model.dtype == torch.float32 else 0.1
        _READS[loaded.model] = bool(change > max(least, 3 * rounding))
    return _READS[loaded.model]


def pad_id(loaded: LanguageModel) -> int:
    """The token id that fills the padding; the attention mask hides it."""
    return loaded.tokenizer.pad_token_id or 0


def input_device(loaded: LanguageModel) -> torch.device:
    """The device for token ids: that of the weights, or, where accelerate offloads them, the device on which it
    computes."""
    if loaded.device.type != "meta":
        return loaded.device
    hook = getattr(loaded.model.get_input_embeddings(), "_hf_hook", None)
    return torch.device(getattr(hook, "execution_device", None) or "cpu")


def pad(sequences: Sequence[Sequence[int]], pad_id: int, side: str = "right") -> Batch:
    """Stack token ids of different lengths. Position ids count real tokens only, so padding does not change them."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad_id)
    mask = torch.zeros_like(ids)
    offsets = tuple(width - len(sequence) if side == "left" else 0 for sequence in sequences)
    for row, (sequence, offset) in enumerate(zip(sequences, offsets, strict=True)):
        ids[row, offset : offset + len(sequence)] = torch.tensor(sequence)
        mask[row, offset : offset + len(sequence)] = 1
    return Batch(ids=ids, mask=mask, positions=(mask.cumsum(1) - 1).clamp(min=0), offsets=offsets)


def batches(lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
    """Indices grouped by similar length, each group at most `tokens_per_batch` padded tokens (or one prompt)."""
    group: list[int] = []
    for index in _shortest_first(lengths):
        if group and lengths[index] * (len(group) + 1) > tokens_per_batch:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _by_count(order: Sequence[int], count: int) -> Iterator[list[int]]:
    return (list(order[start : start + count]) for start in range(0, len(order), count))


def _shortest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: lengths[index])
