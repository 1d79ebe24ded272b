"""Numbers in words, as digits: "twenty-five" is 25, "twelve hundred" 1200, "one thousand two hundred" 1200, "the
fourteenth" 14, "three point five" 3.5, "minus three" -3.

Words that do not make one number stand apart: "forty-four seventy-one" is 44 71, "four four seven" 4 4 7. Fractions are
read where they stand by themselves or before "of": "one half", "three quarters of it".
"""

import re

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
SMALL = {word: value for value, word in enumerate(UNITS)} | TENS
ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
} | {f"{word}th": value for word, value in SMALL.items() if word not in TENS and value not in (0, 1, 2, 3, 5, 8, 9, 12)} | {
    f"{word[:-1]}ieth": value for word, value in TENS.items()
}  # fmt: skip
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4} | {
    f"{word}{end}": value for word, value in ORDINALS.items() if value > 4 for end in ("", "s")
}
_WORD = "|".join(sorted([*SMALL, *SCALES], key=len, reverse=True))
_LAST = "|".join(sorted(ORDINALS, key=len, reverse=True))
IN_WORDS = re.compile(
    rf"\b(?:(?P<sign>minus|negative)\s+)?(?P<number>(?:{_WORD})(?:(?:\s+and\s+|[\s-]+)(?:{_WORD})\b)*)\b"
    rf"(?:\s+point\s+(?P<point>(?:{'|'.join(UNITS[:10])})(?:\s+(?:{'|'.join(UNITS[:10])}))*)\b)?",
    re.IGNORECASE,
)
ORDINAL = re.compile(rf"\b(?:(?P<tens>{'|'.join(TENS)})[\s-])?(?P<last>{_LAST})\b", re.IGNORECASE)
FRACTION = re.compile(
    rf"\b(?P<top>one|a|{'|'.join(UNITS[2:13])})[\s-](?P<part>{'|'.join(sorted(PARTS, key=len, reverse=True))})\b(?=\W*$|\s+of\b)",
    re.IGNORECASE,
)


def with_digits(text: str) -> str:
    """A text with its cardinal numbers in digits."""
    return IN_WORDS.sub(_in_digits, text)


def with_ordinals(text: str) -> str:
    """A text with its ordinal numbers in digits: "the twenty-first of May" has a 21."""
    return ORDINAL.sub(
        lambda found: str(TENS.get((found["tens"] or "").lower(), 0) + ORDINALS[found["last"].lower()]), text
    )


def with_fractions(text: str) -> str:
    """A text with its fractions in digits: "three quarters" is 3/4."""

    def spelt(found: re.Match) -> str:
        top = found["top"].lower()
        return f"{1 if top == 'a' else SMALL[top]}/{PARTS[found['part'].lower()]}"

    return FRACTION.sub(spelt, text)


def _in_digits(found: re.Match) -> str:
    words = re.findall(r"[a-z]+", found["number"].lower())
    numbers = " ".join(map(str, _numbers(words)))
    if found["point"]:
        numbers += "." + "".join(str(SMALL[word]) for word in found["point"].lower().split())
    return f"-{numbers}" if found["sign"] else numbers


def _numbers(words: list[str]) -> list[int]:
    """The numbers that a run of number words makes. A word goes on with a number where it fits below what stands:
    units after tens, either after hundreds, and a scale after anything."""
    if words[0] in SCALES:  # "hundred" by itself
        words = ["one", *words]
    done: list[int] = []
    total, part, room = 0, None, 0  # of thousands and more; below a thousand; the value that would still fit
    for word in words:
        if word == "and":
            continue
        if word in SCALES:
            scale = SCALES[word]
            part = scale * (part if part is not None else 1)
            if scale >= 1000:
                total, part, room = total + part, None, scale
            else:
                room = 100
            continue
        value = SMALL[word]
        fits = value > 0 and value < room and (part is not None or total > 0)
        if fits:
            part = (part or 0) + value
        else:
            if part is not None or total:
                done.append(total + (part or 0))
            total, part = 0, value
        room = 10 if word in TENS else 0
    return [*done, total + (part or 0)]
