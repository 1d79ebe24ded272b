"""Where the new tokens' keys and values go in one decoding step, and which positions each row attends to.

The step is the same for all layers, so places and masks are computed once (`Step`), at the first layer that needs them,
and not once per layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMALLEST_SHELF = 128


@dataclass(eq=False)
class Slot:
    """The place of one row's keys and values on a shelf; `length` positions are filled."""

    length: int
    capacity: int
    place: int = -1


def capacity_for(length: int) -> int:
    """The smallest shelf with room for one more token than `length`."""
    capacity = SMALLEST_SHELF
    while capacity <= length:
        capacity *= 2
    return capacity


@dataclass(frozen=True, slots=True)
class Group:
    """One shelf's part in a step: which rows of the batch it holds, where their new token goes, and which positions
    they may attend to."""

    capacity: int
    index: Tensor  # batch rows, in the order of their slots
    place: Tensor  # slots, 0 … n - 1
    position: Tensor  # of the new token, per row
    longest: int  # of the rows, the new token included


class Step:
    """The plan of one decoding step, per device and window; each part is computed when it is first needed."""

    def __init__(self, shelves: dict[int, list[Slot]], rows: Sequence[Slot]):
        at = {id(row): index for index, row in enumerate(rows)}
        self.groups = [
            Group(
                capacity=capacity,
                index=torch.tensor([at[id(row)] for row in own]),
                place=torch.arange(len(own)),
                position=torch.tensor([row.length for row in own]),
                longest=max(row.length for row in own) + 1,
            )
            for capacity, own in sorted(shelves.items())
        ]
        order = torch.cat([group.index for group in self.groups])
        self.back = None if torch.equal(order, torch.arange(len(order))) else order.argsort()
        self._made: dict[tuple, Any] = {}

    def once(self, key: tuple, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def index(self, group: Group, device: torch.device) -> Tensor | None:
        """The group's rows of the batch; None where they are the whole batch in its order."""
        if len(self.groups) == 1 and self.back is None:
            return None
        return self.once(("index", group.capacity, device), lambda: group.index.to(device))

    def order(self, device: torch.device) -> Tensor | None:
        """The place of each row of the batch in the concatenated outputs of the groups; None where these are in
        order."""
        back = self.back
        return None if back is None else self.once(("back", device), lambda: back.to(device))

    def target(self, group: Group, width: int, heads: int, device: torch.device) -> Tensor:
        """Places of the new tokens in a shelf's keys, flattened over slots, heads and positions."""
        key = ("target", group.capacity, width, heads, device)
        return self.once(key, lambda: _places(group, width, heads).to(device))

    def mask(self, group: Group, width: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """What is added to the attention scores, `[row, 1, 1, position]`; None where every position counts."""
        return self.once(("mask", group.capacity, width, dtype, device), lambda: _mask(group, width, dtype, device))


def _places(group: Group, width: int, heads: int) -> Tensor:
    lines = group.place[:, None] * heads + torch.arange(heads)
    return (lines * width + (group.position % width)[:, None]).flatten()


def _mask(group: Group, width: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    seen = (group.position + 1).clamp(max=width)
    if bool((seen == seen[0]).all()):
        return None
    beyond = torch.arange(min(group.longest, width)) >= seen[:, None]
    return torch.zeros(beyond.shape, dtype=dtype).masked_fill(beyond, -torch.inf)[:, None, None].to(device)
