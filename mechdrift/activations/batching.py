"""Prompts of different lengths as padded batches, on either side, with the positions that they would have alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

TOKENS_PER_BATCH = 2048


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


def pad(sequences: Sequence[Sequence[int]], pad_id: int, side: str = "right") -> Batch:
    """Stack token ids of different lengths. Positions count real tokens only, so padding never moves them."""
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
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and lengths[index] * (len(group) + 1) > tokens_per_batch:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
