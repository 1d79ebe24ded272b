"""The model in this process, with continuous batching: the default backend.

    admit      prompts are read in batches, padded on the left, and their keys and values are put onto shelves
               (`kv_cache`); the same pass gives each row its first token
    step       every row gets one more token; finished rows leave, and others take their place at once
    continue   an answer continues in the row of its thought: what was read and written there is not read again. The few
               ids between them (the close marker) are read one per step, while other rows write
    share      a prompt that begins like its neighbour in the queue is read only from where they differ: the keys and
               values of the last such prompt are kept
    bound      at most `rows` rows are admitted, and only while their keys and values fit into `memory` bytes. A row
               that no longer fits is set aside with what it has written, and continues later

Only one position per row is ever unembedded, and there is padding only while prompts are read.

Attention is the model's own function, with its own scaling, soft caps and sinks; only its keys and values come from the
shelves. Of the model's saved generation settings, only the ids that end a turn are used, which come with the requests:
the next token is the arg max of the logits, or a draw from their softmax.

Where memory still runs out, the batch is halved, what was written is kept, and a line on standard error says so.
"""

import inspect
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, __version__
from transformers.cache_utils import DynamicLayer

from mechdrift.activations.batching import input_device, pad
from mechdrift.behaviour.backends.kv_cache import CannotCut, ShelvedCache
from mechdrift.behaviour.backends.kv_step import Slot, capacity_for
from mechdrift.behaviour.backends.protocol import Finish, Request, Written, finish_of
from mechdrift.behaviour.backends.sampling import choose
from mechdrift.behaviour.backends.whole_batch import takes_cache, write_whole
from mechdrift.errors import is_out_of_memory
from mechdrift.hooks import replace_attention
from mechdrift.machine import free_memory
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.structure import with_cache
from mechdrift.records import MechdriftError

ROWS_ON_CPU, ROWS_ON_GPU = 64, 256
TOKENS_PER_PREFILL = 2048  # padded tokens of prompts that are read in one pass
LEAST_SHARED = 256  # shared first ids from which on prompts are read one by one, to reuse them
MOST_UNREAD = 64  # ids between a thought and its answer that are read one per step; with more, the prompt is read again
SHARE_OF_FREE_MEMORY = 0.5


@dataclass(eq=False)
class Row:
    """A request under way: what it has written, and where its keys and values are."""

    request: Request
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    slot: Slot | None = None
    randoms: random.Random = field(default_factory=random.Random)

    @property
    def seen(self) -> tuple[int, ...]:
        return (*self.request.prompt, *self.ids)

    @property
    def length(self) -> int:
        return len(self.request.prompt) + len(self.ids)

    def id_at(self, position: int) -> int:
        start = len(self.request.prompt)
        return self.request.prompt[position] if position < start else self.ids[position - start]


