"""One answer as another tool wrote it, with its thinking apart and how it ended.

A tool may keep the thinking apart itself, as inspect_ai does where it knows the model, or leave it in the text. There
the text is cut at the markers, of which the opening one may stand in the prompt:

    <think>A</think>B    thinking A, answer B          A</think>B    the same
    <think>A             thinking A, cut off           B             an answer without thinking
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mechdrift.pairs.chat import NO_MARKERS

MARKERS = ("<think>", "</think>")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideAnswer:
    """`id` and `asked` (its prompt, or fields of its row of data) say what it is an answer to; `closed`, `stopped` and
    `finished` are those of a `Completion`; `sample` counts answers to the same prompt, from 0."""

    id: str
    asked: tuple[str, ...]
    thinking: str
    answer: str
    closed: bool
    stopped: bool
    finished: bool
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideAnswers:
    """What a file holds: `model` and `tool` as it names them; `failed` counts samples that ended in an error and have
    no answer; `is_ending_known` is False where the tool does not write whether an answer was cut off."""

    model: str
    tool: str
    rows: tuple[OutsideAnswer, ...]
    failed: int = 0
    is_ending_known: bool = True


def cut_text(text: str, markers: Sequence[str] = MARKERS) -> tuple[str, str, bool]:
    """A text as thinking, answer, and whether its think block was closed."""
    opening, closing = markers
    if opening == NO_MARKERS:
        return "", text, True
    begins = text.lstrip().startswith(opening)
    before, found, after = text.partition(closing)
    if not found:
        return (text.lstrip().removeprefix(opening).strip(), "", False) if begins else ("", text, True)
    return before.lstrip().removeprefix(opening).strip(), after.lstrip(), True
