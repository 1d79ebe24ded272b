"""A key-value cache for continuous batching: rows of different lengths, added and taken out one by one.

Hugging Face's caches hold one padded block per layer, which every step copies to make room for one more token, and from
which rows can leave but none can join. Here, rows stand on *shelves*. A shelf has a capacity (128, 256, 512 … tokens)
and holds the rows that fit, each from its slot's first position on; a row that outgrows its shelf moves to the next, so
that a token is copied once per doubling. Rows of a shelf attend together, in one call of the model's own attention
function, over no more positions than the longest of them has.

    layer with full attention    all positions
    layer with a sliding window  the last W: position p lies at p mod W. Keys carry their positions already, and softmax
                                 does not care for order, so that the ring needs no turning
    recurrent or convolution     one state a row, in Hugging Face's own layer; rows are selected and joined

The step is the same for all layers, so the places are computed once (`Step`) and not once a layer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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

SMALLEST_SHELF = 128
SPARE = 1.25  # how much larger than needed a shelf is made when it needs more rows


class CannotCut(Exception):
    """This architecture keeps something that cannot be taken apart by rows."""


@dataclass(eq=False)
class Slot:
    """Where one row's keys and values are: `length` positions are filled."""

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
    """Where keys and values go in one decoding step, per device and per window; computed at the first layer that needs
    it."""

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
        """The group's rows of the batch; None where they are all of them, in order."""
        if len(self.groups) == 1 and self.back is None:
            return None
        return self.once(("index", group.capacity, device), lambda: group.index.to(device))

    def order(self, device: torch.device) -> Tensor | None:
        """Where each row of the batch is in the groups' outputs, one after the other; None where they are in order."""
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


class ShelvedLayer(CacheLayerMixin):
    """One layer's keys and values: per shelf capacity a pair of tensors `[slot, head, position, d_head]`."""

    is_sliding = False

    def __init__(self, cache: "ShelvedCache", window: int | None):
        super().__init__()
        self.cache, self.window = cache, window
        self.shelves: dict[int, tuple[Tensor, Tensor]] = {}
        self.bytes_per_position = 0  # known once something was put in

    def width(self, capacity: int) -> int:
        """How many positions a slot of this shelf has in this layer."""
        return min(capacity, self.window or capacity)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put the new token's keys and values at their places. Attention takes the rest from here: `attend`."""
        step, device = self.cache.step, key_states.device
        for group in step.groups:
            index, width = step.index(group, device), self.width(group.capacity)
            for kept, new in zip(self.shelves[group.capacity], (key_states, value_states), strict=True):
                own = new if index is None else new.index_select(0, index)
                places = step.target(group, width, new.shape[1], device)
                kept.view(-1, kept.shape[-1]).index_copy_(0, places, own.reshape(-1, own.shape[-1]).to(kept.dtype))
        self.cache.updated, self.cache.updates = self, self.cache.updates + 1
        return key_states, value_states

    def attend(self, own: Callable[..., Any], module: Any, query: Tensor, **arguments: Any) -> Tensor:
        """The model's own attention function, once per shelf; the rows in the batch's order again."""
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
        # zeros: what is masked is still multiplied
        keys, values = (old.new_zeros(rows, old.shape[1], width, old.shape[-1]) for old in pattern)
        if held is not None:
            keys[:used], values[:used] = held[0][:used], held[1][:used]
        self.shelves[capacity] = (keys, values)
        self.bytes_per_position = sum(kept.shape[1] * kept.shape[-1] * kept.element_size() for kept in pattern)

    def put(self, slot: Slot, states: tuple[Tensor, Tensor], row: int) -> None:
        """Copy one prefilled row's keys and values, `[row, head, position, d_head]`, into its slot: the last
        ones, since prompts are padded on the left."""
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


class ShelvedHybridLayer(LinearAttentionLayer, ShelvedLayer):
    """A layer with both attention and a recurrent state (Falcon-H1)."""

    is_compileable = False

    def __init__(self, cache: "ShelvedCache", window: int | None, number_of_states: int):
        ShelvedLayer.__init__(self, cache, window)
        LinearAttentionLayer.__init__(self, number_of_states=number_of_states)


class PrefillLayer(DynamicLayer):
    """Keeps every position of the prompts, also where the layer has a window: rows are cut out at their own ends."""

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


class ShelvedCache(Cache):
    """All layers of a model; see the module. `layers` that keep nothing stay Hugging Face's own."""

    def __init__(self, model: PreTrainedModel, memory: int):
        """`memory`: bytes that spare places do not exceed."""
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
        """An empty cache of the same layers for a pass over prompts."""
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
        """What further rows of these capacities take; 0 before the first row is there."""
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
        """Some more rows than are needed, so that a shelf is not copied for each new one; where memory has room."""
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
        """Forget a row's positions from `length` on; False where a layer then lacks what stands before: its window has
        moved on, or it keeps one state only."""
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
        """Make the next step's plan; the positions of the new tokens, in the batch's order."""
        self.step, self.updates = Step(self.on_shelf, self.rows), 0
        return torch.tensor([row.length for row in self.rows])

    def advance(self) -> None:
        for row in self.rows:
            row.length += 1


def _pattern(model: PreTrainedModel) -> list[Any]:
    """Hugging Face's own layers for this model; raises `CannotCut` where one is of a kind that is not known here."""
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
    """Put the states of `other`'s rows behind those of `layer`'s."""
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
