"""Whether encoding with a stranger's tokenizer ends.

A `tokenizer.json` may hold patterns and replacements. They run inside a compiled library, which no signal can
interrupt: a pattern that backtracks without end, or replacements that double a text thirty times over, block the
program for good. So a file that holds any is first tried in a process of its own (`read_tokenizer`), which encodes
32,000 characters and is stopped after `SECONDS`. That takes a few tenths of a second, once for each file: the hash of
a file that passed is kept in the cache folder.

A pattern that backtracks without end on other texts only is not found.
"""

import hashlib
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from mechdrift.errors import MechdriftError
from mechdrift.pairs.embedded import cache_folder

SECONDS = 60.0
READER = Path(__file__).with_name("read_tokenizer.py")
PROGRAMS = (b'"Regex"', b'"Replace"', b'"Precompiled"')  # parts of a file that may run without end
KEPT = "tokenizers-that-end.txt"


def check_ends(name: str, file: Path) -> None:
    """Raise where encoding with the tokenizer.json of the model `name` does not end, or crashes the process."""
    content = file.read_bytes()
    if any(program in content for program in PROGRAMS):
        _check_once(name, file, hashlib.sha256(content).hexdigest())


@cache
def _check_once(name: str, file: Path, digest: str) -> None:
    kept = cache_folder() / KEPT
    with suppress(OSError):
        if digest in kept.read_text(encoding="ascii").split():
            return
    try:
        code = subprocess.run([sys.executable, READER, file], capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired as error:
        raise MechdriftError(
            f"the tokenizer of {name} does not end within {SECONDS:g} seconds: use it from another source."
        ) from error
    if code not in (0, 1):  # 1 is a Python exception, which the library will raise in this process, too
        raise MechdriftError(
            f"the tokenizer of {name} crashes the program that reads it (exit code {code}): use it from another source."
        )
    with suppress(OSError):  # a hash that cannot be kept costs only another check
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.open("a", encoding="ascii") as lines:
            lines.write(f"{digest}\n")
