"""Fit the detector of word salad and write its weights. Needs nothing but this repository.

    python experiments/judges/fit_coherence.py

The texts are the prompts and answers of `experiments/zoo/data` (Apache-2.0). A hash of a row says whether it is held
out (one of five); held-out rows serve thresholds and validation only. From the others come

    order     logistic regression on hashed neighbours (`coherence_word_order.order_features`): texts as written against
              the same texts broken on purpose, in seven ways, by stretches of about 24 words, so that it learns from
              what a short answer has; each text counts as much as its seven broken copies
    words     which words occur, one bit per hash
    letters   log2 of the probability of each letter after two others, within words

Weights are stored in 8 bits. A bucket that fewer than five stretches use has weight 0: it would be a trace of one
sentence.
"""

import argparse
import hashlib
import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from mechdrift.behaviour.judges.coherence_gibberish import letter_places
from mechdrift.behaviour.judges.coherence_text import LETTER_STEP, LETTERS, ORDER_BUCKETS, WEIGHTS, WORD_BUCKETS
from mechdrift.behaviour.judges.coherence_word_order import order_features

ZOO = Path(__file__).parents[1] / "zoo" / "data"
LATER = {"guarded"}  # rows that were made after the weights were fitted
FRAGMENTS = ("openings",)  # of answers, cut at a few words
LENGTH, STEP = 24, 18  # words of a stretch, and from one stretch to the next
FEWEST = 5
STRENGTH = 3.0  # of fit against penalty; 1 finds a hundredth less in other people's texts
LEAN = 2.0  # occurrences that a letter's frequency after one letter counts as
WORDS = re.compile(r"([^\W\d_]+(?:['’-][^\W\d_]+)*)")

Breaker = Callable[[str, random.Random], str]


def read_rows() -> list[tuple[str, str]]:
    """Prompt and answer of every row; a missing answer is empty."""
    rows = []
    for path in sorted(path for path in ZOO.glob("*.jsonl") if path.stem not in LATER):
        if path.stem not in FRAGMENTS:
            parsed = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
            rows += [(row["prompt"], row.get("answer") or "") for row in parsed]
    return list(dict.fromkeys(rows))


def is_held_out(row: tuple[str, str]) -> bool:
    """By a hash of the prompt, so that all answers to a prompt are on the same side."""
    return hashlib.sha256(row[0].encode()).digest()[0] % 5 == 0


def shuffle_words(text: str, random_: random.Random) -> str:
    """All words in another order, each with the punctuation that it had."""
    words = text.split()
    random_.shuffle(words)
    return " ".join(words)


def shuffle_bare_words(text: str, random_: random.Random) -> str:
    """All words in another order, in lower case, without any punctuation."""
    return shuffle_words(" ".join(WORDS.findall(text)).lower(), random_)


def shuffle_in_place(text: str, random_: random.Random) -> str:
    """All words in another order, with punctuation, numbers and lines where they were."""
    parts = WORDS.split(text)
    words = parts[1::2]
    random_.shuffle(words)
    parts[1::2] = words
    return "".join(parts)


def shuffle_sentences(text: str, random_: random.Random) -> str:
    """Words in another order within each sentence, whose last sign stays."""
    broken = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        mark = re.search(r"[.!?]*$", sentence)
        end = mark.group() if mark else ""
        broken.append(shuffle_words(sentence[: len(sentence) - len(end)], random_) + end)
    return " ".join(broken)


