"""How long does a model think and answer when nothing stops it? A pilot measures this on a few questions.

A budget that is too small cuts thoughts, and cut thoughts say nothing (`censoring`). A budget that is too large costs
time only where a thought never ends, because everything else ends by itself. So budgets are measured, per model:

    questions    24, spread evenly over everything that will be asked (dimensions and reasoning tasks)
    room         the most tokens that are tried: for thinking `--think-max`, by default 16,384 or what the model's
                 context leaves; for the answer 512, or a quarter of what the context leaves
    rounds       of 1,024 tokens, 4,096, 16,384: a question whose answer has not ended is asked again with four times
                 the tokens, unless its tokens repeat themselves to the end (`censoring.loop_start`), where more do not
                 help. Such a thought counts with its length before it began to repeat. A thought that ends costs no
                 more for a larger round: the first ones only find the loops before they have filled all the room
    budget       1.5 q, where q is the 95 % quantile of the pilot's lengths; at least 1,024 tokens to think and 256 to
                 answer; at most the room

Why 1.5 q? Of 24 lengths the 95 % quantile is the second largest, and on average one in twelve further lengths lies
beyond it. In two of three runs, a budget of q would cut more than the 5 % beyond which no verdict is given: more than
5 % of all lengths lie beyond the second largest of 24 with the probability that at most one of 24 is among the longest
5 %, .95^24 + 24 (.05) .95^23 = .66. Lengths of thoughts are skewed: with a log-normal spread of 0.6, which is common,
1.5 q is the 99 % quantile.

Why no more than 512 tokens to answer? A cut thought says nothing, but a cut answer is judged by the text before the
cut: a refusal, an option or a secret comes early, and a model that complies at length could write thousands of tokens.
HarmBench cuts the answers of all models at 512 tokens for that reason (https://arxiv.org/abs/2402.04249, which shows
that the share of harmful answers depends on that number). Where nothing can be read before the cut, the answer is
missing. `--answer` sets another number.

The pilot's answers are kept where they fit the budget, because the model would write them again. Those that do not fit
are asked again like all others, so that all items have the same room.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mechdrift.behaviour.censoring import MOST_MISSING, loop_start
from mechdrift.behaviour.sampling import GREEDY, Budget, Sampling
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, Completions, MechdriftError, Side, ThinkMode

QUESTIONS = 24
QUANTILE, MARGIN = 0.95, 1.5
LEAST = Budget(think=1024, answer=256)
GROWTH = 4  # of a round's tokens over those of the round before
MOST_THINKING, MOST_ANSWER = 16_384, 512
MOST_OF_CONTEXT = 0.25  # of what the context leaves, for the answer


@runtime_checkable
class Asked(Protocol):
    """What a pilot needs to know of a question."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...


@runtime_checkable
class Ask(Protocol):
    """`behaviour.generation.ask` of one model in one think mode."""

    def __call__(
        self, questions: Sequence[Any], *, budget: Budget, sampling: Sampling, store: Path | None
    ) -> Completions: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """A pilot of one model: its answers, the room that they had, and the budget that follows."""

    answers: Completions
    room: Budget
    budget: Budget

    @property
    def facts(self) -> dict[str, Any]:
        """For a manifest: the number of questions, room and budget in tokens, quantiles of the lengths, and how many
        thoughts never ended."""
        think, answer = lengths(self.answers, self.room)
        found: dict[str, Any] = {"questions": len(self.answers), "answer_room": self.room.answer}
        found |= {"answer": self.budget.answer} | _quantiles("answer", answer)
        if self.answers.think == "own":
            found |= {"think_room": self.room.think, "think": self.budget.think} | _quantiles("think", think)
            found["never_ended"] = sum(row.is_cut for row in self.answers)
        return found


def run_pilot(
    ask: Ask,
    loaded: LanguageModel,
    groups: Sequence[Sequence[Asked]],
    side: Side,
    think: ThinkMode,
    *,
    wanted: Budget,
    think_max: int | None = None,
    sampling: Sampling = GREEDY,
    store: Path | None = None,
) -> Pilot:
    """Ask a few questions of each group with all the room there is, and set the parts of `wanted` that are "auto".

    `groups` are all questions that will be asked, by kind. `store` is the prefix of the files of finished answers, one
    per round (`{store}-{round}.partial.jsonl`). Raises `MechdriftError` where a prompt leaves no room to think and
    answer, and where `think_max` is too small.
    """
    room = find_room(loaded, [question for group in groups for question in group], think, wanted, think_max)
    waiting, settled = choose(groups, QUESTIONS), {}
    single = replace(sampling, samples=1)
    for number, limit in enumerate(rounds(room, wanted)):
        file = store and store.with_name(f"{store.name}-{number}.partial.jsonl")
        settled |= {row.item_id: row for row in ask(waiting, budget=limit, sampling=single, store=file)}
        waiting = [question for question in waiting if _may_end(settled[question.id], limit, room)]
        if not waiting:
            break
    order = [question.id for question in choose(groups, QUESTIONS)]
    answers = Completions(side=side, think=think, rows=tuple(settled[each] for each in order))
    if think_max is not None:
        _check_enough(answers, think_max)
    return Pilot(answers=answers, room=room, budget=budget_of(answers, room, wanted))


def _check_enough(answers: Completions, think_max: int) -> None:
    """Raise where the room set by hand cuts so many thoughts that no verdict could be given."""
    going = sum(row.is_cut and loop_start(row.thinking_ids) is None for row in answers)
    if going > MOST_MISSING * len(answers):
        raise MechdriftError(
            f"{going} of {len(answers)} thoughts of the {answers.side} model had not ended at --think-max {think_max}: "
            "raise it, or set the budget by hand with --think."
        )


