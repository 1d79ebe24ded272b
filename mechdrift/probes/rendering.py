"""From a question to token ids with named roles, through the tokenizer's own chat template.

    system | user | template_tail | think_open | think | think_close | answer

Roles are found on token ids, never by searching rendered text. The template is applied to the question and to two other
contents: the ids that all renderings share at the start are `system` (system prompt and headers), the ids they share at
the end are the `template_tail`, and what lies between is the user's content. A think block that the template itself
puts at the very end of its generation prompt (as DeepSeek-R1's does) is cut off the tail and named.

After the tail the think mode decides what follows, in the markers of the model's own convention (`pairs.conventions`):

    none    the template's own generation prompt, untouched, with its thinking switch where the settings have it
    off     the generation prompt with the switch off; a model without a switch gets an empty block in its own markers
            ("ZeroThink", Jiang et al. 2025, https://arxiv.org/abs/2502.12025)
    own     the switch on, an opened block (the template's, where it opens one), given thinking ids, the closing
    donor   the same, with another model's thinking

Then, if given, answer ids. The last id before the answer is the readout position: its logits predict the first answer
token. A model whose convention has no block when thinking is off has no `think_close` there: the last token of the tail
takes its place (`roles`).

Markers and openings are tokenised where they stand, behind the prompt and before an answer, because a tokenizer may
split a text alone in another way than in its place. (SmolLM2's writes `</think>\\n\\nYes` with two line breaks, and
`</think>\\n\\n` alone with one double one; Llama 2's puts `▁` before what comes first.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.conventions import ThinkConvention, read_convention
from mechdrift.pairs.markers import Injected, injected_of
from mechdrift.pairs.switches import options_of
from mechdrift.pairs.templates import apply_template, settings_of
from mechdrift.records import MechdriftError, ProbeItem, Rendered, ThinkMode

OTHER_CONTENTS = ("Zebra?", "9 oboes, (quietly)")
TRIED = "Why?"  # the prompt behind which markers are tokenised
BEFORE, AFTER = ("Hm", "Hm.", "Hm\n", "7", ")"), ("Yes", "", "\n", "\n\n", " Yes")  # what may stand round a marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a request stands in: `turns` before it, as (who, what), more words of the `system` message, and who says the
    request. Turns before it are part of the role `system`."""

    turns: tuple[tuple[str, str], ...] = ()
    system: str = ""
    speaker: str = "user"


ALONE = Situation()


