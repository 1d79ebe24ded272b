"""Procedural reasoning tasks with exact answers and worked solutions.

Each task type is a function of a random generator that returns a `Task`: the question, the exact answer, and the short
worked solution that a reasoning trace would contain. The audit asks `held_out()` tasks and checks answers exactly; the
training scripts in `experiments/zoo` draw other seeds and leave out every question whose `signature` `held_out` asks.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from mechdrift.behaviour.judges.conclusions import BOXED
from mechdrift.behaviour.judges.numerals import with_digits

HELD_OUT_SEED = 20_261_123

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ("Ann", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Ida", "Jack", "Kira", "Leo", "Maya", "Noah")
GOODS = ("pen", "book", "cup", "lamp", "ball", "hat", "chair", "bag", "clock", "plate")
OBJECTS = ("key", "ball", "coin", "map", "book", "ring")
LEGS = {"dog": 4, "hen": 2, "cow": 4, "spider": 8, "ant": 6, "duck": 2, "horse": 4, "bee": 6}
KINDS = {
    "fruits": ("apple", "pear", "plum", "grape", "peach", "lemon", "mango"),
    "animals": ("dog", "cat", "horse", "goat", "lion", "mouse", "bear"),
    "colours": ("red", "blue", "green", "black", "pink", "brown", "grey"),
    "tools": ("hammer", "saw", "drill", "spade", "wrench", "axe", "rake"),
}
WORDS = (
    "river",
    "table",
    "cloud",
    "music",
    "garden",
    "window",
    "paper",
    "stone",
    "forest",
    "bridge",
    "candle",
    "orange",
    "silver",
    "market",
    "winter",
    "doctor",
    "island",
    "pocket",
    "rabbit",
    "tunnel",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One question. `answer` is exact; `solution` is the worked way to it."""

    kind: str
    question: str
    answer: str
    solution: str


def chain_sum(rng: random.Random) -> tuple[str, str, str]:
    terms = [rng.randint(2, 60) for _ in range(rng.choice((3, 3, 4)))]
    total, text, steps = terms[0], str(terms[0]), []
    for term in terms[1:]:
        sign = rng.choice("+-") if total > term else "+"
        new = total + term if sign == "+" else total - term
        text += f" {sign} {term}"
        steps.append(f"{total} {sign} {term} = {new}.")
        total = new
    question = rng.choice(("What is {}?", "Calculate {}.", "Work out {}.")).format(text)
    return question, str(total), " ".join(steps)


def multiplication(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(11, 49), rng.randint(2, 9)
    tens, ones = a // 10 * 10, a % 10
    question = rng.choice(("What is {a} times {b}?", "Multiply {a} by {b}.", "Calculate {a} * {b}.")).format(a=a, b=b)
    return (
        question,
        str(a * b),
        f"{tens} * {b} = {tens * b}. {ones} * {b} = {ones * b}. {tens * b} + {ones * b} = {a * b}.",
    )


def shopping(rng: random.Random) -> tuple[str, str, str]:
    first, second = rng.sample(GOODS, 2)
    p, q, n, m = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 7), rng.randint(2, 7)
    question = (
        f"A {first} costs {p} dollars and a {second} costs {q} dollars. How many dollars do {n} {first}s and "
        f"{m} {second}s cost together?"
    )
    steps = f"{n} * {p} = {n * p}. {m} * {q} = {m * q}. {n * p} + {m * q} = {n * p + m * q}."
    return question, str(n * p + m * q), steps


def legs(rng: random.Random) -> tuple[str, str, str]:
    first, second = rng.sample(sorted(LEGS), 2)
    n, m = rng.randint(2, 8), rng.randint(2, 8)
    a, b = n * LEGS[first], m * LEGS[second]
    question = f"How many legs do {n} {first}s and {m} {second}s have in total?"
    steps = (
        f"A {first} has {LEGS[first]} legs: {n} * {LEGS[first]} = {a}. A {second} has {LEGS[second]} legs: "
        f"{m} * {LEGS[second]} = {b}."
    )
    return question, str(a + b), f"{steps} {a} + {b} = {a + b}."


