"""What a model wrote, cut into thinking and answer on its token ids, by its own think convention.

    cut_thinking    of text after an opened block: the thinking before the close marker, and whether the model wrote it
    cut_block       of an answer that begins with an unrequested think block: the block, and the answer after it
    closes_blocks   whether a model's first thoughts show that it knows the markers

The last one matters where markers were only assumed. A model that was trained without markers (by reinforcement
learning alone, or to reason in plain text) ends its turn and never closes a block. Then the whole text is its answer,
and the model is asked without a block from then on. Where markers were recognised or given and no thought closes,
something is wrong, and mechdrift stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mechdrift.pairs.chat import NO_MARKERS
from mechdrift.pairs.templates import settings_of, with_settings
from mechdrift.probes.in_place import text_of
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, MechdriftError

PROOF = 16  # thoughts that are examined before all others are asked for
LEAST = 4  # fewer thoughts prove nothing


@dataclass(frozen=True, slots=True)
class Cut:
    """A text cut in two: the thinking, which begins at token `start`, and the answer at the end.

    `closed` is False where the block has no end; the answer is then empty.
    """

    start: int
    thinking: tuple[int, ...]
    answer: tuple[int, ...]
    closed: bool


def cut_thinking(renderer: Renderer, written: tuple[int, ...], ends: frozenset[int]) -> tuple[tuple[int, ...], bool]:
    """The thinking ids before the close marker, and whether the model wrote that marker itself."""
    span = renderer.find_close(written)
    if span is None:
        return tuple(i for i in written if i not in ends), False
    thinking = written[: span[0]]
    # The line break before the marker belongs to the marker: it is prefilled again with `close_ids`.
    lead = renderer.close_ids[: renderer.lead_width]
    return (thinking[: -len(lead)] if lead and thinking[-len(lead) :] == lead else thinking), True


def cut_block(renderer: Renderer, written: tuple[int, ...], is_open: bool) -> Cut | None:
    """The think block at the head of an answer, and what follows it; None where there is none.

    `is_open` says that the prompt already ends inside a block, because the template opens one itself.
    """
    if not is_open and not renderer.begins_a_block(written):
        return None
    start = 0 if is_open else _open_width(renderer, written)
    span = renderer.find_close(written[start:])
    if span is None:
        return Cut(start=start, thinking=written[start:], answer=(), closed=False)
    rest = written[start + span[1] :]
    blank = next((i for i, token in enumerate(rest) if text_of(renderer.tokenizer, (token,)).strip()), len(rest))
    return Cut(start=start, thinking=written[start : start + span[0]], answer=rest[blank:], closed=True)


def _open_width(renderer: Renderer, written: Sequence[int]) -> int:
    """How many tokens the open marker at the head of a text takes."""
    marker = renderer.convention.open
    return next(i for i in range(1, len(written) + 1) if marker in text_of(renderer.tokenizer, written[:i]))


def closes_blocks(renderer: Renderer, name: str, rows: Sequence[Completion]) -> bool:
    """Whether a model's first thoughts allow to keep the markers of its convention.

    False where they were only assumed and the model never uses them. Raises `MechdriftError` where they were recognised
    or given, and the model does not use them. Thoughts that the budget cut, or fewer than four thoughts, prove nothing.
    """
    stopped = sum(row.stopped for row in rows)
    if len(rows) < LEAST or any(row.closed for row in rows) or 2 * stopped < len(rows):
        return True
    convention = renderer.convention
    if convention.source == "assumed":
        return False
    raise MechdriftError(
        f"not one of the first {len(rows)} thoughts of {name} closes its block with {convention.close!r}, and "
        f"{stopped} end without it: give the markers that it writes with --think-open and --think-close, or "
        "--think-open none if it has none."
    )


def ask_without_markers(renderer: Renderer) -> Renderer:
    """A renderer of the same tokenizer, which is used without think markers from now on."""
    tokenizer = renderer.tokenizer
    return Renderer(with_settings(tokenizer, replace(settings_of(tokenizer), think_open=NO_MARKERS)))
