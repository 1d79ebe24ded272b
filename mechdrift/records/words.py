"""The words that every stage shares: dimensions, sides, think modes, roles and labels."""

from collections.abc import Iterable
from typing import Literal

from mechdrift.errors import MechdriftError as MechdriftError

DIMENSIONS = ["safety", "toxicity", "bias", "ethics", "privacy", "robustness"]
"""Their names, in the order in which they are shown. `behaviour.dimensions` has the records."""
ALL = "all"
"""Stands in place of a dimension where a number is the mean over dimensions."""


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
