"""mechdrift: what a reasoning conversion did to a language model's alignment, and where inside it happened.

The public names, in the order of the data flow. See `mechdrift audit --help` for the command line.
"""

import mechdrift.errors  # isort: skip  # noqa: F401 - first, so that Ctrl-C during the imports below is one sentence

from typing import Any

import lazy_loader

from mechdrift.errors import warn_renamed

RENAMED: dict[str, str] = {}
"""Old public names and what replaced them. They still work, with a warning."""

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        warn_renamed(f"mechdrift.{name}", f"mechdrift.{RENAMED[name]}")
        name = RENAMED[name]
    return _load(name)
