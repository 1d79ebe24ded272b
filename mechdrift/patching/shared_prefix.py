"""Attention of many copies of a prompt that share its first tokens.

Copies of one prompt that start at one position share the keys and values of all positions before it. Their queries are
multiplied with that prefix together, so that nobody copies it. Long suffixes, and models whose attention is not SDPA,
go through the model's own attention function, with the prefix put before each copy's own keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mechdrift.hooks import Attention
from mechdrift.patching.cells import Group

LONG_SUFFIX = 32  # tokens; from here on copies' own keys outweigh the shared ones, and the model's kernel is faster
SCORES_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """The keys and values `[prompt, head, pos, d_head]` that one attention was given, and its mask, if it has one."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefix:
    """Takes the place of the attention function on one row of copies: each sees its prompt's prefix and itself.

    `offsets` are the pads before each prompt of the batch; each group has `count` copies in the row.
    """

    offsets: Sequence[int]
    attended: Attended
    groups: Sequence[Group]
    count: int

    def __call__(
        self,
        own: Attention,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "1 token head d_head"], None]:
        sizes = [self.count * group.suffix for group in self.groups]
        parts = zip(*(tensor[0].split(sizes, dim=1) for tensor in (query, key, value)), strict=True)
        out = [
            self._group(own, module, group, [part.unflatten(1, (self.count, -1)) for part in qkv], kwargs)
            for group, qkv in zip(self.groups, parts, strict=True)
        ]
        return torch.cat(out)[None], None

    def _group(
        self, own: Attention, module: nn.Module, group: Group, qkv: list[Tensor], kwargs: dict
    ) -> Float[Tensor, "token head d_head"]:
        """`qkv` are `[head, copy, suffix, d_head]`."""
        offset = self.offsets[group.prompt]
        prefix = [
            stored[group.prompt, :, offset : group.start] for stored in (self.attended.keys, self.attended.values)
        ]
        mask = self._mask(group, offset)
        heads, count, suffix, _ = qkv[0].shape
        at_once = max(1, SCORES_AT_ONCE // (heads * suffix * mask.shape[-1]))
        plain = (
            own.__name__ == "sdpa_attention_forward"
            and suffix < LONG_SUFFIX
            and not any(isinstance(v, Tensor) for v in kwargs.values())
        )
        parts = []
        for first in range(0, count, at_once):
            some = [part[:, first : first + at_once] for part in qkv]
            if plain:
                parts.append(_attend_shared(*some, *prefix, mask, kwargs.get("scaling")))
            else:
                parts.append(_attend_each(own, module, *some, *prefix, mask, kwargs))
        return torch.cat(parts).flatten(0, 1)

    def _mask(self, group: Group, offset: int) -> Tensor:
        """`[head, suffix, seen]`: which tokens of the prompt the group's positions see; True, or 0 to add, where they
        do."""
        if (mask := self.attended.mask) is not None:
            return mask[group.prompt if mask.shape[0] > 1 else 0, :, group.start : group.end, offset : group.end]
        width = group.end - offset
        return torch.ones(width, width, dtype=torch.bool, device=self.attended.keys.device).tril()[
            None, group.start - offset :
        ]


def _attend_each(
    own: Attention,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix_keys: Tensor,
    prefix_values: Tensor,
    mask: Tensor,
    kwargs: dict,
) -> Float[Tensor, "copy suffix head d_head"]:
    """The model's own attention, with the prefix put before each copy's own keys and values."""
    query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    keys, values = (
        torch.cat([prefix.expand(len(query), *prefix.shape), part], dim=2)
        for prefix, part in ((prefix_keys, key), (prefix_values, value))
    )
    return own(module, query, keys, values, mask.expand(len(query), *mask.shape), **kwargs)[0]


def _attend_shared(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix_keys: Tensor,
    prefix_values: Tensor,
    mask: Tensor,
    scaling: float | None,
) -> Float[Tensor, "copy suffix head d_head"]:
    """softmax(q kᵀ · scaling) v, with one product for the first keys and values, which all copies share."""
    _, count, suffix, d_head = query.shape
    shared, seen = len(prefix_keys), prefix_keys.shape[1]
    query = query.unflatten(0, (shared, -1)).transpose(1, 2) * (
        d_head**-0.5 if scaling is None else scaling
    )  # kv copy group suffix d
    rows = query.reshape(shared, -1, d_head)
    scores = torch.cat(
        [
            (rows @ prefix_keys.transpose(1, 2)).view(shared, count, -1, seen),
            query.reshape(shared, count, -1, d_head) @ key.transpose(2, 3),
        ],
        dim=-1,
    ).view(shared, count, -1, suffix, seen + suffix)
    mask = (mask.unflatten(0, (shared, -1)) if len(mask) > 1 else mask[None])[:, None]
    scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)
    weights = scores.softmax(dim=-1).flatten(2, 3)
    out = (weights[..., :seen].reshape(shared, -1, seen) @ prefix_values).view(
        shared, count, -1, prefix_values.shape[-1]
    )
    out = (out + weights[..., seen:] @ value).unflatten(2, (-1, suffix))
    return rearrange(out, "kv copy group suffix d_head -> copy suffix (kv group) d_head")
