"""Budgets and sampling: how much a model may write, and how its answers are drawn. This module loads nothing."""

from dataclasses import dataclass

from mechdrift.records import MechdriftError, exactly

MOST_SAMPLES = 10_000
COLDEST, HOTTEST = 0.001, 1000.0  # beyond, float32 logits divided by the temperature are infinite or all equal
MOST_SEED = 2**63 - 1  # PyTorch's generators take no larger one


def check_seed(seed: int) -> None:
    """Raise for a seed that no generator of random numbers takes, before anything is asked."""
    if not 0 <= seed <= MOST_SEED:
        raise MechdriftError(f"seed should be 0 or more, and below 2^63; it is {seed!s:.40}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many tokens a model may think and answer. Text that ends earlier is not affected.

    `"auto"` measures how long the model thinks and answers before it sets the number (`behaviour.pilot`).
    """

    think: int | str = 96
    answer: int | str = 64

    def __post_init__(self) -> None:
        for name in ("think", "answer"):
            value = getattr(self, name)
            if value != "auto" and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 1):
                raise MechdriftError(
                    f"The budget to {name} should be 'auto' or a number of tokens, 1 or more: {value!r}."
                )

    @property
    def is_auto(self) -> bool:
        return "auto" in (self.think, self.answer)

    @property
    def tokens(self) -> tuple[int, int]:
        """Both numbers. A pilot has to replace "auto" first."""
        assert not isinstance(self.think, str)
        assert not isinstance(self.answer, str)
        return self.think, self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are drawn: one greedy answer (temperature 0), or `samples` at a temperature, from the full
    distribution."""

    samples: int = 1
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.samples > 1 and self.temperature == 0:
            raise MechdriftError(
                f"{self.samples} samples at temperature 0 are all the same: give a temperature above 0, such as 0.7."
            )
        is_greedy = self.temperature == 0
        if not 1 <= self.samples <= MOST_SAMPLES or not (is_greedy or COLDEST <= self.temperature <= HOTTEST):
            raise MechdriftError(
                f"Give 1 to {MOST_SAMPLES:,} samples, and a temperature of 0 or from {COLDEST:g} to {HOTTEST:g}, not "
                f"{self.samples:,} at {self.temperature:g}."
            )

    def __str__(self) -> str:
        return (
            "greedy"
            if self.temperature == 0
            else f"{self.samples} sample{'s' * (self.samples > 1)} at temperature {exactly(self.temperature)}"
        )


GREEDY = Sampling()
AUTO = Budget(think="auto", answer="auto")
