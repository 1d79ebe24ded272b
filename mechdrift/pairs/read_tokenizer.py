"""A program that reads a tokenizer.json and encodes texts on which a bad pattern backtracks for longest.

`foreign_tokenizers` starts it in a process of its own, because such a search cannot be interrupted from within. It
imports nothing but `tokenizers`. Each text is a run of one kind of character with an end that does not match.
"""

import sys
from contextlib import suppress

LENGTH = 2_000  # characters of a text
MEMORY = 8 << 30  # bytes of addresses
RUNS = ("a", "A", "1", " ", "\n", "\t", "!", "'", "_", "é", "字", "a1", "a ", "a.", " \n", "\r\n")


def main(file: str) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit, and some systems forbid it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    for run in RUNS:
        tokenizer.encode(run * (LENGTH // len(run)) + "\x01")


if __name__ == "__main__":
    main(sys.argv[1])
