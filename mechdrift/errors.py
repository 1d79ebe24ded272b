"""What ends a command early: the one exception that is meant for the user, a stranger's program that does not end, and
Ctrl-C while libraries are imported.

`cli.main` handles Ctrl-C, but only once its own imports are done. For the command alone (a program that imports the
package keeps Python's behaviour) an interrupt before that is one sentence, too, instead of a traceback.
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
    """Say that a caller used a name that was given up, and which one took its place."""
    message = f"{old} is now called {new}: the old name will go in a later version."
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def reason(error: BaseException) -> str:
    """A library's message on one short line."""
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" …").rstrip(".")


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise once the block has taken `seconds`: for templates, configurations and patterns, which are programs of
    strangers that other libraries run.

    By the alarm of the operating system, which also stops a search that a pattern has sent astray. Systems without one
    (Windows) and threads beside the main one have no limit.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, partial(_stop, seconds, what))
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest)  # whoever else had set the alarm keeps it
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
