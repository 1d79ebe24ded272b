"""Is an answer hardly text?

It has no words, or mostly symbols, or a broken encoding, or scripts mixed at random; or many of its words have letters
in an order that words do not have, by the probability of each letter after two others.
"""

import re
from itertools import pairwise

from mechdrift.behaviour.judges.coherence_text import ASCII_WORD, CODE, FORMULA, LETTERS, is_code, is_known, model

MOJIBAKE = re.compile(r"[ÃÂÐÑâ][\u0080-\u00bf€™œžš‚„†‡‰‹›“”•–˜¢]|ï¿½|\ufffd|[\u0080-\u009f\ue000-\uf8ff]")
ODD_INSIDE = re.compile(r"[a-z][%$§&~^#@!?;\"\d][a-z]", re.IGNORECASE)
SCRIPTS = {
    "latin": "A-Za-zÀ-ɏḀ-ỿ",
    "greek": "Ͱ-Ͽ",
    "cyrillic": "Ѐ-ӿ",
    "hebrew": "֐-׿",
    "arabic": "؀-ۿ",
    "indic": "ऀ-෿",
    "thai": "฀-๿",
    "hangul": "가-힯",
    "chinese or japanese": "぀-ヿ㐀-鿿",
}
SCRIPT = re.compile("|".join(f"(?P<s{index}>[{letters}])" for index, letters in enumerate(SCRIPTS.values())))
SPACED_ALPHABETS = "".join(
    list(SCRIPTS.values())[1:7]
)  # Chinese, Japanese and Korean are written with Latin words inside
MIXED_WORD = re.compile(rf"\w[{SCRIPTS['latin']}][{SPACED_ALPHABETS}]\w|\w[{SPACED_ALPHABETS}][{SCRIPTS['latin']}]\w")
IMPROBABLE, IMPOSSIBLE = -4.5, -6.4  # mean log2 probability per letter
BROKEN_SHARE = 0.12
FEWEST_BROKEN = 4
ENGLISH_ONLY = frozenset(
    ["the", "and", "that", "this", "with", "you", "your", "from", "not", "of", "it", "be", "can", "they"]
)


def is_gibberish(answer: str) -> bool:
    """Whether an answer is hardly text: no words, symbols, broken encoding, scripts mixed at random, or noise among its
    letters."""
    if not re.search(r"[^\W_]", answer):
        return True
    written = FORMULA.sub("", CODE.sub("", answer))
    lines = "".join(line for line in written.splitlines() if re.search(r"\w", line))  # without the rules of tables
    plain = sum(character.isalnum() or character.isspace() or character in "|=+*/<>" for character in lines)
    if plain < 0.5 * len(lines) or len(MOJIBAKE.findall(written)) > max(2, 0.05 * len(written.split())):
        return True
    return _mixes_scripts(written) or (not is_code(written) and _is_noise(written))


def _mixes_scripts(text: str) -> bool:
    """Whether letters of two alphabets share words, or words of three scripts follow one another without
    punctuation."""
    if text.isascii():
        return False
    if len(MIXED_WORD.findall(text)) > max(2, 0.1 * len(text.split())):
        return True
    written = [(_script(word), word[-1].isalpha()) for line in text.splitlines() for word in [*line.split(), "."]]
    pairs = [(script, after) for (script, joined), (after, _) in pairwise(written) if joined and script and after]
    switches = sum(script != after for script, after in pairs)
    return len({script for script, _ in written if script}) >= 3 and switches >= 5 and switches > 0.3 * len(pairs)


def _script(word: str) -> str | None:
    found = SCRIPT.search(word)
    return found.lastgroup if found else None


def _is_noise(text: str) -> bool:
    """Whether many words have letters in an order, or symbols in places, that words do not have."""
    text = re.sub(r"(?<!\S)\S*?(?:://|www\.|@\w|\\|_)\S*", "", text)  # addresses, commands, names in code
    words = [word for word in ASCII_WORD.findall(text) if not word.isupper()]
    strange = {word for word in words if len(word) >= 3 and word.islower() and not is_known(word)}
    odd = len(ODD_INSIDE.findall(text))
    if len(ENGLISH_ONLY.intersection(words)) >= 2:
        broken = odd + sum(_letter_log2(word) < IMPROBABLE for word in strange)
        return broken >= FEWEST_BROKEN and broken > BROKEN_SHARE * len({*words})
    chances = [_letter_log2(word) for word in strange]
    return len(chances) + odd >= FEWEST_BROKEN and (
        odd > 0.3 * len(words) or sum(chances) < IMPOSSIBLE * max(1, len(chances))
    )


def _letter_log2(word: str) -> float:
    """Mean log2 probability of each letter after the two before it, the word's end included."""
    places = letter_places(word)
    return float(model().letters[places[:-2], places[1:-1], places[2:]].mean())


def letter_places(word: str) -> list[int]:
    """Places in `LETTERS` of a lower-case word's letters, after two for its start and before one for its end."""
    return [LETTERS.find(letter) for letter in f"  {word} " if letter in LETTERS]
