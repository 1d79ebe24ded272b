"""The terminal: it is sent no control codes of foreign text and no chatter of libraries. SIGTERM ends a command.

Names and texts of models, judges and files are printed without what a terminal would obey (`records.foreign.shown`).
"""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mechdrift.machine import processor_quota
from mechdrift.records.foreign import shown


class Harmless:
    """A stream that shows what it is given, and obeys none of it."""

    def __init__(self, stream: Any) -> None:
        self.own = stream

    def write(self, text: str) -> int:
        self.own.write(shown(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


@contextmanager
def harmless_output() -> Iterator[None]:
    """Send standard output through `shown`. Standard error is not: progress bars move the cursor there, and each of its
    texts is made harmless by itself."""
    stream = sys.stdout
    sys.stdout = Harmless(stream)
    try:
        yield
    finally:
        sys.stdout = stream


def own_output() -> Any:
    """Standard output as it is, for text that is harmless already and has colours of our own."""
    return sys.stdout.own if isinstance(sys.stdout, Harmless) else sys.stdout


def write_utf8() -> None:
    """Write UTF-8 to pipes, too, whose encoding may know no minus sign."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where somebody put another stream in its place
            stream.reconfigure(encoding="utf-8")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Inside the block, SIGTERM raises `Terminated`. Python allows signal handlers in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> None:
    raise Terminated


def quiet_libraries() -> None:
    """Keep the libraries' own chatter off the terminal; a user of mechdrift can do nothing about it.

    transformers and torch read their variables when they are imported, which only commands that load a model do.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else torch's threads spin at every barrier
    if (quota := processor_quota()) is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(quota))  # torch counts the processors of the whole machine
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", ".* is now called ", DeprecationWarning)  # `errors.warn_renamed` is for the user
    warnings.formatwarning = _one_line
    logging.getLogger("transformers").setLevel(logging.ERROR)


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"mechdrift: {message}\n"
