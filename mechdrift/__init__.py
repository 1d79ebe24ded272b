"""mechdrift: what a reasoning conversion did to a language model's alignment, and where inside it happened.

The public names, in the order of the data flow. See `mechdrift audit --help` for the command line.
"""

import mechdrift.errors  # isort: skip  # noqa: F401 - first, because what follows takes a moment

from typing import Any

import lazy_loader

from mechdrift.errors import warn_renamed

RENAMED: dict[str, str] = {}
"""Public names that were given up, and what replaced them: they still work, and say so."""

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        warn_renamed(f"mechdrift.{name}", f"mechdrift.{RENAMED[name]}")
        name = RENAMED[name]
    return _load(name)
