"""Read a tokenizer.json and encode texts with it that send a bad pattern astray; started by `foreign_tokenizers` in a
process of its own, because nothing stops such a search from within. It imports `tokenizers` alone.

The texts are runs of one kind of character, each with an end that does not fit: what a search that goes back takes
longest for.
"""

import sys
from contextlib import suppress

LENGTH = 2_000  # characters of a text
MEMORY = 8 << 30  # bytes of addresses
RUNS = ("a", "A", "1", " ", "\n", "\t", "!", "'", "_", "é", "字", "a1", "a ", "a.", " \n", "\r\n")


def main(file: str) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits, and some systems allow none
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    for run in RUNS:
        tokenizer.encode(run * (LENGTH // len(run)) + "\x01")


if __name__ == "__main__":
    main(sys.argv[1])
