"""Where a long command stands: bars with the time left in a terminal and in a notebook, a line a minute elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tqdm.auto import tqdm

SECONDS_PER_LINE = 60.0


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
        yield lambda steps=1: bar.update(steps)


def tell(line: str) -> None:
    """One line on standard error, with the time of day, about what begins or where it stands."""
    print(f"[{time.strftime('%H:%M')}] {line}", file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return "IPKernelApp" in getattr(shell, "config", {})


@contextmanager
def _lines(description: str, total: int) -> Iterator[Callable[[int], object]]:
    """A thread writes the lines, so that they come although a single step may take an hour."""
    start, done, ended = time.monotonic(), [0], Event()

    def advance(steps: int = 1) -> None:
        done[0] += steps

    def write() -> None:
        while not ended.wait(SECONDS_PER_LINE):
            tell(f"{description}: {done[0]} of {total}{_time_left(time.monotonic() - start, done[0], total)}")

    writer = Thread(target=write, daemon=True)
    writer.start()
    try:
        yield advance
    finally:
        ended.set()
        writer.join()


def _time_left(seconds: float, done: int, total: int) -> str:
    """In words, at the speed so far; nothing before the first step."""
    if not 0 < done < total:
        return ""
    minutes = seconds / done * (total - done) / 60
    return f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