@dataclass(frozen=True)
class Renderer:
    """A tokenizer's template, ready to render questions. Make one per tokenizer and reuse it."""

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def settings(self) -> ChatSettings:
        return settings_of(self.tokenizer)

    @cached_property
    def convention(self) -> ThinkConvention:
        return read_convention(self.tokenizer, self.settings)

    @cached_property
    def open_ids(self) -> tuple[int, ...]:
        """What opens a think block, behind a prompt that does not open one itself."""
        return self._in_place(self._bare_prompt, self.convention.opening, BEFORE[0])

    @cached_property
    def close_ids(self) -> tuple[int, ...]:
        """What closes a think block, line breaks included, as it stands between a thought and an answer."""
        before = self._bare_prompt + self.convention.opening
        for thought in BEFORE:
            ids = self._in_place(before + thought, self.convention.closing, AFTER[0])
            if self._says(ids, self.convention.closing):
                return ids
        return self._encode(self.convention.closing)

    @cached_property
    def open_marker(self) -> tuple[int, ...]:
        return self._marker(self.convention.open)

    @cached_property
    def close_marker(self) -> tuple[int, ...]:
        return self._marker(self.convention.close)

    @cached_property
    def close_markers(self) -> tuple[tuple[int, ...], ...]:
        """All the ways in which the close marker is tokenised after one thought or another, glued to what stands round
        it or not: decoding may stop at any of them."""
        if not self.convention.close:
            return ()
        if self.settings.apart:
            return (self.close_marker,)
        head = self._bare_prompt + self.convention.opening
        found = {self._covering(head + before, self.convention.close, after) for before in BEFORE for after in AFTER}
        return tuple(sorted({ids for ids in found if ids} | {self.close_marker}))

    @cached_property
    def empty_block(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the empty think block, tokenised as one text, cut before the close marker."""
        convention = self.convention
        opening = self._end(self._state("none")).opening or convention.opening
        ids = self._in_place(self._bare_prompt, opening + convention.closing, AFTER[0])
        cut = find(ids, self.close_marker)
        if cut is None:
            cut = _spanning(self.tokenizer, ids, convention.close)[0]
        return ids[:cut], ids[cut:]

    def render(
        self,
        item_id: str,
        prompt: str,
        think: ThinkMode,
        *,
        thinking: Sequence[int] = (),
        answer: Sequence[int] = (),
        situation: Situation = ALONE,
    ) -> Rendered:
        """Token ids and role spans of one question; `thinking` is used by the modes `own` and `donor` only.

        Raises `MechdriftError` for an unknown think mode and where the template cannot render the prompt.
        """
        if think not in ThinkMode.__args__:
            raise MechdriftError(f"unknown think mode {think!r}: use one of {', '.join(ThinkMode.__args__)}.")
        chunks = self._prompt(prompt, self._state(think), situation) | {"answer": tuple(answer)}
        if think in ("own", "donor"):
            chunks |= self._thought(chunks, tuple(thinking))
        elif think == "off" and self._needs_a_block and "think_close" not in chunks:
            chunks |= dict(zip(("think_open", "think_close"), self.empty_block, strict=True))
        ids: list[int] = []
        roles: dict[str, tuple[int, int]] = {}
        for role in ("system", "user", "template_tail", "think_open", "think", "think_close", "answer"):
            if chunk := chunks.get(role):
                roles[role] = (len(ids), len(ids) + len(chunk))
                ids += chunk
        return Rendered(item_id=item_id, ids=tuple(ids), roles=roles)

    def closing_after(self, thinking: Sequence[int]) -> tuple[int, ...]:
        """What closes this thought: without the line break before the marker where the thought's last token holds it
        already, glued to a full stop."""
        lead = self.convention.lead
        if not lead or not thinking or self.settings.apart:
            return self.close_ids
        last = text_of(self.tokenizer, thinking[-1:])
        if last == lead or not last.endswith(lead):
            return self.close_ids
        return self.close_ids[self.lead_width :]

    @cached_property
    def lead_width(self) -> int:
        """How many of `close_ids` stand before the close marker."""
        start = find(self.close_ids, self.close_marker)
        return _spanning(self.tokenizer, self.close_ids, self.convention.close)[0] if start is None else start

    def find_close(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Where the close marker first stands in ids that a model wrote: the half-open span of the tokens that it
        covers."""
        if not self.convention.close:
            return None
        if not self.settings.apart and (found := _first_span(self.tokenizer, ids, self.convention.close)):
            return found
        start = find(ids, self.close_marker)  # also where decoding stopped before a last token that glues line breaks
        return None if start is None else (start, start + len(self.close_marker))

    def begins_a_block(self, ids: Sequence[int]) -> bool:
        """Whether a text that a model wrote begins with its open marker."""
        marker = self.convention.open
        head = text_of(self.tokenizer, ids[: len(self.open_marker) + 4]) if marker else ""
        return bool(marker) and head.lstrip().startswith(marker)

    def opens_a_block(self, think: ThinkMode) -> bool:
        """Whether the prompt of this think mode ends inside a think block that the model is to close."""
        end = self._end(self._state(think))
        return bool(self.convention.open) if think in ("own", "donor") else think == "none" and _is_open(end)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Ids of an answer (or thought), as it is tokenised behind the prompt and a closed block."""
        if text not in self._answers:
            ids = self._in_place(self._bare_prompt + self.convention.opening + self.convention.closing, text, "")
            self._answers[text] = ids
        return self._answers[text]

    @cached_property
    def _answers(self) -> dict[str, tuple[int, ...]]:
        return {}

    @property
    def _needs_a_block(self) -> bool:
        """Whether a model without a switch is kept from thinking by an empty block in its own markers."""
        return self.convention.switch is None and bool(self.convention.open)

    def _state(self, think: ThinkMode) -> bool | None:
        """How a think mode sets the template's switch; None means as the model is used."""
        return {"none": None, "off": False}.get(think, True)

    def _thought(self, chunks: dict[str, tuple[int, ...]], thinking: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        opened = chunks.get("think_open", ()) if "think_close" not in chunks else ()
        return {
            "think_open": opened or self.open_ids,
            "think": thinking,
            "think_close": self.closing_after(thinking) if self.convention.close else (),
        }

    def _prompt(self, prompt: str, thinks: bool | None, situation: Situation) -> dict[str, tuple[int, ...]]:
        ids, *others = (self._template(content, thinks, situation) for content in (prompt, *OTHER_CONTENTS))
        start = min(_shared(ids, other) for other in others)
        tail = min(_shared(ids[start:][::-1], other[start:][::-1]) for other in others)
        stop = len(ids) - tail
        if start >= stop or tail == 0:
            raise MechdriftError(
                f"the chat template of this tokenizer hides the user's text ({prompt!r:.60}): correct the template."
            )
        return {"system": ids[:start], "user": ids[start:stop], **self._split_tail(ids[stop:], self._end(thinks))}

    def _split_tail(self, tail: tuple[int, ...], end: Injected) -> dict[str, tuple[int, ...]]:
        """The tail, apart from the think block that the template opens, or opens and closes, at its end."""
        cut = _spanning(self.tokenizer, tail, end.text.strip())[0] if end.text else len(tail)
        close = cut
        if end.closing:
            close = _spanning(self.tokenizer, tail, end.closing.strip())[0]
        parts = {"template_tail": tail[:cut]}
        if end.opening:
            parts["think_open"] = tail[cut : close if end.closing else len(tail)]
        if end.closing:
            parts["think_close"] = tail[close:]
        return parts

    def _end(self, thinks: bool | None) -> Injected:
        """What the generation prompt itself ends with, when the switch is set so."""
        if thinks not in self._ends:
            self._ends[thinks] = injected_of(self._text(thinks), self.convention.open, self.convention.close)
        return self._ends[thinks]

    @cached_property
    def _ends(self) -> dict[bool | None, Injected]:
        return {}

    @cached_property
    def _bare_prompt(self) -> str:
        """A generation prompt, as text, without the block that it opens."""
        text = self._text(True)
        return text.removesuffix(self._end(True).text)

    def _text(self, thinks: bool | None) -> str:
        return str(self._apply(TRIED, thinks, tokenize=False))

    def _template(self, content: str, thinks: bool | None, situation: Situation) -> tuple[int, ...]:
        return tuple(self._apply(content, thinks, situation, tokenize=True))

    def _apply(self, content: str, thinks: bool | None, situation: Situation = ALONE, *, tokenize: bool) -> Any:
        options = options_of(self.settings, self.convention.switch, thinks)
        if situation.system:
            said = options.get("system", self.settings.system)
            options["system"] = f"{said}\n\n{situation.system}" if said else situation.system
        placed = {"turns": situation.turns, "speaker": situation.speaker}
        try:
            return apply_template(self.tokenizer, content, self.settings, tokenize=tokenize, **placed, **options)
        except Exception as error:  # a template is a program, and fails in any way it likes
            raise MechdriftError(
                f"the chat template of this tokenizer cannot render {content!r:.60} ({error!r:.120}): correct it."
            ) from error

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _marker(self, text: str) -> tuple[int, ...]:
        """The ids of a marker, without a last one to which the tokenizer glues the line breaks that follow it
        (`>\\n\\n`)."""
        if not text:
            return ()
        place = "" if self.settings.apart else f"{BEFORE[2]}"
        alone, *glued = (self._in_place(place, text, breaks, covered=True) for breaks in ("", "\n", "\n\n"))
        return alone[: min(_shared(alone, ids) for ids in glued)] or alone

    def _in_place(self, before: str, text: str, after: str, *, covered: bool = False) -> tuple[int, ...]:
        """Ids of `text` as the tokenizer writes it between `before` and `after`; alone where it glues them together.

        With `covered`, tokens that hold more than the text count as well.
        """
        if self.settings.apart and not covered:
            return self._encode(text)
        if covered:
            return self._covering(before, text, after)
        start, stop = len(before), len(before) + len(text)
        ids = tuple(i for i, (a, b) in self._offsets(before + text + after) if start <= a and b <= stop and a < stop)
        return ids if self._says(ids, text) else self._encode(text)

    def _covering(self, before: str, text: str, after: str) -> tuple[int, ...]:
        """Ids of all tokens that hold a part of `text` where it stands."""
        start, stop = len(before), len(before) + len(text)
        ids = tuple(i for i, (a, b) in self._offsets(before + text + after) if a < stop and b > start)
        return ids or self._encode(text)

    def _offsets(self, text: str) -> list[tuple[int, tuple[int, int]]]:
        """Each id of a text with the characters that it stands for; nothing where the tokenizer does not tell."""
        if not self.tokenizer.is_fast:
            return []
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(zip(found["input_ids"], found["offset_mapping"], strict=True))

    def _says(self, ids: Sequence[int], text: str) -> bool:
        return text_of(self.tokenizer, ids).strip(" ") == text.strip(" ")

    def first_token(self, text: str) -> int:
        """The first id of an answer that begins with `text`. Every text is encoded once."""
        if text not in self._first_tokens:
            self._first_tokens[text] = self.encode_answer(text)[0]
        return self._first_tokens[text]

    @cached_property
    def _first_tokens(self) -> dict[str, int]:
        return {}


def render_items(renderer: Renderer, items: Sequence[ProbeItem], think: ThinkMode) -> list[Rendered]:
    """`Renderer.render` for each item, without thinking or answer."""
    return [renderer.render(item.id, item.prompt, think) for item in items]


def find(ids: Sequence[int], part: Sequence[int]) -> int | None:
    """Where `part` first occurs in `ids`, or None."""
    width = len(part)
    return next((i for i in range(len(ids) - width + 1) if tuple(ids[i : i + width]) == tuple(part)), None)


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Ids as they were written: special tokens and spaces stay."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _is_open(end: Injected) -> bool:
    return bool(end.opening) and not end.closing


def _first_span(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> tuple[int, int] | None:
    """The tokens in which a text first occurs in the decoded ids, by bisection over prefixes."""
    if text not in text_of(tokenizer, ids):
        return None
    low, high = 0, len(ids)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if text in text_of(tokenizer, ids[:middle]) else (middle, high)
    return _spanning(tokenizer, ids[:high], text)[0], high


def _spanning(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> tuple[int, int]:
    """The shortest stretch at the end of `ids` that still holds a text."""
    start = next((i for i in range(len(ids) - 1, -1, -1) if text in text_of(tokenizer, ids[i:])), 0)
    return start, len(ids)


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