def weekday(rng: random.Random) -> tuple[str, str, str]:
    start, step = rng.randrange(7), rng.randint(2, 12)
    passed = [DAYS[(start + k) % 7] for k in range(1, step + 1)]
    name = rng.choice(NAMES)
    question = rng.choice(
        (
            f"Today is {DAYS[start]}. What day of the week will it be in {step} days?",
            (
                f"{name} leaves on {DAYS[start]} and comes back {step} days later. On which day of the week does "
                f"{name} come back?"
            ),
        )
    )
    steps = " ".join(f"{k}: {day}." for k, day in enumerate(passed, 1))
    return question, passed[-1], f"Counting on from {DAYS[start]}. {steps}"


def sorting(rng: random.Random) -> tuple[str, str, str]:
    numbers = rng.sample(range(2, 99), rng.randint(3, 5))
    ordered = ", ".join(map(str, sorted(numbers)))
    question = f"Sort these numbers from smallest to largest: {', '.join(map(str, numbers))}."
    left, steps = list(numbers), []
    for number in sorted(numbers)[:-1]:
        left.remove(number)
        steps.append(f"{number} is the smallest, left: {', '.join(map(str, left))}.")
    return question, ordered, " ".join(steps)


def reversal(rng: random.Random) -> tuple[str, str, str]:
    words = rng.sample(WORDS, rng.randint(3, 5))
    question = f"Write these words in reverse order: {', '.join(words)}."
    steps = " ".join(f"{k}: {word}." for k, word in enumerate(reversed(words), 1))
    return question, ", ".join(reversed(words)), f"From the last to the first. {steps}"


def counting(rng: random.Random) -> tuple[str, str, str]:
    kind = rng.choice(sorted(KINDS))
    others = [word for other, words in KINDS.items() if other != kind for word in words]
    wanted = rng.sample(KINDS[kind], rng.randint(1, 4))
    words = wanted + rng.sample(others, rng.randint(1, 3))
    rng.shuffle(words)
    question = f"How many {kind} are in this list: {', '.join(words)}?"
    count, steps = 0, []
    for word in words:
        count += word in wanted
        steps.append(f"{word}: {'yes' if word in wanted else 'no'}, {count}.")
    return question, str(count), " ".join(steps)


def coin(rng: random.Random) -> tuple[str, str, str]:
    people = rng.sample(NAMES, rng.randint(2, 5))
    start = up = rng.choice(("heads", "tails"))
    told, steps = [], []
    for person in people:
        flips = rng.random() < 0.6
        told.append(f"{person} {'flips' if flips else 'does not flip'} the coin.")
        up = {"heads": "tails", "tails": "heads"}[up] if flips else up
        steps.append(f"{person} {'flips' if flips else 'does not flip'}: {up}.")
    question = f"A coin is {start} up. {' '.join(told)} Is the coin heads or tails up now?"
    return question, up, f"Start: {start}. {' '.join(steps)}"


def ordering(rng: random.Random) -> tuple[str, str, str]:
    more, less, most, least = rng.choice(
        (
            ("older", "younger", "oldest", "youngest"),
            ("taller", "shorter", "tallest", "shortest"),
            ("faster", "slower", "fastest", "slowest"),
        )
    )
    people = rng.sample(NAMES, rng.choice((3, 3, 4)))
    facts = [
        f"{a} is {more} than {b}." if rng.random() < 0.5 else f"{b} is {less} than {a}." for a, b in pairwise(people)
    ]
    rng.shuffle(facts)
    wants_most = rng.random() < 0.5
    question = f"{' '.join(facts)} Who is the {most if wants_most else least}?"
    return question, people[0] if wants_most else people[-1], f"From {most} to {least}: {', '.join(people)}."


def swapping(rng: random.Random) -> tuple[str, str, str]:
    people, things = rng.sample(NAMES, 3), rng.sample(OBJECTS, 3)
    holds = dict(zip(people, things, strict=True))
    question = " ".join(f"{person} has the {thing}." for person, thing in holds.items())
    steps = []
    for _ in range(rng.choice((1, 2, 2))):
        a, b = rng.sample(people, 2)
        holds[a], holds[b] = holds[b], holds[a]
        question += f" {a} and {b} swap what they have."
        steps.append(f"{a} has the {holds[a]}, {b} has the {holds[b]}.")
    person = rng.choice(people)
    return (
        f"{question} What does {person} have now?",
        holds[person],
        f"{' '.join(steps)} So {person} has the {holds[person]}.",
    )


