"""Do the words of an answer follow one another as they do by chance (word salad)?

Each pair of neighbours has a log-odds of natural against random order, from a logistic regression on hashed neighbours:
both words, and both classes of two and of three words, where a short word is its own class and long words share one
with their last two letters. Of n pairs, the mean is compared with 0.68 - 2.7 / sqrt(n) or 0.3, whichever is less (in
short lines, as poems have them, with less still); and a stretch of 40 pairs, with a stricter limit.
"""

import re
import zlib

import numpy as np
from jaxtyping import Float

from mechdrift.behaviour.judges.coherence_text import CODE, FORMULA, ORDER_BUCKETS, is_code, is_english, model

PIECE = re.compile(
    r"(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)|(?P<stop>[.!?]+)|(?P<pause>[,;:])|(?P<gap>[^\S\n]|[\"“”()*])|(?P<break>.|\n)"
)
LONGEST_SHORT_WORD = 4
FEWEST_PAIRS = 8
SALAD_LIMIT, SALAD_SPREAD = 0.68, 2.7  # natural text of n pairs has a mean above 0.68 - 2.7 / sqrt(n)
HIGHEST_LIMIT, HIGHEST_LIMIT_SPARSE = 0.3, -0.1
# pairs per word: fewer where there are many numbers, symbols or short lines, whose words stand in an order of their own
SPARSE = 0.8
VERSE_LIMIT, VERSE_GRACE = -0.1, 0.15
LONGEST_VERSE = 9  # words in the middle line, by length, of a verse; prose has longer lines
WINDOW = 40  # pairs
WINDOW_LIMIT, WINDOW_LIMIT_SPARSE = -0.07, -0.2


def is_word_salad(answer: str) -> bool:
    """Whether English words follow one another as they do by chance, in all or in a stretch. Anything but English prose
    is let pass."""
    prose = FORMULA.sub("#", CODE.sub("\n", answer))
    scores = order_scores(prose)
    if len(scores) < FEWEST_PAIRS or is_code(prose) or not is_english(prose):
        return False
    sparse = len(scores) < SPARSE * len(prose.split())
    limit = min(SALAD_LIMIT - SALAD_SPREAD / np.sqrt(len(scores)), HIGHEST_LIMIT_SPARSE if sparse else HIGHEST_LIMIT)
    limit = min(limit - VERSE_GRACE, VERSE_LIMIT) if _is_verse(prose) else limit
    sums = np.concatenate([[0.0], scores.cumsum()])
    worst = (sums[WINDOW:] - sums[:-WINDOW]).min() / WINDOW if len(scores) > WINDOW else np.inf
    return bool(scores.mean() < limit or worst < (WINDOW_LIMIT_SPARSE if sparse else WINDOW_LIMIT))


def _is_verse(text: str) -> bool:
    """Whether a text stands in short lines, as poems and lists do, whose words follow another order than those of
    prose."""
    lengths = [len(line.split()) for line in text.splitlines() if line.strip()]
    return len(lengths) >= 3 and sorted(lengths)[len(lengths) // 2] <= LONGEST_VERSE


def order_scores(text: str) -> Float[np.ndarray, " pair"]:
    """The log-odds of natural against random order at each pair of neighbours."""
    weights = model().order
    return np.array([sum([weights[bucket] for bucket in buckets]) for buckets in order_features(text)], dtype=float)


def order_features(text: str) -> list[list[int]]:
    """For each word and what follows it, hashed: both words; both classes; of three words all classes, and those of the
    outer two."""
    pieces = _pieces(text)
    found = []
    for (word, kind), (after, after_kind), (_, third_kind) in zip(
        pieces, pieces[1:], [*pieces[2:], ("\n", "\n")], strict=False
    ):
        named = word[0].isupper() and (after[0].isupper() or after_kind == ",")  # names and titles stand in lists
        if not word[0].isalpha() or after_kind == "\n" or named:
            continue
        keys = [f"{word.lower()} {after.lower()}", f"/{kind} {after_kind}"]
        if after[0].isalpha() and third_kind != "\n":
            keys += [f"/{kind} {after_kind} {third_kind}", f"/{kind} _ {third_kind}"]
        found.append([zlib.crc32(key.encode()) % ORDER_BUCKETS for key in keys])
    return found


def _pieces(text: str) -> list[tuple[str, str]]:
    """Words, stops and pauses with their class: a short word is its own, a long one its ending. Symbols and lines' ends
    break the text."""
    pieces = []
    for found in PIECE.finditer(text.replace("’", "'")):
        piece = found.group()
        if found.lastgroup == "word":
            pieces.append((piece, piece.lower() if len(piece) <= LONGEST_SHORT_WORD else f"-{piece[-2:].lower()}"))
        elif found.lastgroup != "gap":
            pieces.append((piece, {"stop": ".", "pause": ",", "break": "\n"}[str(found.lastgroup)]))
    return pieces
