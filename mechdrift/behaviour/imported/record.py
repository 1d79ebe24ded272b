"""One answer from another tool, with its thinking separated, and how it ended.

A tool may separate the thinking itself, as inspect_ai does where it knows the model, or leave it in the text. Such a
text is cut at the markers. The opening marker may be in the prompt and not in the text:

    <think>A</think>B    thinking A, answer B          A</think>B    the same
    <think>A             thinking A, cut off           B             an answer without thinking
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mechdrift.pairs.chat import NO_MARKERS

MARKERS = ("<think>", "</think>")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideAnswer:
    """One answer. `id` (empty where it is a number that the tool counted by itself) and `asked` (its prompt, or fields
    of its row of data) say to what it is an answer; `closed`, `stopped` and `finished` are those of a `Completion`;
    `sample` numbers the answers to one prompt from 0."""

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
    """The answers of a file, with the names of model and tool. `failed` counts samples that ended in an error and have
    no answer; `is_ending_known` is False where the tool does not say whether an answer was cut off."""

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
