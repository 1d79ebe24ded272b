"""The layers of a cache on shelves (`kv_cache`): keys and values per shelf, put, moved and attended to.

`ShelvedLayer` holds the rows that are being written, `PrefillLayer` the prompts while they are read. The hybrid layers
also carry a recurrent state, which Hugging Face's own layer keeps.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, LinearAttentionLayer

from mechdrift.behaviour.backends.kv_step import Slot

if TYPE_CHECKING:
    from mechdrift.behaviour.backends.kv_cache import ShelvedCache


class ShelvedLayer(CacheLayerMixin):
    """One layer's keys and values: per shelf capacity a pair of tensors `[slot, head, position, d_head]`."""

    is_sliding = False

    def __init__(self, cache: "ShelvedCache", window: int | None):
        super().__init__()
        self.cache, self.window = cache, window
        self.shelves: dict[int, tuple[Tensor, Tensor]] = {}
        self.bytes_per_position = 0  # known once something was put in
        self.given: tuple[Tensor, ...] = ()  # the new token's keys and values of this step

    def width(self, capacity: int) -> int:
        """How many positions a slot of this shelf has in this layer."""
        return min(capacity, self.window or capacity)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put the new token's keys and values in their places. Attention reads the others by `attend`."""
        step, device = self.cache.step, key_states.device
        for group in step.groups:
            index, width = step.index(group, device), self.width(group.capacity)
            for kept, new in zip(self.shelves[group.capacity], (key_states, value_states), strict=True):
                own = new if index is None else new.index_select(0, index)
                places = step.target(group, width, new.shape[1], device)
                kept.view(-1, kept.shape[-1]).index_copy_(0, places, own.reshape(-1, own.shape[-1]).to(kept.dtype))
        self.cache.updated, self.cache.updates = self, self.cache.updates + 1
        self.given = (key_states, value_states)
        return key_states, value_states

    def holds(self, keys: Tensor, values: Tensor) -> bool:
        """Whether these are the keys and values that were put in, unchanged."""
        pairs = zip((keys, values), self.given, strict=True)
        return all(one is other or (one.shape == other.shape and torch.equal(one, other)) for one, other in pairs)

    def attend(self, own: Callable[..., Any], module: Any, query: Tensor, **arguments: Any) -> Tensor:
        """The outputs of the model's own attention function, called once per shelf, in the batch's order."""
        step, device = self.cache.step, query.device
        outputs = []
        for group in step.groups:
            width = self.width(group.capacity)
            rows, stop = len(group.place), min(group.longest, width)
            keys, values = (kept[:rows, :, :stop] for kept in self.shelves[group.capacity])
            index = step.index(group, device)
            asked = query if index is None else query.index_select(0, index)
            mask = step.mask(group, width, query.dtype, device)
            outputs.append(own(module, asked, keys, values, mask, **arguments)[0])
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        order = step.order(device)
        return joined if order is None else joined.index_select(0, order)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # the model's own mask is not used

    def get_seq_length(self) -> int:
        return self.cache.longest

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # as transformers 5.9 calls it

    def reserve(self, capacity: int, rows: int, used: int, like: tuple[Tensor, Tensor] | None) -> None:
        """Make room for `rows` slots on a shelf, of which `used` are filled."""
        held = self.shelves.get(capacity)
        if held is not None and len(held[0]) >= rows:
            return
        pattern, width = held or like, self.width(capacity)
        assert pattern is not None
        # Zeros, because masked positions are still multiplied.
        keys, values = (zeros(old, (rows, old.shape[1], width, old.shape[-1])) for old in pattern)
        if held is not None:
            keys[:used], values[:used] = held[0][:used], held[1][:used]
        self.shelves[capacity] = (keys, values)
        self.bytes_per_position = sum(kept.shape[1] * kept.shape[-1] * kept.element_size() for kept in pattern)

    def put(self, slot: Slot, states: tuple[Tensor, Tensor], row: int) -> None:
        """Copy one prefilled row's keys and values, `[row, head, position, d_head]`, into its slot: the last positions,
        because prompts are padded on the left."""
        width = self.width(slot.capacity)
        for kept, new in zip(self.shelves[slot.capacity], states, strict=True):
            start = max(0, slot.length - width)
            places = torch.arange(start, slot.length, device=kept.device) % width
            kept[slot.place].index_copy_(1, places, new[row, :, new.shape[2] - slot.length + start :])

    def move(self, source: tuple[int, int], target: tuple[int, int], length: int) -> None:
        """Copy one row between two (capacity, place)."""
        stop = min(length, self.width(source[0]))
        for kept, new in zip(self.shelves[source[0]], self.shelves[target[0]], strict=True):
            new[target[1], :, :stop] = kept[source[1], :, :stop]


LINE = 64  # bytes of a cache line


def zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros of this shape, with the number format and device of `like`.

    In main memory they are numpy's: it asks the system for zeroed pages, large ones where there are any, and each is
    made when it is first written. `torch.zeros` writes all of them, 4 KiB by 4 KiB, which took a fifth of the time of
    long prompts that come one by one.
    """
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or not size:
        return like.new_zeros(shape)
    memory = np.zeros(size + LINE, dtype=np.uint8)
    start = -memory.ctypes.data % LINE
    return torch.from_numpy(memory[start : start + size]).view(like.dtype).view(shape)


class ShelvedHybridLayer(LinearAttentionLayer, ShelvedLayer):
    """A layer with both attention and a recurrent state (Falcon-H1)."""

    is_compileable = False

    def __init__(self, cache: "ShelvedCache", window: int | None, number_of_states: int):
        ShelvedLayer.__init__(self, cache, window)
        LinearAttentionLayer.__init__(self, number_of_states=number_of_states)


class PrefillLayer(DynamicLayer):
    """Keeps every position of the prompts, also where the layer has a window, because each row has its own end."""

    def __init__(self, is_sliding: bool = False):
        super().__init__()
        self.is_sliding = is_sliding


class PrefillHybridLayer(LinearAttentionLayer, PrefillLayer):
    is_compileable = False

    def __init__(self, is_sliding: bool, number_of_states: int):
        PrefillLayer.__init__(self, is_sliding)
        LinearAttentionLayer.__init__(self, number_of_states=number_of_states)

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        (PrefillLayer if args else LinearAttentionLayer).lazy_initialization(self, *args, **kwargs)
