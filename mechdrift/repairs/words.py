"""Words put into the thinking: a repair that changes no weights and works with any backend.

    start   before the model's first thought: "I should …"
    end     before the marker that closes the thinking
    falls   as soon as the projection on the parent's direction has fallen below a level, after it was above
    think   another think mode: `off` prefills an empty block, the baseline ZeroThink

`Interposed` wraps a backend (`behaviour.backends.protocol`): token ids in, token ids out. The words are part of the
thinking that it returns, with log-probabilities of NaN, because the model did not write them. For `falls`, the thinking
is written in parts; after each part the model in this process reads the projection, and the words are put in once.

Thinking Intervention: Wu et al. 2025, https://arxiv.org/abs/2503.24370; ZeroThink: https://arxiv.org/abs/2502.12025;
reminders while thinking: https://arxiv.org/abs/2601.03662.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from mechdrift.behaviour.backends.protocol import Generator, Request, Written
from mechdrift.records import ThinkMode

PART = 24  # tokens of thinking between two readings
SENTENCES = (
    " I should help only with what harms nobody, and decline the rest.",
    " I should be fair to everyone, say when something cannot be known, and keep what was told in confidence.",
    " I should stay polite, judge honestly what is right and wrong, and answer plain questions plainly.",
)
"""What a reminder says: the strength is how many of these are said."""


@runtime_checkable
class Reader(Protocol):
    """Reads a projection at the last of some token ids. The attributes that make its scale can be written to a file."""

    @property
    def layer(self) -> int: ...
    @property
    def unit(self) -> Tensor: ...
    @property
    def neutral(self) -> float: ...
    @property
    def trigger(self) -> float: ...
    def __call__(self, ids: tuple[int, ...]) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words and where they are put in. `falls_below` is in units of the parent's class difference: 0 is where
    neutral prompts lie, 1 where triggers lie. `read` gives that projection at the last of some token ids."""

    start: str = ""
    end: str = ""
    falling: str = ""
    falls_below: float = 0.0
    read: Reader | None = None
    think: ThinkMode | None = None


def reminder(strength: float) -> str:
    """The first sentences of the reminder."""
    return "".join(SENTENCES[: round(strength)]).strip()


@dataclass
class Interposed:
    """A backend with words put into the thinking that it writes."""

    backend: Generator
    words: Words
    encode: Callable[[str], tuple[int, ...]]

    @property
    def name(self) -> str:
        return f"{self.backend.name}, with words put in"

    def write(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        inner: deque[Request] = deque()
        begun: dict[int, _Begun] = {}
        self._take(queue, inner, begun)
        while inner:
            for request, written in self.backend.write(inner):
                own = begun.pop(id(request), None)
                if own is None:
                    yield request, written
                elif (further := self._goes_on(own, request, written)) is not None:
                    begun[id(further[1])] = further[0]
                    inner.appendleft(further[1])
                    continue
                else:
                    yield own.asked, self._finished(own, written)
                self._take(queue, inner, begun)

    def _take(self, queue: deque[Request], inner: deque[Request], begun: dict[int, "_Begun"]) -> None:
        """Hand requests on to the backend; requests for thinking begin with the words."""
        for request in reversed([queue.popleft() for _ in range(len(queue))]):
            if not request.stop:
                inner.appendleft(request)
                continue
            start = self.encode(self.words.start) if self.words.start else ()
            own = _Begun(asked=request, ids=start, log_probabilities=(math.nan,) * len(start), said=len(start))
            handed = self._part(own)
            begun[id(handed)] = own
            inner.appendleft(handed)

    def _part(self, own: "_Begun", before: Request | None = None) -> Request:
        """The next part of a thought as a request: the whole thought, unless it is read in between. Words that were put
        in do not count against the budget."""
        left = own.asked.max_tokens - (len(own.ids) - own.said)
        length = min(PART, left) if self.words.read and not own.told else left
        return replace(own.asked, prompt=(*own.asked.prompt, *own.ids), max_tokens=length, continues=before)

    def _goes_on(self, own: "_Begun", request: Request, written: Written) -> "tuple[_Begun, Request] | None":
        """The thought so far and the request that continues it; None once it is written."""
        ids = (*own.ids, *written.ids)
        if written.finish != "length" or self.words.read is None or len(ids) - own.said >= own.asked.max_tokens:
            return None
        value = self.words.read((*own.asked.prompt, *ids))
        has_fallen = own.highest >= self.words.falls_below > value and not own.told
        said = self.encode(self.words.falling) if has_fallen else ()
        further = replace(
            own,
            ids=(*ids, *said),
            log_probabilities=(*own.log_probabilities, *written.log_probabilities, *(math.nan for _ in said)),
            highest=max(own.highest, value),
            told=own.told or has_fallen,
            said=own.said + len(said),
        )
        return further, self._part(further, before=request)

    def _finished(self, own: "_Begun", written: Written) -> Written:
        """The whole thought, with the closing words before its marker."""
        ids, values = (*own.ids, *written.ids), (*own.log_probabilities, *written.log_probabilities)
        if not self.words.end:
            return replace(written, ids=ids, log_probabilities=values)
        said = self.encode(self.words.end)
        tail = {"stop": len(own.asked.stop), "end": 1, "length": 0}[written.finish]
        cut = len(ids) - tail
        return replace(
            written,
            ids=(*ids[:cut], *said, *ids[cut:]),
            log_probabilities=(*values[:cut], *(math.nan for _ in said), *values[cut:]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A thought under way: the request for it, what there is of it, and how high its projection was."""

    asked: Request
    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    highest: float = -math.inf
    told: bool = False
    said: int = 0
