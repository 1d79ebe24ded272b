"""From a question to token ids with named roles, through the tokenizer's own chat template.

    system | user | template_tail | think_open | think | think_close | answer

Roles are found on token ids, never by searching rendered text. The template is applied to the question and to two other
contents. The ids that all renderings share at the start are `system` (system prompt and headers), the ids that they
share at the end are the `template_tail`, and the ids between are `user`. A think block that the template itself puts at
the very end of its generation prompt (as DeepSeek-R1's does) is cut off the tail and gets its own roles.

The think mode decides what follows the tail, in the markers of the model's own convention (`pairs.conventions`):

    none    the template's own generation prompt, with its thinking switch as the settings set it
    off     the generation prompt with the switch off; a model without a switch gets an empty block in its own markers
            ("ZeroThink", Jiang et al. 2025, https://arxiv.org/abs/2502.12025)
    own     the generation prompt with the switch on, an opened block (the template's, where it opens one), the given
            thinking ids, and the closing marker
    donor   the same, with another model's thinking

Answer ids, if given, come last. The last id before the answer is the readout position: its logits predict the first
answer token. Where a model has no block when thinking is off, there is no `think_close`, and the last token of the tail
takes its place (`roles`).

Markers and openings are tokenised in their place, behind the prompt and before an answer (`in_place`).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.conventions import ThinkConvention, read_convention
from mechdrift.pairs.markers import Injected, injected_of
from mechdrift.pairs.switches import options_of
from mechdrift.pairs.templates import apply_template, settings_of
from mechdrift.probes.in_place import (
    alone,
    covering,
    find,
    first_span,
    in_place,
    last_start,
    reads_as,
    shared_prefix,
    text_of,
)
from mechdrift.records import MechdriftError, ProbeItem, Rendered, ThinkMode

OTHER_CONTENTS = ("Zebra?", "9 oboes, (quietly)")
TRIED = "Why?"  # the prompt after which markers are tokenised
BEFORE, AFTER = ("Hm", "Hm.", "Hm\n", "7", ")"), "Yes"  # texts around a marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The conversation around a request: `turns` before it, as (role, text), further text for the `system` message,
    and the role of the `speaker`. In a rendered prompt, the turns are part of the role `system`."""

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
        """Ids that open a think block after a prompt that does not open one itself."""
        return self._in_place(self._bare_prompt, self.convention.opening, BEFORE[0])

    @cached_property
    def close_ids(self) -> tuple[int, ...]:
        """Ids that close a think block, line breaks included, between a thought and an answer."""
        before = self._bare_prompt + self.convention.opening
        for thought in BEFORE:
            ids = self._in_place(before + thought, self.convention.closing, AFTER)
            if reads_as(self.tokenizer, ids, self.convention.closing):
                return ids
        return alone(self.tokenizer, self.convention.closing)

    @cached_property
    def open_marker(self) -> tuple[int, ...]:
        return self._marker(self.convention.open)

    @cached_property
    def close_marker(self) -> tuple[int, ...]:
        return self._marker(self.convention.close)

    @cached_property
    def empty_block(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the empty think block, tokenised as one text: those before the close marker, and the rest."""
        convention = self.convention
        opening = self._end(self._state("none")).opening or convention.opening
        ids = self._in_place(self._bare_prompt, opening + convention.closing, AFTER)
        cut = find(ids, self.close_marker)
        if cut is None:
            cut = last_start(self.tokenizer, ids, convention.close)
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
        """Ids that close this thought. Where the thought's last token already holds the line break before the marker
        (merged with a full stop), they begin at the marker."""
        lead = self.convention.lead
        if not lead or not thinking or self.settings.apart:
            return self.close_ids
        last = text_of(self.tokenizer, thinking[-1:])
        if last == lead or not last.endswith(lead):
            return self.close_ids
        return self.close_ids[self.lead_width :]

    @cached_property
    def lead_width(self) -> int:
        """The number of `close_ids` before the close marker."""
        start = find(self.close_ids, self.close_marker)
        return last_start(self.tokenizer, self.close_ids, self.convention.close) if start is None else start

    def find_close(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """The half-open span of the tokens in which the close marker first occurs in ids that a model wrote, or
        None."""
        if not self.convention.close:
            return None
        if not self.settings.apart and (found := first_span(self.tokenizer, ids, self.convention.close)):
            return found
        start = find(ids, self.close_marker)  # decoding may have stopped before the marker's last token
        return None if start is None else (start, start + len(self.close_marker))

    def begins_a_block(self, ids: Sequence[int]) -> bool:
        """Whether a text that a model wrote begins with its open marker."""
        marker = self.convention.open
        head = text_of(self.tokenizer, ids[: len(self.open_marker) + 4]) if marker else ""
        return bool(marker) and head.lstrip().startswith(marker)

    def opens_a_block(self, think: ThinkMode) -> bool:
        """Whether the prompt of this think mode ends inside a think block, which the model is to close."""
        end = self._end(self._state(think))
        return (
            bool(self.convention.open)
            if think in ("own", "donor")
            else think == "none" and bool(end.opening) and not end.closing
        )

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Ids of an answer (or thought), tokenised in its place after the prompt and a closed block."""
        if text not in self._answers:
            ids = self._in_place(self._bare_prompt + self.convention.opening + self.convention.closing, text, "")
            self._answers[text] = ids
        return self._answers[text]

    @cached_property
    def _answers(self) -> dict[str, tuple[int, ...]]:
        return {}

    @property
    def _needs_a_block(self) -> bool:
        """Whether the model has no switch, so that only an empty block keeps it from thinking."""
        return self.convention.switch is None and bool(self.convention.open)

    def _state(self, think: ThinkMode) -> bool | None:
        """How a think mode sets the template's switch; None leaves it as the settings say."""
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
        start = min(shared_prefix(ids, other) for other in others)
        tail = min(shared_prefix(ids[start:][::-1], other[start:][::-1]) for other in others)
        stop = len(ids) - tail
        if start >= stop or tail == 0:
            raise MechdriftError(
                f"the chat template of this tokenizer hides the user's text ({prompt!r:.60}): correct the template."
            )
        return {"system": ids[:start], "user": ids[start:stop], **self._split_tail(ids[stop:], self._end(thinks))}

    def _split_tail(self, tail: tuple[int, ...], end: Injected) -> dict[str, tuple[int, ...]]:
        """The tail, and apart from it the think block that the template opens, or opens and closes, at its end."""
        cut = last_start(self.tokenizer, tail, end.text.strip()) if end.text else len(tail)
        close = last_start(self.tokenizer, tail, end.closing.strip()) if end.closing else cut
        parts = {"template_tail": tail[:cut]}
        if end.opening:
            parts["think_open"] = tail[cut : close if end.closing else len(tail)]
        if end.closing:
            parts["think_close"] = tail[close:]
        return parts

    def _end(self, thinks: bool | None) -> Injected:
        """The think block that the generation prompt itself opens, or opens and closes, for this setting of the
        switch."""
        if thinks not in self._ends:
            message = ""
            with suppress(MechdriftError):  # some templates render prompts only
                message = self._text(thinks, is_prompt=False)
            self._ends[thinks] = injected_of(self._text(thinks), message, self.convention.open, self.convention.close)
        return self._ends[thinks]

    @cached_property
    def _ends(self) -> dict[bool | None, Injected]:
        return {}

    @cached_property
    def _bare_prompt(self) -> str:
        """The text of a generation prompt, without the think block that it opens."""
        text = self._text(True)
        return text.removesuffix(self._end(True).text)

    def _text(self, thinks: bool | None, *, is_prompt: bool = True) -> str:
        return str(self._apply(TRIED, thinks, tokenize=False, is_prompt=is_prompt))

    def _template(self, content: str, thinks: bool | None, situation: Situation) -> tuple[int, ...]:
        return tuple(self._apply(content, thinks, situation, tokenize=True))

    def _apply(
        self,
        content: str,
        thinks: bool | None,
        situation: Situation = ALONE,
        *,
        tokenize: bool,
        is_prompt: bool = True,
    ) -> Any:
        options = options_of(self.settings, self.convention.switch, thinks)
        if situation.system:
            said = options.get("system", self.settings.system)
            options["system"] = f"{said}\n\n{situation.system}" if said else situation.system
        placed = {"turns": situation.turns, "speaker": situation.speaker, "is_prompt": is_prompt}
        try:
            return apply_template(self.tokenizer, content, self.settings, tokenize=tokenize, **placed, **options)
        except Exception as error:  # a template is a program and may raise anything
            raise MechdriftError(
                f"the chat template of this tokenizer cannot render {content!r:.60} ({error!r:.120}): correct it."
            ) from error

    def _marker(self, text: str) -> tuple[int, ...]:
        """The ids of a marker, without a last id into which the tokenizer merges line breaks that follow it
        (`>\\n\\n`)."""
        if not text:
            return ()
        place = "" if self.settings.apart else BEFORE[2]
        bare, *glued = (covering(self.tokenizer, place, text, breaks) for breaks in ("", "\n", "\n\n"))
        return bare[: min(shared_prefix(bare, ids) for ids in glued)] or bare

    def _in_place(self, before: str, text: str, after: str) -> tuple[int, ...]:
        """Ids of `text` between `before` and `after`, as the model was trained on them."""
        if self.settings.apart:
            return alone(self.tokenizer, text)
        return in_place(self.tokenizer, before, text, after)

    def first_token(self, text: str) -> int:
        """The first id of an answer that begins with `text`. Each text is encoded only once."""
        if text not in self._first_tokens:
            self._first_tokens[text] = self.encode_answer(text)[0]
        return self._first_tokens[text]

    @cached_property
    def _first_tokens(self) -> dict[str, int]:
        return {}


def render_items(renderer: Renderer, items: Sequence[ProbeItem], think: ThinkMode) -> list[Rendered]:
    """`Renderer.render` for each item, without thinking or answer."""
    return [renderer.render(item.id, item.prompt, think) for item in items]
