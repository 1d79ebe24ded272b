"""Ctrl-C while libraries are still being imported, for seconds: one sentence instead of a traceback, for the command alone.

`cli.main` handles Ctrl-C, but runs only after the imports. A program that imports the package keeps Python's own behaviour.
"""

import sys
from pathlib import Path
from types import TracebackType

MESSAGE = "mechdrift: interrupted; what was finished is kept, the same command goes on from there."


def _say_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(f"\n{MESSAGE}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if Path(sys.argv[0]).stem == "mechdrift" and "--debug" not in sys.argv:
    sys.excepthook = _say_in_one_line
