"""What the tests of an answer's coherence share: words, code, formulas, English, and the fitted weights.

Code, with or without a fence, has an order of its own, and so do formulas in LaTeX: most tests leave them out. The
weights (`coherence_weights.npz`) are hashed and hold no text: log-odds of neighbours, a bit per known word, and the
probability of each letter after two others.
"""

import re
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

WEIGHTS = Path(__file__).with_name("coherence_weights.npz")
ORDER_BUCKETS = 2**18
WORD_BUCKETS = 2**17
LETTER_STEP = 1 / 8  # bits: the letters' log2 probabilities are stored as multiples of it
LETTERS = " abcdefghijklmnopqrstuvwxyz"  # the space stands for a word's edges
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
ASCII_WORD = re.compile(r"(?<![^\W_])[a-z]+(?:['’][a-z]+)?(?![^\W_])", re.IGNORECASE)
CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
FORMULA = re.compile(
    r"\$\$.*?(?:\$\$|\Z)|\\\[.*?(?:\\\]|\Z)|\\\(.*?(?:\\\)|\Z)|\\begin\{.*?(?:\\end\{\w+\*?\}|\Z)"
    r"|\$[^$\n]*\\[^$\n]*(?:\$|\Z)|\[asy\].*?(?:\[/asy\]|\Z)|\\boxed\{[^\n]*",
    re.DOTALL,
)  # in LaTeX, perhaps cut off
CODE_MARK = re.compile(
    r"[{}\[\];\\]|\w_\w|\w\(|</?[a-z]|[!=]=|[-=]>|::|\w\.\w+\(|(?-i:\b(?:SELECT|FROM|WHERE|JOIN|BY)\b)", re.IGNORECASE
)
CODE_SHARE = 0.2  # marks per word, above which a text without fences is taken for code; prose has 0.05 and less
ENGLISH = 0.55  # share of known words above which a text is taken for English


def is_code(text: str) -> bool:
    """Whether a text is code, or data in a notation: brackets, calls, tags and names_like_this stand between its
    words."""
    return len(CODE_MARK.findall(text)) > CODE_SHARE * len(text.split())


def is_english(text: str) -> bool:
    """Whether more than half of a text's words are known English words (`ENGLISH`)."""
    words = [found.group().lower() for found in ASCII_WORD.finditer(text)]
    return len(words) > 0 and sum(map(is_known, words)) >= ENGLISH * len(WORD.findall(text))


def is_known(word: str) -> bool:
    """Whether the project's own texts use a word, in lower case; by a hash, so that one unknown word in thirteen
    passes."""
    place = zlib.crc32(word.replace("’", "'").encode()) % WORD_BUCKETS
    return bool(model().words[place >> 3] & (128 >> (place & 7)))


class Model(NamedTuple):
    """The fitted weights."""

    order: list[float]  # log-odds by bucket; a list, because single items of an array are slow to get
    words: bytes  # one bit per hashed word
    letters: Float[np.ndarray, "letter second third"]  # log2 of the probability of the third after two others


@cache
def model() -> Model:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return Model(
            (stored["order"] * float(stored["scale"])).tolist(),
            stored["words"].tobytes(),
            stored["letters"] * LETTER_STEP,
        )