def difference(rng: random.Random) -> tuple[str, str, str]:
    numbers = rng.sample(range(3, 99), rng.randint(3, 5))
    high, low = max(numbers), min(numbers)
    question = (
        f"What is the difference between the largest and the smallest of these numbers: {', '.join(map(str, numbers))}?"
    )
    return question, str(high - low), f"The largest is {high}. The smallest is {low}. {high} - {low} = {high - low}."


GENERATORS: tuple[Callable[[random.Random], tuple[str, str, str]], ...] = (
    chain_sum,
    multiplication,
    shopping,
    legs,
    weekday,
    sorting,
    reversal,
    counting,
    coin,
    ordering,
    swapping,
    difference,
)
KIND_FUNCTIONS = {function.__name__: function for function in GENERATORS}

NUMBER = re.compile(
    r"(?:(?<![\w)])-)?\d+(?:\.\d+)?"
)  # a hyphen after a number or bracket subtracts; elsewhere it is a sign
NUMBERED = re.compile(r"^\s*\d+[.)]\s+(?=\S)", re.MULTILINE)  # the number of a list's line
WORD_ANSWERS = [{word.lower() for word in group} for group in (DAYS, NAMES, OBJECTS, ("heads", "tails"))]


def draw_tasks(n: int, seed: int) -> tuple[Task, ...]:
    """`n` tasks with distinct questions, evenly over the kinds, reproducible by `seed`."""
    rng = random.Random(seed)
    kinds = list(KIND_FUNCTIONS)
    tasks: dict[str, Task] = {}
    while len(tasks) < n:
        kind = kinds[len(tasks) % len(kinds)]
        question, answer, solution = KIND_FUNCTIONS[kind](rng)
        tasks.setdefault(question, Task(kind=kind, question=question, answer=answer, solution=solution))
    return tuple(tasks.values())


def held_out(n: int = 240) -> tuple[Task, ...]:
    """The tasks that audits ask and that no embedded model was trained on: a prefix of one fixed list."""
    return draw_tasks(n, HELD_OUT_SEED)


def signature(question: str) -> str:
    """The question with its people numbered in order of appearance: two tasks that differ in names only share it."""
    people: dict[str, str] = {}
    return re.sub(
        r"[A-Z][a-z]+", lambda m: people.setdefault(m[0], f"P{len(people)}") if m[0] in NAMES else m[0], question
    )


def is_correct(task: Task, answer: str) -> bool:
    """Whether the answer ends on the exact result: its last number, its last list, or its last weekday, name or object;
    where it has a box, the box does. Numbers in words count where there are none in digits.

    What precedes does not count, so an answer may repeat the question or show its work.
    """
    boxes = [next(filter(None, found.groups()), "") for found in BOXED.finditer(answer)]
    text, expected = (boxes[-1] if boxes else answer).lower(), task.answer.lower()
    if ", " in expected:
        return _last_list(text, expected.split(", ")) == expected.split(", ")
    if expected.isdigit():
        text = text if NUMBER.search(text) else with_digits(text)  # beside digits, "one" may be a pronoun
        numbers = NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))
        return bool(numbers) and float(numbers[-1]) == int(expected)
    group = next((group for group in WORD_ANSWERS if expected in group), {expected})
    found = [word for word in re.findall(r"[a-z]+", text) if word in group]
    return bool(found) and found[-1] == expected


def _last_list(text: str, like: list[str]) -> list[str]:
    """The last run of two or more numbers, or of words that lists are made of, with nothing but separators between
    them."""
    text = NUMBERED.sub("", text)
    item = r"\d+" if like[0].isdigit() else "|".join(WORDS)
    runs = re.findall(rf"\b(?:{item})\b(?:(?:[\s,;<>→*•\"'-]|\band\b)+(?:{item})\b)+", text)
    return re.findall(item, runs[-1]) if runs else []
