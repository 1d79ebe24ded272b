"""The forms of think markers: how a marker is recognised, which marker is its partner, and whether a prompt ends with
one. This module works on text only.

A marker is a bracketed word about thinking. The opening and the closing one differ by a slash, by `begin` and `end`, or
by the side of a bar. Conventions without such a form are listed in `FORMLESS`.
"""

import re
from dataclasses import dataclass
from functools import cache

ABOUT_THINKING = re.compile(
    r"think|thought|reason|analysis|scratchpad|cot\b|reflect|ponder|deliberat|rationale|monologue|思考|思维|推理",
    re.IGNORECASE,
)
# One bracketed word, or a channel with its name (`<|channel>thought`).
MARKER = r"(?:<[^<>\s'\"{}]{1,40}>|\[[^\[\]\s'\"{}]{1,40}\]|◁[^◁▷\s'\"{}]{1,40}▷)"
NAMED = rf"(?:<\|\w+>[a-z]+|{MARKER})"
CLOSES = re.compile(r"[<\[◁]\|?/|[<\[◁|_▁:](?:end|close)[|_▁:>\]▷]|^<\w+\|>", re.IGNORECASE)
BEGINNINGS = (
    ("begin", "end"),
    ("start", "end"),
    ("open", "close"),
    ("BEGIN", "END"),
    ("START", "END"),
    ("OPEN", "CLOSE"),
)
# Conventions without bracketed markers: words that the template or vocabulary must hold, the opening, the closing.
FORMLESS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("<|channel|>", "<|message|>", "<|start|>", "<|end|>"),
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    (
        ("Here is my thought process:", "Here is my response:"),
        "Here is my thought process:",
        "Here is my response:",
    ),
)


@dataclass(frozen=True, slots=True)
class Injected:
    """What a generation prompt itself ends with: an opened think block, a closed one, or neither."""

    opening: str = ""
    closing: str = ""

    @property
    def text(self) -> str:
        return self.opening + self.closing


def injected_of(prompt: str, message: str, open_marker: str, close_marker: str) -> Injected:
    """What a prompt does with two markers behind the `message` that it begins with (the same prompt without what begins
    an answer). Words that follow a marker there, such as the beginning of a thought or of an answer, belong to it.
    Where a template always begins an answer, or renders no message without one (""), only markers at the very end
    count."""
    if not open_marker:
        return Injected()
    tail = prompt.removeprefix(message)
    if tail in ("", prompt):
        opening, closing = (re.escape(marker) + r"\s*" for marker in (open_marker, close_marker))
        tail = next(found[0] for found in re.finditer(rf"(?:{opening})?(?:{closing})?$", prompt))
    start, end = tail.rfind(open_marker), tail.rfind(close_marker)
    if end > start:
        return Injected(tail[start:end] if start >= 0 else "", tail[end:])
    return Injected(tail[start:]) if start >= 0 else Injected()


def injected(prompt: str) -> Injected:
    """The markers, recognised by their form, that a generation prompt ends with. Nothing earlier in the prompt
    counts."""
    if found := re.search(rf"(?P<opening>{NAMED}\s*)?(?P<closing>{MARKER}\s*)$", prompt):
        opening, closing = found["opening"] or "", found["closing"]
        if CLOSES.search(closing) and ABOUT_THINKING.search(opening + closing):
            return Injected(opening if ABOUT_THINKING.search(opening) else "", closing)
    found = re.search(rf"{NAMED}\s*$", prompt)
    is_opening = found and ABOUT_THINKING.search(found[0]) and not CLOSES.search(found[0])
    return Injected(found[0]) if found and is_opening else Injected()


def breaks(written: str) -> str:
    """The text with real line breaks where they are written as `\\n`, in a template's source or on a command line."""
    return written.replace("\\n", "\n")


def first_in(text: str, candidates: tuple[str, ...]) -> str:
    """The first candidate that a text holds, or else the first candidate."""
    return next((word for word in candidates if word in text), next(iter(candidates), ""))


@cache
def closings(opening: str) -> tuple[str, ...]:
    """The markers that can close an opening one, by their form."""
    if channel := re.fullmatch(r"<\|(\w+)>(\w*)", opening):
        return (f"<{channel[1]}|>",)
    bracket = re.match(r"[<\[◁]\|?", opening)
    if not bracket:
        return ()
    changed = [opening.replace(begin, end) for begin, end in BEGINNINGS if begin in opening]
    return (*changed, opening[0] + "/" + opening[1:], bracket[0] + "/" + opening[len(bracket[0]) :])


@cache
def openings(closing: str) -> tuple[str, ...]:
    """The markers that a closing one can close, by its form."""
    closing = closing.strip()
    if "/" in closing:
        return (closing.replace("/", "", 1),)
    return tuple(closing.replace(end, begin) for begin, end in BEGINNINGS if end in closing)


def after_thinking(text: str) -> str | None:
    """What follows the last think block of a text, in any markers; None where a block is opened and not closed.

    This is for texts that came without token ids. A text without markers is returned as it is. Bracketed words inside
    a text, such as "[reason]" in a letter, are not markers.
    """
    last = 0
    for found in re.finditer(NAMED, text):
        if ABOUT_THINKING.search(found[0]) and CLOSES.search(found[0]):
            last = found.end()
    for _, opening, closing in FORMLESS:
        if closing in text:
            last = max(last, text.rfind(closing) + len(closing))
        elif opening in text[last:]:
            return None
    if last:
        return text[last:]
    head = re.match(rf"\s*({NAMED})", text)
    begins_a_block = head is not None and ABOUT_THINKING.search(head[1]) is not None
    return None if begins_a_block or "<think>" in text else text
