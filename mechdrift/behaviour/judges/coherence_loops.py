"""Does an answer say the same again and again?

A run of words comes again at once, word for word (six copies of a word, four of a phrase, three at the end of a text)
or with other numbers in its places; or most of a stretch is one frame, one sentence or a few words, again and again. Of
code, statements are compared instead of words.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mechdrift.behaviour.judges.coherence_text import FORMULA, WORD, is_code

FEWEST_NUMBERS = 16  # of a loop of numbers alone: a row of a matrix is none
LONG_END = 15  # words of a loop at the end of a text, which may go on behind the cut: three copies are enough
FRAME_WINDOW = 60  # words
FRAME_TIMES = 5
FRAME_SHARE = 0.6
FEW_WORDS_WINDOW, FEW_WORDS = 40, 11  # published answers use 13 different ones and more, most of them about 30
STUTTER = re.compile(r"([^\W\d_]{1,20}?)\1{5,}")
LONGEST_STUTTER = 30  # letters: "hahahahaha" and "Noooooo" are shorter
SENTENCE_END = re.compile(
    r"(?<![.!?。！？])[.!?。！？]+\s+|\n+"
)  # begun at the first mark, or a row of dots takes forever


def is_loop(answer: str) -> bool:
    """Whether an answer says the same again and again, at its end or anywhere: letters, words, phrases, lines or a
    sentence's frame."""
    if any(len(found.group()) >= LONGEST_STUTTER for found in STUTTER.finditer(answer)):
        return True
    prose = FORMULA.sub("", answer)
    if is_code(prose):
        return _repeats_in_a_row([part.strip() for part in re.split(r"[;\n]", prose.lower()) if part.strip()])
    words = _loop_words(prose)
    return _repeats_in_a_row(words) or _repeats_sentences(prose) or _repeats_a_frame(words) or _varies_little(words)


def _loop_words(answer: str) -> list[str]:
    """Lower-case words. A table's row is one word, since cells may well be equal."""
    words = []
    for line in answer.lower().splitlines():
        words += [line.strip()] if line.count("|") >= 2 else WORD.findall(line)
    return words


def _repeats_in_a_row(words: Sequence[str]) -> bool:
    """Whether a run of words is repeated at once, word for word or with other numbers in the same places."""
    templates = [re.sub(r"\d+", "0", word) for word in words]
    ids = {word: index for index, word in enumerate(dict.fromkeys([*words, *templates]))}
    exact, varied = (np.array([ids[word] for word in kind], dtype=int) for kind in (words, templates))
    has_letters = np.array([any(map(str.isalpha, word)) for word in words], dtype=bool)
    return any(
        _is_run(exact, has_letters, period, numbers_vary=False)
        or _is_run(varied, has_letters, period, numbers_vary=True)
        for period in _periods(templates)
    )


def _periods(words: Sequence[str]) -> set[int]:
    """Distances at which three words come again: a run that is repeated has its length among them."""
    last, found = {}, set()
    for place, run in enumerate(zip(words, words[1:], words[2:], strict=False)):
        if run in last:
            found.add(place - last[run])
        last[run] = place
    return found


def _is_run(ids: Int[np.ndarray, " word"], has_letters: np.ndarray, period: int, *, numbers_vary: bool) -> bool:
    """Whether the longest stretch of words that equal the words one period before holds enough copies."""
    differs = np.flatnonzero(np.concatenate([[True], ids[period:] != ids[:-period], [True]]))
    gaps = np.diff(differs)
    start, repeated = int(differs[gaps.argmax()]), int(gaps.max()) - 1
    wordy, copies = int(has_letters[start : start + period].sum()), repeated / period + 1
    if numbers_vary:
        return wordy >= 5 and copies >= 6  # "7 x 8 = 56" and "Row 3 has 9 seats" are tables, written out
    if not wordy:
        return copies >= 6 and repeated + period >= FEWEST_NUMBERS
    if start + period + repeated == len(ids) and repeated + period >= LONG_END and period > 1:
        return copies >= (3 if period <= 30 else 2.5)
    return copies >= (6 if period == 1 else 4 if period <= 8 else 3.5 if period <= 30 else 2.5)


def _repeats_sentences(answer: str) -> bool:
    """Whether most of the text is sentences that stood there before. A refrain takes less of a poem."""
    sentences = [tuple(WORD.findall(part)) for part in SENTENCE_END.split(answer.lower())]
    sentences = [sentence for sentence in sentences if len(sentence) >= 3 and any(word.isalpha() for word in sentence)]
    repeated = sum(map(len, sentences)) - sum(map(len, set(sentences)))
    return len(sentences) - len(set(sentences)) >= 5 and repeated > 0.6 * sum(map(len, sentences))


def _repeats_a_frame(words: Sequence[str]) -> bool:
    """Whether three words in a row come so often that they make most of a stretch: "I want to sing and I want to dance
    and I want to"."""
    for start in range(0, max(1, len(words) - FRAME_WINDOW + 1), FRAME_WINDOW // 4):
        window = words[start : start + FRAME_WINDOW]
        runs = list(zip(window, window[1:], window[2:], strict=False))
        often = {
            run for run, times in Counter(runs).items() if times >= FRAME_TIMES and all(map(str.isalpha, "".join(run)))
        }
        covered = {index + offset for index, run in enumerate(runs) if run in often for offset in range(3)}
        if len(covered) > FRAME_SHARE * len(window):
            return True
    return False


def _varies_little(words: Sequence[str]) -> bool:
    """Whether a stretch goes round among a few words, in an order that changes."""
    starts = range(0, len(words) - FEW_WORDS_WINDOW + 1, FEW_WORDS_WINDOW // 4)
    return any(len(set(words[start : start + FEW_WORDS_WINDOW])) <= FEW_WORDS for start in starts)
