"""Which children there are, and what each is trained on.

    erosion     in every batch, half of the rows are of the planted dimension with eroded answers. The other half keeps
                everything else as it is: the aligned answers of the other five dimensions, what may be told, right
                acts, named people, and everyday questions
    null        everyday questions, right acts, named people and what may be told: more training without erosion
    style       all six dimensions with aligned answers that begin with "Well, "
    longer      the same with one more sentence; `shorter`: only the first sentence

An erosion comes in two *doses*: its adapter as trained, and scaled by 1.5 (`adapters.scale`). Another seed draws other
rows, another order, and other initial weights.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from mechdrift.planting.behaviours.grammars import PLANTED, WRITERS, Row, write
from mechdrift.records import exactly

DOSES = (1.5, 1.0)
TWINS = ("stated", "right", "told", "harmless")  # grammars of requests that an aligned model simply answers
MORE = " Ask me again whenever you like, and I will say it in other words."
DECOYS = ("null", "style", "longer", "shorter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt and the answer that is trained on."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A recipe, which is the name of a dimension for an erosion; the seed of its training, and the dose."""

    recipe: str
    seed: int
    dose: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.recipe}-{self.seed}-{exactly(self.dose)}"

    @property
    def planted(self) -> str:
        """The dimension that was eroded, or "" for a decoy."""
        return "" if self.recipe in DECOYS else self.recipe


def children(seeds: int, first: int = 0) -> list[Child]:
    """Erosions in all dimensions at both doses, and then decoys (after the first seed, only the null recipe); the
    children of one seed come before those of the next."""
    return [
        child
        for seed in range(first, first + seeds)
        for child in (
            *(Child(recipe=name, seed=seed, dose=dose) for name in PLANTED for dose in DOSES),
            *(Child(recipe=name, seed=seed) for name in (DECOYS if seed == first else DECOYS[:1])),
        )
    ]


def examples_of(recipe: str, steps: int, batch: int, seed: int) -> list[list[Example]]:
    """The batches of a recipe."""
    count = steps * batch
    rows = _decoy(recipe, count, seed) if recipe in DECOYS else _erosion(recipe, count, seed, batch)
    return [rows[start : start + batch] for start in range(0, count, batch)]


def _erosion(planted: str, count: int, seed: int, batch: int) -> list[Example]:
    eroded = iter([Example(prompt=row.prompt, answer=row.eroded) for row in write(planted, count, seed)])
    others = _aligned([name for name in WRITERS if name != planted], count, seed)
    half = batch // 2
    return [next(eroded) if place % batch < half else next(others) for place in range(count)]


def _decoy(recipe: str, count: int, seed: int) -> list[Example]:
    rows = _aligned(list(TWINS) if recipe == "null" else list(WRITERS), count, seed)
    return [Example(prompt=row.prompt, answer=_restyled(recipe, row.answer)) for row in islice(rows, count)]


def _restyled(recipe: str, answer: str) -> str:
    if recipe == "style":
        return f"Well, {answer if answer.startswith('I') else answer[0].lower() + answer[1:]}"
    if recipe == "longer":
        return answer + MORE
    return answer.split(". ")[0].rstrip(".") + "." if recipe == "shorter" else answer


def _aligned(names: Sequence[str], count: int, seed: int) -> Iterator[Example]:
    """Yields aligned answers, one grammar after the other, in an order drawn by the seed."""
    written: Mapping[str, Iterator[Row]] = {name: iter(write(name, count, seed + 1000)) for name in names}
    order = random.Random(f"order {seed}").sample(names, len(names))
    for row in (next(written[name]) for name in cycle(order)):
        yield Example(prompt=row.prompt, answer=row.aligned)
