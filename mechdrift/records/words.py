"""The words that every stage shares: dimensions, sides, think modes, roles and labels."""

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from mechdrift.errors import MechdriftError as MechdriftError

DIMENSIONS = ["safety", "toxicity", "bias", "ethics", "privacy", "robustness"]
"""Their names, in the order in which they are shown. `behaviour.dimensions` has the records."""
ALL = "all"
"""Stands in place of a dimension where a number is the mean over dimensions."""


Value = TypeVar("Value")


def several(values: Value | Iterable[Value]) -> tuple[Value, ...]:
    """What was given where several things may be given, as a tuple. One name, one number or one record is one of them.

    Python takes a name for the sequence of its letters, so that `dimensions="safety"` would be six of one letter.
    Probe sets are iterable themselves: who takes several of them asks for one first.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        return (values,)
    return tuple(values)


def make_tuples(record: Any, *fields: str) -> None:
    """Put tuples in those fields of a frozen record in which one name, or a list, was given. For `__post_init__`."""
    for name in fields:
        object.__setattr__(record, name, several(getattr(record, name)))


def exactly(number: float) -> str:
    """A number in as few digits as tell it from every other, for names of files and columns: six often do."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def order_dimensions(dimensions: Iterable[str]) -> list[str]:
    """Distinct dimensions in the project's order; others after them, as they come."""
    present = list(dict.fromkeys(dimensions))
    return [d for d in DIMENSIONS if d in present] + [d for d in present if d not in DIMENSIONS]


Side = Literal["instruct", "reasoning"]
SIDES: tuple[Side, Side] = ("instruct", "reasoning")

ThinkMode = Literal["none", "off", "own", "donor"]
"""`none`: no think block (an instruct model as it is used); `off`: an empty block is prefilled; `own`: the model's
own thinking; `donor`: the other model's thinking, teacher-forced."""

Role = Literal["system", "user", "template_tail", "think_open", "think", "think_close", "answer"]
ROLES: tuple[Role, ...] = ("system", "user", "template_tail", "think_open", "think", "think_close", "answer")

ROUNDING = 1e-3  # log-odds: sums in another order, in float32, differ by about 1e-5, and by more in wide models

RefusalLabel = Literal["compliance", "partial", "refusal", "incoherent", "incomplete"]
