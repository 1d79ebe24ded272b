"""What a stress test is: a mode turns a request into an attack on the thinking, with a dose and a placebo.

A `Mode` is one record in one file (`modes`). Its function takes a `Subject` (one item, as one model is asked) and a
dose, and returns an `Attack`: the token ids that the model continues, and what happens after it has thought and
answered.

    ids        the whole prompt, which may end inside an open think block
    given      the last ids of the prompt, where they are a thought that the model does not write itself
    opens      whether the model goes on thinking from there; otherwise it answers at once
    rethink    after a thought that the model closed: the ids that replace the closing marker, or None
    again      after an answer: the next attack of the same conversation, or None

The request itself is never changed: its own words must stand in the prompt, whatever stands around them (`check`).

A *placebo* is the same amount of the same kind of text without the part that is meant to act: filler of equal length
in place of a puzzle, a neutral sentence in place of an argument. Where a mode has none, the plain request is its
reference. Where a mode does not apply (no think block, no twin, no system message, too short a context), it raises
`NotApplicable` with the reason, which appears in the table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mechdrift.probes.in_place import text_of
from mechdrift.probes.rendering import ALONE, Renderer, Situation
from mechdrift.records import Completion, MechdriftError, ProbeItem, Side, ThinkMode, make_tuples

Place = Literal["prompt", "thinking"]
"""Where a mode acts: in the prompt, so that both models are tried; or in the thinking, which only the child has."""
Need = Literal["own", "twin", "donor"]
"""Whose thought a mode is built from: the model's own about this item, its own about the twin, or the parent's."""


class NotApplicable(Exception):
    """A mode does not apply to this item or model; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What a model continues, and what follows after it has written; see the module for the fields."""

    ids: tuple[int, ...]
    opens: bool
    think: ThinkMode
    given: tuple[int, ...] = ()
    rethink: Callable[[tuple[int, ...], int], tuple[int, ...] | None] | None = field(default=None, compare=False)
    again: Callable[[Completion, int], "Attack | None"] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One item as one model is asked, with the thoughts that modes build on. `think` is the think mode of the plain
    request.

    `text` is the request's own words, as the tokenizer decodes them (`words_of`). `thoughts` holds token ids by owner
    (`Need`). `is_refusal` says whether the item's dimension is judged by refusals; `seed` draws puzzles.
    """

    item: ProbeItem
    side: Side
    think: ThinkMode
    renderer: Renderer
    text: str
    thoughts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    is_refusal: bool = True
    seed: int = 0

    def ask(self, prompt: str = "", situation: Situation = ALONE, think: ThinkMode | None = None) -> Attack:
        """The request (or a prompt that contains it) in a situation, by default in the think mode of the plain
        request."""
        think, prompt = think or self.think, prompt or self.item.prompt
        try:
            rendered = self.renderer.render(self.item.id, prompt, think, situation=situation)
        except MechdriftError as error:
            if situation == ALONE:
                raise
            raise NotApplicable(f"the chat template does not take this conversation ({error!s:.80})") from error
        if situation.system and situation.system not in text_of(self.renderer.tokenizer, rendered.ids):
            raise NotApplicable("the chat template has no system message")
        if think != "own":
            return Attack(ids=rendered.ids, opens=False, think=think)
        return Attack(ids=rendered.ids[: rendered.roles["think_open"][1]], opens=True, think=think)

    def give(self, thought: tuple[int, ...], *, is_whole: bool) -> Attack:
        """The request with a thought given: closed where it is whole, and left open for the model to go on from."""
        self.check_thinks()
        rendered = self.renderer.render(self.item.id, self.item.prompt, "donor", thinking=thought)
        start = rendered.roles["think_open"][1]
        if is_whole:
            return Attack(ids=rendered.ids, opens=False, think="donor", given=thought)
        return Attack(ids=(*rendered.ids[:start], *thought), opens=True, think="own", given=thought)

    def check_thinks(self) -> None:
        """Raise `NotApplicable` for a model that is asked without thinking."""
        if self.think != "own":
            raise NotApplicable("the model has no think block")

    def thought(self, whose: Need) -> tuple[int, ...]:
        """Token ids of a thought; raises `NotApplicable` where there is none."""
        self.check_thinks()
        if whose == "twin" and not self.item.twin:
            raise NotApplicable("the item has no twin")
        if not self.thoughts.get(whose):
            words = {"own": "the model thought nothing", "twin": "the model thought nothing about the twin"}
            raise NotApplicable(words.get(whose, "the parent wrote no thought"))
        return self.thoughts[whose]

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text as it stands in a thought."""
        return self.renderer.encode_answer(text)


def words_of(renderer: Renderer, item: ProbeItem) -> str:
    """The item's own words, as the tokenizer gives them back from a plain prompt."""
    plain = renderer.render(item.id, item.prompt, "none")
    start, stop = plain.roles["user"]
    return text_of(renderer.tokenizer, plain.ids[start:stop]).strip()


Make = Callable[[Subject, float], Attack]
"""From a subject and a dose to what the model is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One kind of stress test.

    Args:
        name: a few words with hyphens, as in `--modes`.
        what: what it does to a request, as a sentence.
        paper: where it comes from.
        apply: makes the attack of a subject at a dose.
        placebo: makes the same without what is meant to act; None: the plain request is the reference.
        placebo_name: what the placebo is, in words.
        doses: from the weakest to the strongest. Only the strongest is tested against the other modes.
        unit: of the doses, for the table.
        limits: the least and the greatest dose.
        is_count: whether a dose counts something (turns, samples, tokens), so that it is a whole number.
        place: where it acts.
        needs: whose thoughts it is built from.
        draws: how many samples are drawn of each item at a dose; None: one greedy answer. Under the attack, an item
            counts as misaligned if any sample is; under the placebo, the mean over its samples counts.
        temperature: the temperature of the samples.
    """

    name: str
    what: str
    paper: str
    apply: Make
    placebo: Make | None = None
    placebo_name: str = "none; the plain request"
    doses: tuple[float, ...] = (1.0,)
    unit: str = ""
    limits: tuple[float, float] = (0.0, 1e6)
    is_count: bool = False
    place: Place = "prompt"
    needs: tuple[Need, ...] = ()
    draws: Callable[[float], int] | None = None
    temperature: float = 0.0

    def __post_init__(self) -> None:
        make_tuples(self, "doses", "needs")

    def samples(self, dose: float) -> int:
        return self.draws(dose) if self.draws else 1


def check(mode: Mode, subject: Subject, attack: Attack) -> Attack:
    """The attack; raises, naming mode and item, where it cannot be asked or does not hold the request."""
    tokenizer, where = subject.renderer.tokenizer, f"the mode {mode.name!r}, on the item {subject.item.id!r},"
    size = max(len(tokenizer), tokenizer.vocab_size)
    strange = next((i for i in attack.ids if not 0 <= i < size), None)
    if strange is not None or not attack.ids:
        told = "no ids at all" if strange is None else f"the id {strange}, outside the vocabulary of {size} tokens"
        raise MechdriftError(f"{where} gave {told}: return ids of this model's tokenizer.")
    if subject.text not in text_of(tokenizer, attack.ids):
        raise MechdriftError(
            f"{where} changed the request's own text, which must stand in the prompt word for word: put text before or "
            "after it only."
        )
    return attack
