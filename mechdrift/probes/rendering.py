"""From a question to token ids with named roles, through the tokenizer's own chat template.

    system | user | template_tail | think_open | think | think_close | answer

Roles are found on token ids, never by searching rendered text. The template is applied to the question and to two other
contents: the ids that all renderings share at the start are `system` (system prompt and headers), the ids they share at
the end are the `template_tail`, and what lies between is the user's content. A template that injects an opening think
marker into its generation prompt (as DeepSeek-R1's does) has it cut off the tail and named `think_open`.

After the tail comes what the think mode asks for. `none`: nothing. `off`: an empty block, `<think>\\n\\n</think>\\n\\n`
("ZeroThink", Jiang et al. 2025, https://arxiv.org/abs/2502.12025). `own` and `donor`: an open marker, given thinking
ids, a close marker. Then, if given, answer ids. The last id before the answer is the readout position: its logits
predict the first answer token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from mechdrift.records import MechdriftError, ProbeItem, Rendered, ThinkMode

THINK_OPEN, THINK_CLOSE = "<think>\n", "\n</think>\n\n"
OTHER_CONTENTS = ("Zebra?", "9 oboes, (quietly)")


@dataclass(frozen=True)
class Renderer:
    """A tokenizer's template, ready to render questions. Make one per tokenizer and reuse it."""

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def open_ids(self) -> tuple[int, ...]:
        return self._encode(THINK_OPEN)

    @cached_property
    def close_ids(self) -> tuple[int, ...]:
        return self._encode(THINK_CLOSE)

    @cached_property
    def open_marker(self) -> tuple[int, ...]:
        return self._marker("<think>")

    @cached_property
    def close_marker(self) -> tuple[int, ...]:
        return self._marker("</think>")

    def _marker(self, text: str) -> tuple[int, ...]:
        """The ids of a marker alone, without a last one to which the tokenizer glues the line breaks that follow it
        (`>\\n\\n`)."""
        alone, *glued = (self._encode(text + breaks) for breaks in ("", "\n", "\n\n"))
        return alone[: min(_shared(alone, ids) for ids in glued)] or alone

    @cached_property
    def empty_block(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the empty think block, tokenised as one text, cut before the close marker."""
        ids = self._encode(THINK_OPEN + THINK_CLOSE)
        cut = find(ids, self.close_marker)
        return (ids[:cut], ids[cut:]) if cut is not None else (self.open_ids, self.close_ids)

    def render(
        self,
        item_id: str,
        prompt: str,
        think: ThinkMode,
        *,
        thinking: Sequence[int] = (),
        answer: Sequence[int] = (),
    ) -> Rendered:
        """Token ids and role spans of one question; `thinking` is used by the modes `own` and `donor` only."""
        parts = [*self._prompt(prompt), *self._think(think, tuple(thinking)), ("answer", tuple(answer))]
        merged = self._merge_injected(parts, think)
        ids: list[int] = []
        roles: dict[str, tuple[int, int]] = {}
        for role, chunk in merged:
            if chunk:
                roles[role] = (len(ids), len(ids) + len(chunk))
                ids += chunk
        return Rendered(item_id=item_id, ids=tuple(ids), roles=roles)

    def _prompt(self, prompt: str) -> list[tuple[str, tuple[int, ...]]]:
        ids = self._template(prompt)
        others = [self._template(content) for content in OTHER_CONTENTS]
        start = min(_shared(ids, other) for other in others)
        tail = min(_shared(ids[start:][::-1], other[start:][::-1]) for other in others)
        stop = len(ids) - tail
        if start >= stop or tail == 0:
            raise MechdriftError(
                f"the chat template of this tokenizer hides the user's text: no user tokens found in {prompt!r:.60}."
            )
        return [("system", ids[:start]), ("user", ids[start:stop]), *self._split_tail(ids[stop:])]

    def _split_tail(self, tail: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        """The tail, apart from a think marker (or a whole empty block) that the template injects."""
        cut = find(tail, self.open_marker)
        if cut is None:
            return [("template_tail", tail)]
        close = find(tail, self.close_marker)
        return [
            ("template_tail", tail[:cut]),
            ("think_open", tail[cut:close]),
            ("think_close", tail[close:] if close else ()),
        ]

    def _think(self, think: ThinkMode, thinking: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        if think not in ThinkMode.__args__:
            raise MechdriftError(f"unknown think mode {think!r}: use one of {', '.join(ThinkMode.__args__)}.")
        if think == "none":
            return []
        if think == "off":
            opening, closing = self.empty_block
            return [("think_open", opening), ("think_close", closing)]
        return [("think_open", self.open_ids), ("think", thinking), ("think_close", self.close_ids)]

    def _merge_injected(
        self, parts: list[tuple[str, tuple[int, ...]]], think: ThinkMode
    ) -> list[tuple[str, tuple[int, ...]]]:
        """One chunk per role: what the think mode asks for takes the place of what the template injected."""
        chunks: dict[str, tuple[int, ...]] = {}
        for role, chunk in parts:
            chunks[role] = chunk or chunks.get(role, ())
        order = ("system", "user", "template_tail", "think_open", "think", "think_close", "answer")
        if think == "none":
            chunks.pop("think_open", None)
            chunks.pop("think_close", None)
        return [(role, chunks.get(role, ())) for role in order]

    def _template(self, content: str) -> tuple[int, ...]:
        messages = [{"role": "user", "content": content}]
        try:
            return tuple(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
        except Exception as error:  # a template is a program, and fails in any way it likes
            raise MechdriftError(
                f"the chat template of this tokenizer cannot render {content!r:.60} ({error!r:.120})."
            ) from error

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_answer(self, text: str) -> tuple[int, ...]:
        return self._encode(text)

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


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