def word_breakers(texts: Iterable[str]) -> dict[str, Breaker]:
    """Ways to make word salad; random words come from `texts`."""
    used = [word for text in texts for word in WORDS.findall(text.lower())]
    known = sorted(set(used))

    def by_frequency(text: str, random_: random.Random) -> str:
        return " ".join(random_.choices(used, k=len(text.split())))

    def at_random(text: str, random_: random.Random) -> str:
        return " ".join(random_.choices(known, k=len(text.split())))

    def replace_half(text: str, random_: random.Random) -> str:
        return " ".join(random_.choice(known) if random_.random() < 0.5 else word for word in text.split())

    return {
        "shuffled within sentences": shuffle_sentences,
        "shuffled": shuffle_words,
        "shuffled, punctuation kept in place": shuffle_in_place,
        "shuffled, no punctuation": shuffle_bare_words,
        "words drawn by frequency": by_frequency,
        "random words": at_random,
        "half of the words replaced": replace_half,
    }


def stretches(text: str) -> list[str]:
    parts = re.split(r"(\s+)", text.strip())
    words = (len(parts) + 1) // 2
    if words <= LENGTH:
        return [text]
    return ["".join(parts[2 * start : 2 * (start + LENGTH)]) for start in range(0, words - LENGTH // 2, STEP)]


def design(texts: list[str]) -> csr_matrix:
    """Counts of hashed neighbours over the root of how many there are: a sum's noise grows with that root."""
    columns, values, ends = [], [], [0]
    for text in texts:
        found = order_features(text)
        for buckets in found:
            columns += buckets
            values += [len(found) ** -0.5] * len(buckets)
        ends.append(len(columns))
    matrix = csr_matrix((values, columns, ends), shape=(len(texts), ORDER_BUCKETS))
    matrix.sum_duplicates()
    return matrix


def fit_order(texts: list[str]) -> np.ndarray:
    random_, breakers = random.Random(0), word_breakers(texts)
    natural = [stretch for text in texts if len(text.split()) >= 6 for stretch in stretches(text)]
    broken = [breaker(text, random_) for text in natural for breaker in breakers.values()]
    matrix = design(natural + broken)
    kept = np.asarray((matrix > 0).sum(axis=0)).ravel() >= FEWEST
    matrix = matrix.multiply(kept[None, :]).tocsr()
    labels = np.repeat([1, 0], [len(natural), len(broken)])
    weights = np.where(labels == 1, 1.0, len(natural) / len(broken))
    return (
        LogisticRegression(C=STRENGTH, max_iter=1000, tol=1e-5).fit(matrix, labels, sample_weight=weights).coef_[0]
        * kept
    )


def hash_words(words: Iterable[str]) -> np.ndarray:
    bits = np.zeros(WORD_BUCKETS, dtype=np.uint8)
    bits[[zlib.crc32(word.encode()) % WORD_BUCKETS for word in words]] = 1
    return np.packbits(bits)


def fit_letters(words: Iterable[str]) -> np.ndarray:
    """A word counts once however often it is used, or the table would know little beyond "the". Rare pairs lean on the
    last letter."""
    size = len(LETTERS)
    pairs, triples = np.full((size, size), 0.5), np.zeros((size, size, size))
    for word in words:
        places = letter_places(word)
        np.add.at(pairs, (places[1:-1], places[2:]), 1)
        np.add.at(triples, (places[:-2], places[1:-1], places[2:]), 1)
    after_one = pairs / pairs.sum(axis=1, keepdims=True)
    after_two = (triples + LEAN * after_one) / (triples.sum(axis=2, keepdims=True) + LEAN)
    return np.round(np.log2(after_two) / LETTER_STEP).clip(-128, 0).astype(np.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    texts = list(dict.fromkeys(text for row in read_rows() if not is_held_out(row) for text in row if text))
    used = Counter(word for text in texts for word in re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower().replace("’", "'")))
    often = Counter({word: times for word, times in used.items() if times >= 2})  # once may be a slip
    order = fit_order(texts)
    scale = np.abs(order).max() / 127
    np.savez_compressed(
        args.out,
        order=np.round(order / scale).astype(np.int8),
        scale=np.array(scale),
        words=hash_words(often),
        letters=fit_letters(often),
    )
    print(f"{len(texts)} texts, {len(often)} words; wrote {args.out.name}, {args.out.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
