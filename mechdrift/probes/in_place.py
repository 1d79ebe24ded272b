"""Token ids of a text in its place, and the place of a text among token ids.

A tokenizer may split a text differently alone and in its place. SmolLM2's writes `</think>\\n\\nYes` with two line
breaks, and `</think>\\n\\n` alone with one double line break; Llama 2's puts `▁` before the first token of a text. So a
text is tokenised together with what stands before and after it, and its own tokens are picked out by their offsets.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


def alone(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Ids of a text tokenised by itself, without special tokens."""
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def in_place(tokenizer: PreTrainedTokenizerBase, before: str, text: str, after: str) -> tuple[int, ...]:
    """Ids of `text` as the tokenizer writes it between `before` and `after`; alone where it merges it with them."""
    start, stop = len(before), len(before) + len(text)
    offsets = _offsets(tokenizer, before + text + after)
    ids = tuple(i for i, (a, b) in offsets if start <= a and b <= stop and a < stop)
    return ids if reads_as(tokenizer, ids, text) else alone(tokenizer, text)


def covering(tokenizer: PreTrainedTokenizerBase, before: str, text: str, after: str) -> tuple[int, ...]:
    """Ids of all tokens that hold a part of `text` between `before` and `after`, also of those that hold more."""
    start, stop = len(before), len(before) + len(text)
    ids = tuple(i for i, (a, b) in _offsets(tokenizer, before + text + after) if a < stop and b > start)
    return ids or alone(tokenizer, text)


def _offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, tuple[int, int]]]:
    """Each id of a text with the span of its characters; empty where the tokenizer cannot give them."""
    if not tokenizer.is_fast:
        return []
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(zip(found["input_ids"], found["offset_mapping"], strict=True))


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, with special tokens and spaces as they were written."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def reads_as(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> bool:
    """Whether ids decode to a text, up to spaces around it."""
    return text_of(tokenizer, ids).strip(" ") == text.strip(" ")


def find(ids: Sequence[int], part: Sequence[int]) -> int | None:
    """Where `part` first occurs in `ids`, or None."""
    width = len(part)
    return next((i for i in range(len(ids) - width + 1) if tuple(ids[i : i + width]) == tuple(part)), None)


def first_span(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> tuple[int, int] | None:
    """The half-open span of tokens in which a text first occurs in the decoded ids, by bisection over prefixes."""
    if text not in text_of(tokenizer, ids):
        return None
    low, high = 0, len(ids)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if text in text_of(tokenizer, ids[:middle]) else (middle, high)
    return last_start(tokenizer, ids[:high], text), high


def last_start(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> int:
    """The latest start of a stretch that reaches to the end of `ids` and holds a text; 0 where no stretch does."""
    return next((i for i in range(len(ids) - 1, -1, -1) if text in text_of(tokenizer, ids[i:])), 0)


def shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
