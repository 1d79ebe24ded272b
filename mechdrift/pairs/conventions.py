"""How a model thinks: its markers, its switch and its system message, read off its tokenizer and chat template.

Models differ in how thinking begins and ends, and in how it is switched on and off. None of this is a constant in the
code. A `ThinkConvention` holds it for one model. It is looked for in this order:

    given       the user named the markers (`--think-open`, `--think-close`, or a pair file)
    template    the template writes them: at the end of its generation prompt, round the reasoning of an earlier
                assistant message (which is rendered to see it), or as words of its source
    tokenizer   the vocabulary has added tokens of that form
    assumed     nothing was found: `<think>` and `</think>` are tried, and given up when no answer closes its block
    none        the model has no markers: all that it writes is its answer

Markers are recognised by form, not by name: two bracketed words about thinking, where one closes the other (`<x>` and
`</x>`, `[X]` and `[/X]`, `begin` and `end`, `<|x>` and `<x|>`). Only channels (`<|channel|>analysis`) and plain
sentences have no such form; they are listed in `markers`.

`switches` finds what turns thinking on and off.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from transformers import PreTrainedTokenizerBase

from mechdrift.errors import MechdriftError
from mechdrift.pairs.chat import NO_MARKERS, ChatSettings
from mechdrift.pairs.markers import (
    ABOUT_THINKING,
    CLOSES,
    FORMLESS,
    MARKER,
    NAMED,
    Injected,
    breaks,
    closings,
    first_in,
    injected,
    openings,
)
from mechdrift.pairs.switches import Switch, find_switch, options_of
from mechdrift.pairs.templates import ANSWERED, ASKED, added_tokens, chat_text, rendered, settings_of, template_of

Source = Literal["given", "template", "tokenizer", "assumed", "none"]

THOUGHT = "Zebras were counted."


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkConvention:
    """How one model thinks. `opening` and `closing` are the texts round a thought, line breaks included; `open` and
    `close` the markers in them. Empty where the model has no markers."""

    opening: str
    closing: str
    source: Source
    switch: Switch | None = None

    @property
    def open(self) -> str:
        return self.opening.strip()

    @property
    def close(self) -> str:
        return self.closing.strip()

    @property
    def lead(self) -> str:
        """What stands between a thought and its close marker."""
        return self.closing[: self.closing.find(self.close)]

    def __str__(self) -> str:
        found = {
            "given": "as given",
            "template": "read off the chat template",
            "tokenizer": "read off the vocabulary",
            "assumed": "assumed, as the tokenizer says nothing about thinking",
        }
        markers = (
            "no think markers: all that it writes is its answer"
            if self.source == "none"
            else f"thinks between {self.opening!r} and {self.closing!r} ({found[self.source]})"
        )
        return f"{markers}; switched by {self.switch}" if self.switch else f"{markers}; no switch"


ASSUMED = ThinkConvention(opening="<think>\n", closing="\n</think>\n\n", source="assumed")


def read_convention(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings | None = None) -> ThinkConvention:
    """The model's think convention; the module's text says where it is looked for, and in which order.

    Raises `MechdriftError` where one marker is given and the other cannot be derived from it.
    """
    settings = settings_of(tokenizer) if settings is None else settings
    switch = find_switch(tokenizer, settings)
    opening, closing, source = _markers(tokenizer, settings, switch)
    return ThinkConvention(opening=opening, closing=closing, source=source, switch=switch)


def _markers(
    tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, switch: Switch | None
) -> tuple[str, str, Source]:
    if settings.think_open or settings.think_close:
        return _given_markers(settings)
    on = options_of(settings, switch, True)
    found = _echoed(tokenizer, settings, on) or _injected_pair(tokenizer, settings, switch)
    if found:
        return (*found, "template")
    template, vocabulary = template_of(tokenizer), added_tokens(tokenizer)
    if found := _written(template) or _formless(template + vocabulary):
        return (*found, "template")
    if found := _written(vocabulary):
        return (*found, "tokenizer")
    return (ASSUMED.opening, ASSUMED.closing, "assumed")


def _given_markers(settings: ChatSettings) -> tuple[str, str, Source]:
    opening, closing = settings.think_open, settings.think_close
    if NO_MARKERS in (opening, closing):
        return "", "", "none"
    opening = breaks(opening or next(iter(openings(closing or "")), ""))
    closing = breaks(closing or next(iter(closings(opening.strip())), ""))
    if not opening.strip() or not closing.strip():
        lacking = "--think-close" if settings.think_open else "--think-open"
        raise MechdriftError(
            f"the marker {settings.think_open or settings.think_close!r} has no form from which its partner could be "
            f"derived: give {lacking} as well."
        )
    return opening, closing, "given"


def _echoed(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, on: Mapping) -> tuple[str, str] | None:
    """Opening and closing, as the template writes them round the reasoning of an assistant's message."""
    options = dict(on)
    system = options.pop("system", settings.system)
    asked = [{"role": "system", "content": system}] * (system is not None) + [{"role": "user", "content": ASKED}]
    prompt = rendered(tokenizer, settings, on) or ""
    for answer in (
        {"content": ANSWERED, "reasoning_content": THOUGHT, "thinking": THOUGHT, "reasoning": THOUGHT},
        {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWERED}]},
    ):
        try:
            dialogue = [*asked, {"role": "assistant", **answer}]
            text = chat_text(tokenizer, dialogue, settings, tokenize=False, **options)
        except MechdriftError:
            raise
        except Exception:  # noqa: BLE001 - most templates know only some of these fields
            continue
        before, thought, after = str(text).partition(THOUGHT)
        between, answered, _ = after.partition(ANSWERED)
        opening = _after_header(before, prompt)
        if thought and answered and between.strip() and re.search(MARKER, opening) and "'type'" not in before:
            return opening, between
    return None


