"""What a backend has to do: it gets token ids, and returns ids, their log-probabilities and why the model stopped.

    queue of Request  ->  Generator.write  ->  (Request, Written), each as soon as it is finished

A backend takes requests from the left of the queue while it has room for more, and ends when the queue is empty and
nothing is being written. The caller may put further requests into the queue between two results: an answer is requested
as soon as its thinking is finished, while other rows still think. A backend does not know what is thinking and what is
answer, which markers close a block, or what is asked after a cut; these are the same on every engine.

Sampling is seeded per request, so that a draw does not depend on what else is in the batch.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Finish = Literal["end", "stop", "length"]
"""`end`: the model ended its turn; `stop`: it wrote the ids at which it had to stop; `length`: its budget ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a backend is asked to continue: `prompt` ids, at most `max_tokens` further ones.

    It ends after one of `ends`, or after the ids `stop` in a row. Temperature 0 is greedy; above, tokens are drawn from
    the full distribution with random numbers of `seed`. `key` belongs to the caller, and comes back with the result.
    `continues` is the request with whose prompt and text this prompt begins, up to a few ids: a backend that kept what
    it read there need not read it again. `shared` is the number of the prompt's first ids with which a neighbour in the
    queue begins, too, where that is worth keeping (such as puzzles before a request, the same for all).
    """

    key: Hashable
    prompt: tuple[int, ...]
    max_tokens: int
    ends: frozenset[int]
    stop: tuple[int, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    continues: "Request | None" = None
    shared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The result of a request. `ids` include the end token or the stop ids that ended it.

    `log_probabilities` are those of the chosen tokens, one per id, at temperature 1, in nats; NaN where an engine gives
    none.
    """

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    finish: Finish


@runtime_checkable
class Generator(Protocol):
    """A backend. `name` says what wrote: engine, version and number format."""

    @property
    def name(self) -> str: ...

    def write(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        """Yield each request of the queue with what was written, in the order in which they finish."""
        ...


def finish_of(request: Request, ids: "list[int] | tuple[int, ...]") -> Finish | None:
    """Why a row that has written `ids` is finished; None where it is not."""
    if ids and ids[-1] in request.ends:
        return "end"
    if request.stop and tuple(ids[-len(request.stop) :]) == request.stop:
        return "stop"
    return "length" if len(ids) >= request.max_tokens else None
