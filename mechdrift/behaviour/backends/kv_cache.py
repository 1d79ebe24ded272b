"""A key-value cache for continuous batching: rows of different lengths, added and taken out one by one.

Hugging Face's caches hold one padded block per layer. Every step copies it to make room for one more token, and rows
can leave it, but none can join. Here, rows are kept on *shelves*. A shelf has a capacity (128, 256, 512 … tokens) and
holds the rows that fit, each from its slot's first position on. A row that outgrows its shelf moves to the next, so
that a token is copied once per doubling. The rows of a shelf attend together, in one call of the model's own attention
function, over as many positions as the longest of them has.

    layer with full attention    keeps all positions
    layer with a sliding window  keeps the last W: position p lies at p mod W. Keys already carry their positions, and
                                 softmax does not depend on order, so the ring is never rotated
    recurrent or convolution     keeps one state per row, in Hugging Face's own layer; rows are selected and joined

`kv_step` computes the places of a step, `kv_layers` holds the layers.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from mechdrift.behaviour.backends.kv_layers import PrefillHybridLayer, PrefillLayer, ShelvedHybridLayer, ShelvedLayer
from mechdrift.behaviour.backends.kv_step import Slot, Step, capacity_for

SPARE = 1.25  # a shelf that needs more rows is made larger than needed by this factor


class CannotCut(Exception):
    """This architecture caches something that cannot be separated by rows; `alone`: nor can rows be padded."""

    def __init__(self, why: str, alone: bool = False):
        super().__init__(why)
        self.alone = alone


class ShelvedCache(Cache):
    """The cache of all layers of a model; see the module's text. Layers that cache nothing stay Hugging Face's own."""

    def __init__(self, model: PreTrainedModel, memory: int):
        """`memory`: bytes; spare places are made only within them."""
        self.pattern, self.memory = _pattern(model), memory
        super().__init__(layers=[self._layer(layer) for layer in self.pattern])
        self.rows: list[Slot] = []
        self.on_shelf: dict[int, list[Slot]] = {}
        self.step: Step = None  # pyright: ignore[reportAttributeAccessIssue] - made before every pass
        self.updated: ShelvedLayer = None  # pyright: ignore[reportAttributeAccessIssue] - set by `update`
        self.updates = 0

    def _layer(self, layer: Any) -> Any:
        window = getattr(layer, "sliding_window", None)
        if isinstance(layer, LinearAttentionCacheLayerMixin) and isinstance(layer, CacheLayerMixin):
            return ShelvedHybridLayer(self, window, layer.number_of_states)
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            return LinearAttentionLayer(number_of_states=layer.number_of_states)
        return ShelvedLayer(self, window) if isinstance(layer, CacheLayerMixin) else type(layer)()

    def prefill_cache(self) -> Cache:
        """An empty cache with the same layers, for a pass over prompts."""
        layers = []
        for layer in self.pattern:
            sliding = bool(getattr(layer, "is_sliding", False))
            if isinstance(layer, LinearAttentionCacheLayerMixin) and isinstance(layer, CacheLayerMixin):
                layers.append(PrefillHybridLayer(sliding, layer.number_of_states))
            elif isinstance(layer, LinearAttentionCacheLayerMixin):
                layers.append(LinearAttentionLayer(number_of_states=layer.number_of_states))
            else:
                layers.append(PrefillLayer(sliding) if isinstance(layer, CacheLayerMixin) else type(layer)())
        return Cache(layers=layers)

    @property
    def keeps_states(self) -> bool:
        """Whether some layer carries a state from token to token, which padding would change."""
        return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in self.pattern)

    @property
    def attention(self) -> list[ShelvedLayer]:
        return [layer for layer in self.layers if isinstance(layer, ShelvedLayer)]

    @property
    def recurrent(self) -> list[tuple[int, LinearAttentionLayer]]:
        return [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, LinearAttentionLayer)]

    @property
    def longest(self) -> int:
        return max((row.length for row in self.rows), default=0)

    def bytes_for(self, capacities: Iterable[int]) -> int:
        """The bytes that further rows of these capacities take; 0 before the first row is added."""
        return sum(
            layer.bytes_per_position * layer.width(capacity) for capacity in capacities for layer in self.attention
        )

    @property
    def bytes_held(self) -> int:
        return sum(
            tensor.numel() * tensor.element_size()
            for layer in self.attention
            for shelf in layer.shelves.values()
            for tensor in shelf
        )

    def add(self, lengths: Sequence[int], prefilled: Cache) -> list[Slot]:
        """Take rows over from a pass over their prompts, which were padded on the left."""
        slots = [Slot(length=length, capacity=capacity_for(length)) for length in lengths]
        for capacity in {slot.capacity for slot in slots}:
            self._reserve(capacity, sum(slot.capacity == capacity for slot in slots), prefilled)
        for row, slot in enumerate(slots):
            own = self.on_shelf[slot.capacity]
            slot.place = len(own)
            own.append(slot)
            for layer, filled in zip(self.layers, prefilled.layers, strict=True):
                if isinstance(layer, ShelvedLayer):
                    layer.put(slot, (filled.keys, filled.values), row)
        for index, layer in self.recurrent:
            if not _states(prefilled.layers[index]):
                raise CannotCut("a state that the model keeps in its own modules", alone=True)
            _join(layer, prefilled.layers[index])
        self.rows += slots
        return slots

    def _reserve(self, capacity: int, further: int, prefilled: Cache | None = None) -> None:
        own = self.on_shelf.setdefault(capacity, [])
        rows = self._with_spare(capacity, len(own) + further) if own else further
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, ShelvedLayer):
                continue
            held = layer.shelves.get(capacity)
            if held is not None and len(held[0]) >= len(own) + further:
                continue
            like = next(iter(layer.shelves.values()), None)
            if like is None and prefilled is not None:
                filled = prefilled.layers[index]
                like = (filled.keys, filled.values)
            layer.reserve(capacity, rows, len(own), like)

    def _with_spare(self, capacity: int, rows: int) -> int:
        """A number of rows a little larger than needed, where memory allows, so that a shelf is not copied for each new
        row."""
        more = int(rows * SPARE)
        held = next((len(layer.shelves[capacity][0]) for layer in self.attention if capacity in layer.shelves), 0)
        fits = self.bytes_held + self.bytes_for([capacity] * (more - held)) <= self.memory
        return more if fits else rows

    def remove(self, slots: Sequence[Slot]) -> None:
        """Take rows out; the last row of a shelf fills the gap."""
        gone = {id(slot) for slot in slots}
        keep = [index for index, row in enumerate(self.rows) if id(row) not in gone]
        for slot in slots:
            self._take_off(slot)
        self.rows = [self.rows[index] for index in keep]
        for _, layer in self.recurrent:
            _select(layer, keep)

    def shorten(self, slot: Slot, length: int) -> bool:
        """Forget a row's positions from `length` on. Returns False where a layer no longer holds the positions before:
        its window has moved on, or it keeps one state only."""
        windows = [layer.window for layer in self.attention if layer.window]
        if length < slot.length and (self.keeps_states or slot.length > min(windows, default=slot.length)):
            return False
        slot.length = length
        return True

    def _take_off(self, slot: Slot) -> None:
        own = self.on_shelf[slot.capacity]
        last = own.pop()
        if last is not slot:
            for layer in self.attention:
                layer.move((slot.capacity, last.place), (slot.capacity, slot.place), last.length)
            last.place, own[slot.place] = slot.place, last
        if not own:
            del self.on_shelf[slot.capacity]
            for layer in self.attention:
                layer.shelves.pop(slot.capacity)

    @property
    def full(self) -> list[Slot]:
        """Rows whose next token does not fit onto their shelf."""
        return [row for row in self.rows if row.length >= row.capacity]

    def move_up(self) -> None:
        """Move every full row to the next shelf."""
        full = self.full
        for capacity in sorted({slot.capacity for slot in full}):
            self._move(capacity, [slot for slot in full if slot.length == capacity])

    def _move(self, capacity: int, slots: Sequence[Slot]) -> None:
        self._reserve(capacity * 2, len(slots))
        own = self.on_shelf[capacity * 2]
        for slot in slots:
            for layer in self.attention:
                layer.move((capacity, slot.place), (capacity * 2, len(own)), slot.length)
            self._take_off(slot)
            slot.capacity, slot.place = capacity * 2, len(own)
            own.append(slot)

    def begin(self) -> Tensor:
        """Plan the next step. Returns the positions of the new tokens, in the batch's order."""
        self.step, self.updates = Step(self.on_shelf, self.rows), 0
        return torch.tensor([row.length for row in self.rows])

    def advance(self) -> None:
        for row in self.rows:
            row.length += 1


