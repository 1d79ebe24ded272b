"""`main`: run a command, and turn what goes wrong into one sentence on standard error and an exit code.

0    done
1    something that the user can put right; `--debug` shows the traceback
2    `gate`: fail; `run`: some cells failed
3    `gate`: cannot tell
130  Ctrl-C, and 143 SIGTERM: what was finished stays, and the same command goes on from there
"""

import os
import sys
from typing import NoReturn

from cyclopts import CycloptsError

from mechdrift.cli.application import app
from mechdrift.cli.options import DEBUG
from mechdrift.cli.terminal import Terminated, harmless_output, quiet_libraries, stopped_by_sigterm, write_utf8
from mechdrift.errors import MESSAGE, OUT_OF_MEMORY, is_out_of_memory
from mechdrift.records import MechdriftError
from mechdrift.records.foreign import shown


def main() -> None:
    """Run the command that the arguments of this process name."""
    arguments = sys.argv[1:]
    write_utf8()
    try:
        quiet_libraries()
        with harmless_output(), stopped_by_sigterm():
            app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as head, has gone; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt as stop:
        _end(MESSAGE, 143 if isinstance(stop, Terminated) else 130, before="\n")
    except (MechdriftError, CycloptsError, OSError) as error:  # OSError: a disk that is gone, which no check foresees
        if DEBUG in arguments:
            raise
        _end(f"mechdrift: {shown(' '.join(str(error).split()))}", 1)
    except (MemoryError, RuntimeError) as error:
        if DEBUG in arguments or not is_out_of_memory(error):
            raise
        _end(OUT_OF_MEMORY, 1)


def _end(sentence: str, code: int, before: str = "") -> NoReturn:
    print(f"{before}{sentence}", file=sys.stderr)
    sys.exit(code)
