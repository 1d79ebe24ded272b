"""What ends a command early: the one exception that is meant for the user, a time limit for programs of strangers,
memory that runs out, and Ctrl-C while libraries are imported.

`cli.entry.main` handles Ctrl-C once its own imports are done. Before that, this module turns an interrupt into one
sentence instead of a traceback. It does so for the command alone: a program that imports the package keeps Python's
behaviour.
"""

import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType


class MechdriftError(Exception):
    """Something the user can put right: the message is one sentence that says what is wrong and what to do."""


def warn_renamed(old: str, new: str) -> None:
    """Warn that a caller used an old name, and say which name has replaced it."""
    message = f"{old} is now called {new}: the old name will go in a later version."
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def reason(error: BaseException) -> str:
    """A library's message on one short line."""
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" …").rstrip(".")


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise once the block has taken `seconds`. For templates, configurations and patterns: they are programs of
    strangers, which other libraries run.

    The limit is an alarm of the operating system, which also interrupts a regular expression that does not end. There
    is no limit on systems without alarms (Windows) and outside of the main thread.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, partial(_stop, seconds, what))
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest)  # an alarm that was set before goes on
        signal.signal(signal.SIGALRM, before)


def _stop(seconds: float, what: str, *_: object) -> None:
    raise MechdriftError(f"{what} does not come to an end within {seconds:g} seconds: use it from another source.")


OUT_OF_MEMORY = (
    "mechdrift: out of memory; what was finished is kept, and the same command goes on from there: free memory, or "
    "take a smaller --preset, a --dtype of fewer bytes, or another --device."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, PyTorch or its allocator on a device ran out of memory."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told


MESSAGE = "mechdrift: interrupted; what was finished is kept, the same command goes on from there."


def _say_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(f"\n{MESSAGE}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if Path(sys.argv[0]).stem == "mechdrift" and "--debug" not in sys.argv:
    sys.excepthook = _say_in_one_line
