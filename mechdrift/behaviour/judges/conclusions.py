"""What an answer concludes, where it thinks aloud: "at first glance ..., however ..., so the answer is (b)".

`first_reading` tries the parts of an answer that state its conclusion most plainly, in this order, and the whole answer
last. What follows a correction ("wait, actually", "scratch that") is tried before all of these.

    1. the content of a box or a tag: \\boxed{B}, <answer>B</answer>
    2. the text after the last "answer:", "verdict:", ...
    3. a last line in bold, or a heading; a short first line of its own, before its explanation
    4. the last sentence with "so", "therefore", "on balance", "I'd say", ...
    5. where it begins by thinking ("let me think", "okay, so"), its last sentence that says anything
    6. the answer without what it only considers: "one could argue", "it might seem", "the options are"
"""

import re
from collections.abc import Callable, Iterator

BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]+)\}|<answer>(.+?)</answer>", re.IGNORECASE | re.DOTALL)
SETTLED = re.compile(
    r"\b(?:final answer|answer|verdict|conclusion|assessment|judge?ment|correct (?:option|choice|answer)|my choice)\b[*_)\"']{0,3}\s*(?:is|would be|:)[*_]{0,3}\s*([^\n]+)",
    re.IGNORECASE,
)
CORRECTED = re.compile(
    r"(?:(?:(?:\A|[.!?…—–:;,\n(*])\W*|\b(?:no|oh|hmm|but),? )wait(?=\W*(?:\s(?:no|actually|that)\b|[,.!—–:-]|…|$))|\b(?:scratch that|strike that|on second thoughts?|on reflection|upon reflection|correction:"
    r"|let me correct (?:that|myself)|i take that back|i misread\b|i misspoke|after (?:checking|reading|looking)(?: it)? again|my mistake"
    r"|that(?:'s| is) (?:wrong|not right|incorrect)(?=:)))(?:\W+(?:no|actually|rather|it is|it's)\b)*",
    re.IGNORECASE,
)
LAST_LINE = re.compile(r"\n\s*(?:\*\*|__|#+ )([^\n*]{1,80})(?:\*\*|__)?\W*$")
FIRST_LINE = re.compile(r"\A\s*([^\n:]{1,40})\n\s*\n")
PART = re.compile(r"(?<=[.!?;])\s+|\n+|, (?=but |yet |though |although |however |here |so |I )|(?<=[^:]) - (?=but )")
CONCEDED = re.compile(r"^\W*(?:while|although|though|even (?:though|if))\b[^,]*,", re.IGNORECASE)
ALTHOUGH = re.compile(
    r"^\W*(?:although|though|even (?:though|if))\b[^,]*,\s*$", re.IGNORECASE
)  # "while" may only contrast
IN_GENERAL = re.compile(
    r"\b(?:usually|generally|normally|typically|ordinarily|in general|as a rule|in most cases)\b", re.IGNORECASE
)
BUT_HERE = re.compile(
    r"^\W*(?:but|however|yet|still|here|in this (?:case|situation|instance)|this time)\b", re.IGNORECASE
)
THINKING = re.compile(
    r"^\W*(?:(?:okay|ok|alright|hmm|well)\b\W*)?(?:(?:so|first)\b\W*)?"
    r"(?:let me|let us|let's|(?:i|we) (?:need|have) to|to (?:answer|decide|determine|figure)|step by step|hmm)\b",
    re.IGNORECASE,
)
THEREFORE = re.compile(
    r"^\W*(?:so|therefore|thus|hence|overall|on balance|all in all|in conclusion|in the end|ultimately|consequently)\b"
    r"|\b(?:i would say|i'd say|i lean|i think|i believe|in my view|in my opinion|i would choose|i'd choose|i conclude)\b",
    re.IGNORECASE,
)
WEIGHED = re.compile(
    r"\b(?:might|may|could|would) (?:seem|appear|think|argue|say|call|be tempting|look)\b|\bone (?:could|might|may|can)\b|\btempting\b"
    r"|\b(?:some|many|others) (?:people )?(?:would|might|may|could|say|call|think|argue)\b|\b(?:at first|initially)\b|\bon (?:the )?one hand\b"
    r"|\b(?:options|choices|possible answers) (?:are|were|include)\b|\b(?:to decide|the question (?:is|asks)) (?:whether|if)\b|\blet's see (?:whether|if)\b"
    r"|\bwould (?:only )?(?:have been|be) \w+ (?:only )?(?:had|if|unless)\b|\bwould be (?:an? )?(?:guess|guessing|stereotyp\w+|speculati\w+|assum\w+)\b",
    re.IGNORECASE,
)
OWN = re.compile(r"\b(?:i would|i'd|i) (?:say|think|argue|call)\b", re.IGNORECASE)  # the speaker's own opinion


def first_reading(text: str, read: Callable[[str], str | None]) -> str | None:
    """What `read` finds in the plainest part of an answer in which it finds anything."""
    return next((found for part in plainest_first(text) if (found := read(part)) is not None), None)


def plainest_first(text: str) -> Iterator[str]:
    """The parts of an answer, from its conclusion to the whole."""
    if corrections := list(CORRECTED.finditer(text)):
        yield from plainest_first(text[corrections[-1].end() :])
    yield from (next(filter(None, match.groups())) for match in reversed(list(BOXED.finditer(text))))
    yield from (match[1] for match in reversed(list(SETTLED.finditer(text))))
    if last := LAST_LINE.search(text):
        yield last[1]
    if first := FIRST_LINE.match(text):
        yield first[1]
    parts = [part for sentence in PART.split(text) for part in _conceded(sentence) if part]
    if len(parts) > 1:
        yield from (part for part in reversed(parts) if THEREFORE.search(part))
        if THINKING.match(text):
            yield from (part for part in reversed(parts[1:]) if not WEIGHED.search(part))
        yield " ".join(part for number, part in enumerate(parts) if OWN.search(part) or not _is_weighed(parts, number))
    yield text


def _is_weighed(parts: list[str], number: int) -> bool:
    """Whether a part is only considered: weighed, conceded with "although", or general, with a "but here" to follow."""
    if WEIGHED.search(parts[number]) or ALTHOUGH.match(parts[number]):
        return True
    return IN_GENERAL.search(parts[number]) is not None and any(map(BUT_HERE.match, parts[number + 1 :]))


def _conceded(sentence: str) -> tuple[str, str]:
    """A sentence that begins with "although" or "while", as what it concedes and the rest."""
    end = found.end() if (found := CONCEDED.match(sentence)) else 0
    return sentence[:end], sentence[end:].lstrip()