def _after_header(before: str, prompt: str) -> str:
    """What a template writes between the assistant's header and its reasoning."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, prompt, strict=False)))
    rest = before[shared:]
    if rest.strip():
        return rest
    at_end = re.search(rf"{NAMED}\s*$", before)
    return at_end[0] if at_end and ABOUT_THINKING.search(at_end[0]) else ""


def _injected_pair(
    tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, switch: Switch | None
) -> tuple[str, str] | None:
    """Opening and closing, from generation prompts that end with an opened or closed block."""
    prompts = [rendered(tokenizer, settings, options_of(settings, switch, on)) or "" for on in (True, False, None)]
    ends = [injected(prompt) for prompt in prompts]
    opened = next((end.opening for end in ends if end.opening and not end.closing), "")
    block = next((end for end in ends if end.closing), Injected())
    if not opened and not block.text:
        return None
    space = block.opening.removeprefix(block.opening.strip())
    half = space[: (len(space) + 1) // 2]  # of `<think>\n\n</think>`, each marker gets half of the line breaks
    known = template_of(tokenizer) + added_tokens(tokenizer)
    opening = opened or (block.opening.strip() + half if block.opening else first_in(known, openings(block.closing)))
    # An empty block shows how a thought ends only where it is written with the same line breaks as an opened block.
    is_like = block.closing and (not opened or bool(space) == opened.endswith("\n"))
    closing = space.removeprefix(half) + block.closing if is_like else _closing_for(opening, known)
    return (opening, closing) if opening and closing else None


def _written(text: str) -> tuple[str, str] | None:
    """The pair of markers that a template's source or a vocabulary names most often, with its line breaks."""
    counts: dict[tuple[str, str], int] = {}
    for marker in re.findall(NAMED, text):
        if pair := _pairs_with(marker, text):
            counts[pair] = counts.get(pair, 0) + 1
    if not counts:
        return None
    opening, closing = max(counts, key=lambda pair: counts[pair])
    lines = max((breaks(found) for found in re.findall(re.escape(opening) + r"((?:\\n|\n)*)", text)), default="")
    if not opening.startswith("<"):
        return opening + lines, closing
    return opening + (lines or "\n"), f"\n{closing}\n\n"  # tags are written on lines of their own


def _closing_for(opening: str, known: str) -> str:
    """The closing text of an opening that the template injects."""
    closing = first_in(known, closings(opening.strip()))
    lead = "\n" if opening.endswith("\n") else ""
    return f"{lead}{closing}\n\n" if closing else ""


def _pairs_with(marker: str, text: str) -> tuple[str, str] | None:
    """The opening and the closing marker to which `marker` belongs; None where the text does not close it."""
    if not ABOUT_THINKING.search(marker):
        return None
    if CLOSES.search(marker):
        return (first_in(text, openings(marker)), marker) if openings(marker) else None
    return next(((marker, closing) for closing in closings(marker) if closing in text), None)


def _formless(text: str) -> tuple[str, str] | None:
    """A convention of the list, where the text has all that belongs to it."""
    return next(((opening, closing) for words, opening, closing in FORMLESS if all(w in text for w in words)), None)
