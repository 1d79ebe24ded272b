"""What ends a command early: the one exception that is meant for the user, and Ctrl-C while libraries are imported.

`cli.main` handles Ctrl-C, but only once its own imports are done. For the command alone (a program that imports the
package keeps Python's behaviour) an interrupt before that is one sentence, too, instead of a traceback.
"""

import sys
from pathlib import Path
from types import TracebackType


class MechdriftError(Exception):
    """Something the user can put right: the message is one sentence that says what is wrong and what to do."""


MESSAGE = "mechdrift: interrupted; what was finished is kept, the same command goes on from there."


def _say_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(f"\n{MESSAGE}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if Path(sys.argv[0]).stem == "mechdrift" and "--debug" not in sys.argv:
    sys.excepthook = _say_in_one_line
