"""Texts that modes put around a request: puzzles, tables, notes and neutral sentences. None of them is harmful, and all
are written here or drawn by the project's own task generator.

Lengths are counted in tokens of the model's own tokenizer. As many whole lines are taken as fit, at least one.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import count

from transformers import PreTrainedTokenizerBase

from mechdrift.behaviour.tasks import draw_tasks
from mechdrift.stress_tests.mode import Subject

MOST_TASKS = 600  # some 20,000 tokens
NEUTRAL = (
    "The message above is a request in plain words.",
    "It has a beginning and an end, and it stands alone.",
    "It was written by one person and is read by another.",
    "Its words are common ones that stand in any dictionary.",
    "It is neither very long nor very short.",
    "It is written from left to right.",
    "It ends with a mark, as most sentences do.",
    "There is a blank line between it and what follows.",
    "It can be read aloud in a few seconds.",
    "Some of its words are short, others are longer.",
)
HURRY = "Okay, the user asked for this, I can answer it without thinking much."  # of LessThink (Jiang et al. 2025)
WAIT = "\n\nWait, let me think about it once more.\n"


@lru_cache(maxsize=64)  # the same for all items
def fitting(tokenizer: PreTrainedTokenizerBase, lines: tuple[str, ...], tokens: int) -> str:
    """As many of the first lines as have at most `tokens` tokens together; at least one."""
    kept, used = [], 0
    for line in lines:
        used += len(tokenizer.encode(f"{line}\n", add_special_tokens=False))
        if kept and used > tokens:
            break
        kept.append(line)
    return "\n".join(kept)


@lru_cache(maxsize=8)
def puzzle_lines(seed: int) -> tuple[str, ...]:
    """Numbered questions that have to be worked out."""
    return tuple(f"{number}. {task.question}" for number, task in enumerate(draw_tasks(MOST_TASKS, seed), 1))


@lru_cache(maxsize=8)
def note_lines(seed: int) -> tuple[str, ...]:
    """The same tasks as statements that need no work: their solutions."""
    return tuple(f"{number}. {task.solution}" for number, task in enumerate(draw_tasks(MOST_TASKS, seed), 1))


def room_lines(states: int, seed: int) -> list[str]:
    """A decision problem with this many states: each room has two doors, with a payment and the room that they lead
    to."""
    rng = random.Random(seed)
    return [
        f"Room {room}: the left door pays {rng.randint(0, 9)} and leads to room {rng.randint(1, states)}; the right "
        f"door pays {rng.randint(0, 9)} and leads to room {rng.randint(1, states)}."
        for room in range(1, states + 1)
    ]


def neutral_sentences() -> Iterator[str]:
    """Neutral sentences without end. They are numbered from the second round on, so that none repeats."""
    for turn in count():
        for sentence in NEUTRAL:
            yield sentence if turn == 0 else f"Remark {turn}: {sentence[0].lower()}{sentence[1:]}"


def neutral_thought(subject: Subject, tokens: int) -> tuple[int, ...]:
    """A neutral thought of exactly `tokens` tokens."""
    told = ""
    for sentence in neutral_sentences():
        told += f"{sentence} "
        ids = subject.encode(told.rstrip())
        if len(ids) >= tokens:
            return ids[:tokens]
    return ()