def _pattern(model: PreTrainedModel) -> list[Any]:
    """Hugging Face's own cache layers for this model; raises `CannotCut` where one is of an unknown kind."""
    layers = DynamicCache(config=model.config).layers
    known = {DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer}
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    for layer in layers:
        is_hybrid = isinstance(layer, LinearAttentionLayer) and isinstance(layer, DynamicLayer)
        keeps = isinstance(layer, (CacheLayerMixin, LinearAttentionCacheLayerMixin))
        if keeps and not is_hybrid and type(layer) not in known:
            raise CannotCut(type(layer).__name__)
    if not layers or "chunked_attention" in types:
        raise CannotCut("chunked attention" if layers else "no layers")
    return layers


def _states(layer: LinearAttentionLayer) -> list[tuple[dict[int, Any], int]]:
    return [
        (states, index)
        for states in (layer.conv_states, layer.recurrent_states)
        for index in states
        if states[index] is not None
    ]


def _join(layer: LinearAttentionLayer, other: LinearAttentionLayer) -> None:
    """Append the states of `other`'s rows to those of `layer`."""
    if not any(layer.has_previous_state.values()):
        for name in (
            "conv_states",
            "recurrent_states",
            "is_conv_states_initialized",
            "is_recurrent_states_initialized",
        ):
            setattr(layer, name, dict(getattr(other, name)))
        layer.has_previous_state, layer.conv_kernel_size = dict(other.has_previous_state), dict(other.conv_kernel_size)
        layer.device, layer.dtype = other.device, other.dtype
        return
    for (mine, index), (theirs, _) in zip(_states(layer), _states(other), strict=True):
        mine[index] = torch.cat([mine[index], theirs[index]])


def _select(layer: LinearAttentionLayer, keep: list[int]) -> None:
    for states, index in _states(layer):
        states[index] = states[index][torch.tensor(keep, dtype=torch.long, device=states[index].device)]
