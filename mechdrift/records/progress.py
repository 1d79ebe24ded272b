"""Where a long command stands: bars with the time left in a terminal and in a notebook, one line per minute elsewhere.

A command of several stages says how much work each of them is, in any unit (`whole`). Bars and lines then also show the
time left of the whole command:

    left = rate · work left,   rate = (seconds of finished stages + s) / (work of finished stages + s)

where s is a tenth of all work, used as seconds and as units: until that much is done, one unit counts as about one
second. The time since the running stage began is subtracted, but not below the time that the stage's own bar shows.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Thread
from typing import Any

from tqdm.auto import tqdm

SECONDS_PER_LINE = 60.0


@dataclass
class Whole:
    """A command of several stages: the work of each, the seconds of the finished ones, and the stage that runs."""

    work: Mapping[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = ""
    begun: float = 0.0

    def begin(self, stage: str) -> None:
        self.stage, self.begun = stage, time.monotonic()

    def end(self) -> float:
        """Seconds that the stage took."""
        seconds = self.seconds[self.stage] = time.monotonic() - self.begun
        self.stage = ""
        return seconds

    def left(self, least: float = 0.0) -> float:
        """Seconds until the end; `least` is what the running stage takes at the least."""
        prior = sum(self.work.values()) / 10
        rate = (sum(self.seconds.values()) + prior) / (sum(self.work.get(name, 0.0) for name in self.seconds) + prior)
        later = [name for name in self.work if name not in self.seconds and name != self.stage]
        own = rate * self.work.get(self.stage, 0.0) - (time.monotonic() - self.begun)
        return rate * sum(self.work[name] for name in later) + max(own if self.stage else 0.0, least)


_running: list[Whole] = []


@contextmanager
def whole(work: Mapping[str, float]) -> Iterator[Whole]:
    """Inside the block, bars and lines also show the time left of all stages. Yields the record that is to be told when
    each stage begins and ends."""
    _running.append(Whole(work))
    try:
        yield _running[-1]
    finally:
        _running.pop()


def all_left(least: float = 0.0) -> str:
    """In words, the time left of the whole command; empty where it has no stages, or none was begun."""
    return f", in all {_minutes(_running[-1].left(least))}" if _running and _running[-1].work else ""


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yield a function that moves on by one step, or by as many as it is given.

    A bar on standard error shows it, or a notebook's own. Where standard error is neither, such as in the log of a
    scheduler, a line is written there every minute.
    """
    if not in_notebook() and not sys.stderr.isatty():
        with _lines(description, total) as advance:
            yield advance
        return
    with tqdm(total=total, desc=description, leave=False, smoothing=0.1, dynamic_ncols=True) as bar:
        yield partial(_move, bar)


def _move(bar: Any, steps: int = 1) -> None:
    bar.set_postfix_str(
        all_left(_seconds_left(bar.format_dict["elapsed"], bar.n + steps, bar.total)).lstrip(", "), False
    )
    bar.update(steps)


def tell(line: str) -> None:
    """Print one line on standard error, with the time of day."""
    print(f"[{time.strftime('%H:%M')}] {line}", file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return "IPKernelApp" in getattr(shell, "config", {})


@contextmanager
def _lines(description: str, total: int) -> Iterator[Callable[[int], object]]:
    """Lines from a thread of their own, so that they come even while a single step takes an hour."""
    start, done, ended = time.monotonic(), [0], Event()

    def advance(steps: int = 1) -> None:
        done[0] += steps

    def write() -> None:
        while not ended.wait(SECONDS_PER_LINE):
            left = _seconds_left(time.monotonic() - start, done[0], total)
            own = f", {_minutes(left)}" if left else ""
            tell(f"{description}: {done[0]} of {total}{own}{all_left(left)}")

    writer = Thread(target=write, daemon=True)
    writer.start()
    try:
        yield advance
    finally:
        ended.set()
        writer.join()


def _seconds_left(seconds: float, done: int, total: int) -> float:
    """At the speed so far; 0 before the first step."""
    return seconds / done * (total - done) if 0 < done < total else 0.0


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes >= 1 else "less than a minute left"