@dataclass
class HuggingFace:
    """Writes with a loaded model. `memory` is the bytes for keys and values, by default half of those free on its
    device; `rows` the largest number of rows in a batch."""

    loaded: LanguageModel
    memory: int | None = None
    rows: int | None = None

    @property
    def name(self) -> str:
        return f"transformers {__version__}, {str(self.loaded.model.dtype).removeprefix('torch.')}"

    def batch(self) -> "RunningBatch":
        return RunningBatch(self.loaded, self.memory, self.rows)

    def write(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        if not takes_cache(self.loaded):
            yield from write_whole(self.loaded, queue, 1)
            return
        try:
            yield from self.batch().run(queue)
        except CannotCut as error:
            yield from write_whole(self.loaded, queue, 1 if error.alone else self.rows or ROWS_ON_CPU)


class RunningBatch:
    """What is being written at one time."""

    def __init__(self, loaded: LanguageModel, memory: int | None, rows: int | None):
        self.loaded, self.device = loaded, input_device(loaded)
        self.memory = memory or int(SHARE_OF_FREE_MEMORY * free_memory(self.device))
        self.cache = ShelvedCache(loaded.model, self.memory)
        self.limit = rows or (ROWS_ON_CPU if self.device.type == "cpu" else ROWS_ON_GPU)
        self.running: list[Row] = []
        self.aside: deque[Row] = deque()
        self.finished: deque[tuple[Row, Finish]] = deque()
        self.calls = 0  # of attention, in one step
        self.last_read: tuple[tuple[int, ...], Cache] | None = None  # of prompts that begin alike

    def run(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        while queue or self.aside or self.running:
            for act in (self._admit, self._step):
                self._try(act, queue)
                yield from self._settle(queue)

    def _try(self, act: Callable[[deque[Request]], None], queue: deque[Request]) -> None:
        try:
            act(queue)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._halve(error)
        except CannotCut:
            queue.extendleft(row.request for row in reversed([*self.running, *self.aside]))
            raise

    def _settle(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        """Yields what is finished. A request that continues from there takes over the row."""
        while self.finished:
            row, finish = self.finished.popleft()
            yield (
                row.request,
                Written(ids=tuple(row.ids), log_probabilities=tuple(row.log_probabilities), finish=finish),
            )
            if queue and queue[0].continues is row.request and self._goes_on(row, queue[0]):
                queue.popleft()
            else:
                self._leave([row])

    def _goes_on(self, row: Row, request: Request) -> bool:
        """Let `request` take over the row, with the keys and values of the ids that both share; False where it
        cannot."""
        if row.slot is None:  # set aside, when memory ran out
            return False
        shared = shared_start(row.seen[: row.slot.length], request.prompt[:-1])
        if len(request.prompt) - shared > MOST_UNREAD or not self.cache.shorten(row.slot, shared):
            return False
        self.running[self.running.index(row)] = replace(_begin(request), slot=row.slot)
        return True

    def _admit(self, queue: deque[Request]) -> None:
        """Fill the batch. While others write, free rows wait until there are several, because prompts are read faster
        together."""
        if self.running and self.limit - len(self.running) < max(1, self.limit // 8):
            return
        while group := self._next_group(queue):
            self._prefill(group)

    def _next_group(self, queue: deque[Request]) -> list[Row]:
        """Rows whose prompts are read in one pass: of similar length, or of equal length where a recurrent state would
        read the padding."""
        group: list[Row] = []
        while (self.aside or queue) and len(self.running) + len(group) < self.limit:
            row = self.aside[0] if self.aside else _begin(queue[0])
            if group and (self._shares(row) or self._shares(group[0])):
                break
            capacities = [capacity_for(other.length) for other in (*group, row)]
            widest = max(other.length for other in (*group, row))
            if group and (
                widest * (len(group) + 1) > TOKENS_PER_PREFILL
                or (self.cache.keeps_states and row.length != group[0].length)
            ):
                break
            if (group or self.running) and self.cache.bytes_held + self.cache.bytes_for(capacities) > self.memory:
                break
            (self.aside if self.aside else queue).popleft()
            group.append(row)
        return group

    @torch.inference_mode()
    def _prefill(self, group: list[Row]) -> None:
        """Read the prompts, put their keys and values onto the shelves, and take the first token of each.

        A prompt that is longer than a pass is alone in its group, unpadded, and read in several.
        """
        try:
            batch = pad([row.seen for row in group], self.loaded.tokenizer.pad_token_id or 0, "left")
            filled, known = self._read_before(group[0])
            mask = batch.mask if any(batch.offsets) else None
            step = batch.ids.shape[1] if self.cache.keeps_states else TOKENS_PER_PREFILL
            unread = (batch.ids[:, known:], batch.positions[:, known:])
            *parts, last = zip(*(part.split(step, dim=1) for part in unread), strict=True)
            for part in parts:
                self._forward(self.loaded.decoder, *part, filled)
            logits = self._forward(self.loaded.model, *last, filled, mask).logits[:, -1]
            if self._shares(group[0]):
                self.last_read = (group[0].seen, filled)
            slots = self.cache.add([row.length for row in group], filled)
        except BaseException:
            self.aside.extendleft(reversed(group))
            raise
        for row, slot in zip(group, slots, strict=True):
            row.slot = slot
        self.running += group
        self._take(group, logits.float())

    def _shares(self, row: Row) -> bool:
        """Whether a row is read alone, to share the keys and values of its prompt's first ids."""
        return row.request.shared >= LEAST_SHARED and not self.cache.keeps_states

    def _read_before(self, row: Row) -> tuple[Cache, int]:
        """A cache for reading a prompt, filled with what it shares with the last one, and the number of these ids."""
        filled = self.cache.prefill_cache()
        if self.last_read is None or not self._shares(row):
            return filled, 0
        ids, kept = self.last_read
        known = shared_start(ids, row.seen[:-1])
        if known:
            for layer, before in zip(filled.layers, kept.layers, strict=True):
                if isinstance(before, DynamicLayer) and before.keys is not None and before.values is not None:
                    layer.update(before.keys[:, :, :known], before.values[:, :, :known])
        return filled, known

    def _forward(self, module: Any, ids: Tensor, positions: Tensor, cache: Cache, mask: Tensor | None = None) -> Any:
        accepted = inspect.signature(module.forward).parameters
        arguments = with_cache(module, cache)
        if "position_ids" in accepted:
            arguments["position_ids"] = positions.to(self.device)
        if "logits_to_keep" in accepted:
            # An index, because for a slice torch on a CPU makes one product per row, each with a copy of the weights.
            arguments["logits_to_keep"] = torch.tensor([ids.shape[1] - 1])
        if mask is not None:
            arguments["attention_mask"] = mask.to(self.device)
        return module(input_ids=ids.to(self.device), **arguments)

    @torch.inference_mode()
    def _step(self, _: deque[Request]) -> None:
        """One more id for every row: the next one that it has not read yet, or else a new one."""
        if not self.running:
            return
        self._make_room()
        positions = self.cache.begin()
        read = [[row.id_at(position)] for row, position in zip(self.running, positions.tolist(), strict=True)]
        self.calls = 0
        with replace_attention(self.loaded.model, self._attend):
            logits = self._forward(self.loaded.model, torch.tensor(read), positions[:, None], self.cache).logits
        if self.calls != self.cache.updates:
            raise CannotCut("attention that does not go through transformers' interface")
        self.cache.advance()
        write = [index for index, row in enumerate(self.running) if positions[index] + 1 == row.length]
        if write:
            logits = rearrange(logits, "row 1 vocab -> row vocab")
            self._take([self.running[index] for index in write], logits[write].float())

    def _attend(self, own: Any, module: Any, query: Tensor, key: Any, value: Any, mask: Any, **arguments: Any):
        """Replaces the model's attention function: attends over each row's cached positions, and counts the calls.
        Raises where attention reads something else than was cached, such as keys that were made from latents."""
        self.calls += 1
        if not self.cache.updated.holds(key, value):
            raise CannotCut("keys or values that the model changes after its cache")
        return self.cache.updated.attend(own, module, query, **arguments), None

    def _take(self, rows: Sequence[Row], logits: Float[Tensor, "row vocab"]) -> None:
        temperatures = [row.request.temperature for row in rows]
        randoms = [row.randoms for row in rows]
        chosen, log_probabilities = choose(logits, temperatures, randoms, self.loaded.source.name)
        for row, token, value in zip(rows, chosen, log_probabilities, strict=True):
            row.ids.append(token)
            row.log_probabilities.append(value)
            if (finish := finish_of(row.request, row.ids)) is not None:
                self.finished.append((row, finish))

    @torch.inference_mode()
    def _leave(self, rows: Sequence[Row]) -> None:
        if rows:
            self.cache.remove([row.slot for row in rows if row.slot is not None])
            self.running = [row for row in self.running if row not in rows]
            for row in rows:
                row.slot = None

    def _make_room(self) -> None:
        """Move rows that outgrow their shelves to larger ones. While that needs more memory than there is, set the
        shortest row aside."""
        while len(self.running) > 1:
            further = self.cache.bytes_for([slot.capacity * 2 for slot in self.cache.full])
            if not further or self.cache.bytes_held + further <= self.memory:
                break
            shortest = min(self.running, key=lambda row: row.length)
            self._leave([shortest])
            self.aside.append(shortest)
        self.cache.move_up()

    def _halve(self, error: RuntimeError) -> None:
        """After running out of memory, set everything aside and continue with half as many rows."""
        finished = [row for row, _ in self.finished]
        rows = [row for row in (*self.running, *self.aside) if row not in finished]
        tried = len(self.running) or min(self.limit, len(rows))
        if tried == 1:
            raise MechdriftError(
                f"the memory of {self.device} does not hold one row of {max(row.length for row in rows)} tokens: "
                "lower the budgets, use a smaller number format, or a larger device."
            ) from error
        for row in (*rows, *finished):
            row.slot = None
        self.limit, self.running, self.aside = tried // 2, [], deque(rows)
        self.memory = min(self.memory, max(self.cache.bytes_held // 2, 1))
        self.cache, self.last_read = ShelvedCache(self.loaded.model, self.memory), None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        print(f"mechdrift: out of memory with {tried} rows; going on with {self.limit}.", file=sys.stderr)


def _begin(request: Request) -> Row:
    return Row(request=request, randoms=random.Random(request.seed))


def shared_start(first: Sequence[int], second: Sequence[int]) -> int:
    """The number of first ids that two sequences share."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