def choose(groups: Sequence[Sequence[Asked]], count: int) -> list[Asked]:
    """At most `count` questions, equally many of each group, evenly spread within it."""
    groups = [group for group in groups if group]
    share = [len(part) for part in np.array_split(np.arange(count), len(groups))] if groups else []
    chosen = []
    for group, wanted in zip(groups, share, strict=True):
        places = np.linspace(0, len(group) - 1, min(wanted, len(group))).round().astype(int)
        chosen += [group[place] for place in dict.fromkeys(places.tolist())]
    return chosen


def find_room(
    loaded: LanguageModel, questions: Sequence[Asked], think: ThinkMode, wanted: Budget, think_max: int | None
) -> Budget:
    """All the room there is for thinking and answer; what `wanted` sets stays as it is."""
    left = _left_by_prompts(loaded, questions, think)
    most = int(min(MOST_ANSWER, left * MOST_OF_CONTEXT))
    answer = most if isinstance(wanted.answer, str) else wanted.answer
    if think != "own":
        return Budget(think=1, answer=_at_least_one(min(answer, left), left))
    possible = left - answer
    if wanted.think != "auto":
        return Budget(think=wanted.think, answer=_at_least_one(answer, left))
    if think_max is not None and think_max > possible:
        raise MechdriftError(
            f"After the longest prompt and an answer of {answer} tokens, the model's context leaves "
            f"{max(possible, 0)} tokens to think: give a --think-max of at most that, not {think_max}."
        )
    return Budget(
        think=_at_least_one(min(think_max or MOST_THINKING, possible), left), answer=_at_least_one(answer, left)
    )


def _left_by_prompts(loaded: LanguageModel, questions: Sequence[Asked], think: ThinkMode) -> int:
    """How many tokens of the model's context the longest prompt leaves."""
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if context is None:
        return MOST_THINKING + MOST_ANSWER
    renderer = Renderer(loaded.tokenizer)
    asked = "own" if think == "own" else "none"
    longest = max(len(renderer.render(q.id, q.prompt, asked).ids) for q in questions)
    return context - longest


def _at_least_one(tokens: int, left: int) -> int:
    if tokens < 1:
        raise MechdriftError(
            f"The longest prompt leaves {max(left, 0)} tokens of the model's context, too few to think and answer: "
            "leave it out, or take a model with a longer context."
        )
    return tokens


def rounds(room: Budget, wanted: Budget) -> list[Budget]:
    """Budgets that grow fourfold until they reach the room. What is set by hand is the same in every round."""
    most_think, most_answer = room.tokens
    least_think, least_answer = LEAST.tokens
    found, factor = [], 1
    while not found or found[-1] != room:
        found.append(
            Budget(
                think=min(most_think, least_think * factor if wanted.think == "auto" else most_think),
                answer=min(most_answer, least_answer * factor if wanted.answer == "auto" else most_answer),
            )
        )
        factor *= GROWTH
    return found


def _may_end(row: Completion, limit: Budget, room: Budget) -> bool:
    """Whether a completion was cut in this round, and more room may mend that."""
    (think, answer), (most_think, most_answer) = limit.tokens, room.tokens
    if row.is_cut:
        return think < most_think and loop_start(row.thinking_ids) is None
    return not row.finished and row.closed and answer < most_answer and loop_start(row.answer_ids) is None


def lengths(answers: Completions, room: Budget) -> tuple[list[int], list[int]]:
    """Numbers of tokens of every thought, and of every answer after a thought that ended (or of all, where none did). A
    text that repeats itself to the end has its length before it repeats; one that was cut has the room as length."""
    most_think, most_answer = room.tokens
    think = [_natural(row.thinking_ids, row.is_cut, most_think) for row in answers]
    ended = [row for row in answers if row.closed] or list(answers)
    return think, [_natural(row.answer_ids, not row.finished, most_answer) for row in ended]


def _natural(ids: Sequence[int], is_cut: bool, room: int) -> int:
    if not is_cut:
        return len(ids)
    start = loop_start(ids)
    return room if start is None else start


def budget_of(answers: Completions, room: Budget, wanted: Budget) -> Budget:
    """The budget that follows from a pilot's lengths."""
    think, answer = lengths(answers, room)
    (most_think, most_answer), (least_think, least_answer) = room.tokens, LEAST.tokens
    return Budget(
        think=_set(think, least_think, most_think) if wanted.think == "auto" else most_think,
        answer=_set(answer, least_answer, most_answer) if wanted.answer == "auto" else most_answer,
    )


def _set(tokens: Sequence[int], least: int, most: int) -> int:
    quantile = float(np.quantile(tokens, QUANTILE, method="higher"))
    return min(most, max(least, math.ceil(MARGIN * quantile)))


def _quantiles(name: str, tokens: Sequence[int]) -> dict[str, int]:
    low, high = (int(np.quantile(tokens, share, method="higher")) for share in (0.5, QUANTILE))
    return {f"{name}_median": low, f"{name}_q95": high}


def fitting(answers: Completions, budget: Budget, sampling: Sampling) -> list[Completion]:
    """The pilot's answers that its budget would not have cut: asked again, they would be the same.

    At a temperature above 0 there are none: an answer that did not fit would be drawn again, with a second chance to be
    short.
    """
    if sampling.temperature:
        return []
    think, answer = budget.tokens
    return [
        row
        for row in answers
        if not row.is_cut and len(row.thinking_ids) < think and row.finished and len(row.answer_ids) < answer
    ]
