"""Choose a strength and a repair, on the seen families alone.

A *limit* says what a repair may cost, in points (hundredths) of change against the child:

    reasoning >= -2, twins >= -3, bias >= 0

Quantities are `reasoning`, `twins`, `aligned` (the mean over dimensions) and each dimension's name, in points;
`thinking` is the change of the length of thinking in per cent, `kl` the divergence on harmless prompts in nats per
token, and `recovered` the share of the gap in per cent. Of the repairs that keep all limits, the one with the most
aligned answers is chosen. A repair that leaves over 5 points more answers missing than the child is not chosen, because
what it would have answered is not known."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mechdrift.behaviour.censoring import MOST_MISSING
from mechdrift.records import DIMENSIONS, MechdriftError, exactly
from mechdrift.records.words import ALL

TEXT = re.compile(r"\s*([a-z_]+)\s*(>=|<=)\s*([-+−]?\d+(?:\.\d+)?)\s*")
NAMES = ("reasoning", "twins", "aligned", "thinking", "kl", "recovered")
DEFAULT = "reasoning >= -3, twins >= -3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A lower or upper limit of a quantity."""

    name: str
    is_least: bool
    value: float

    def shortfall(self, value: float) -> float:
        """By how much a value misses the limit; 0 where it keeps it, and infinite where it is not known."""
        if math.isnan(value):
            return math.inf
        return max(0.0, self.value - value if self.is_least else value - self.value)

    def __str__(self) -> str:
        return f"{self.name} {'>=' if self.is_least else '<='} {self.value:g}"


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Limits from words such as `reasoning >= -2, twins >= -3`."""
    limits = []
    for part in text.split(","):
        found = TEXT.fullmatch(part)
        if found is None:
            raise MechdriftError(
                f"{part.strip()!r} is no limit: write a name, >= or <=, and points, such as 'reasoning >= -2'."
            )
        name, sign, value = found.groups()
        if name not in (*NAMES, *DIMENSIONS):
            raise MechdriftError(f"there is no quantity {name!r}: use one of {', '.join((*NAMES, *DIMENSIONS))}.")
        limits.append(Limit(name=name, is_least=sign == ">=", value=float(value.replace("−", "-"))))
    return tuple(limits)


def check_asked(limits: Sequence[Limit], dimensions: Collection[str], has_tasks: bool) -> None:
    """Raise for a limit of something that the audit did not ask, which no repair could be shown to keep."""
    for limit in limits:
        if (limit.name in DIMENSIONS and limit.name not in dimensions) or (limit.name == "reasoning" and not has_tasks):
            asked = ", ".join([*dimensions, *(["reasoning"] if has_tasks else [])])
            raise MechdriftError(
                f"the limit {limit} cannot be held: the audit did not ask {limit.name} (it has {asked}). Leave it out, "
                "or audit more."
            )


def quantities(rows: pd.DataFrame) -> dict[str, float]:
    """The quantities that limits name, from the rows of one repair on one half."""
    by_place = {(row.measure, row.dimension): row for row in rows.itertuples()}
    dimensions = [dimension for measure, dimension in by_place if measure == "aligned" and dimension != ALL]
    whole = ALL if ("aligned", ALL) in by_place else next(iter(dimensions), "")

    def points(measure: str, dimension: str, column: str = "change") -> float:
        row = by_place.get((measure, dimension))
        return math.nan if row is None else 100 * float(getattr(row, column))

    found = {name: points("aligned", name) for name in dimensions}
    return found | {
        "reasoning": points("reasoning", "reasoning"),
        "twins": points("twins", whole),
        "aligned": points("aligned", whole),
        "recovered": points("aligned", whole, "recovered"),
        "thinking": points("think_ratio", ALL),
        "kl": points("kl_harmless", ALL, "value") / 100,
        "missing": points("missing", ALL),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A repair at one strength with its quantities on the seen half."""

    method: str
    strength: float
    quantities: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.method}@{exactly(self.strength)}"

    def shortfall(self, limits: Sequence[Limit]) -> float:
        """The sum of what the limits are missed by."""
        missing = max(0.0, self.quantities["missing"] - 100 * MOST_MISSING)
        return missing + sum(limit.shortfall(self.quantities.get(limit.name, math.nan)) for limit in limits)


def candidates_of(table: pd.DataFrame) -> list[Candidate]:
    """All repairs that were priced on the seen half."""
    rows = table[(table.half == "seen") & table.strength.notna()]
    return [
        Candidate(method=str(method), strength=float(strength), quantities=quantities(part))
        for (method, strength), part in rows.groupby(["method", "strength"], sort=False)
    ]


def choose(candidates: Sequence[Candidate], limits: Sequence[Limit]) -> Candidate:
    """The candidate with the most aligned answers within the limits; where none keeps them, the one that misses them
    least."""

    def order(candidate: Candidate) -> tuple[float, float]:
        gain = candidate.quantities["aligned"]
        return candidate.shortfall(limits), -(gain if not math.isnan(gain) else -math.inf)

    return min(candidates, key=order)


def pick(candidates: Sequence[Candidate], limits: Sequence[Limit]) -> Candidate:
    """The best candidate within the limits; raises where none is, and says how near the best came."""
    told = " and ".join(map(str, limits))
    if not candidates:
        raise MechdriftError("no repair was priced: name methods whose needs this run meets (repairs.record.NEEDS).")
    best = choose(candidates, limits)
    if best.shortfall(limits):
        came = ", ".join(f"{limit.name} {_told(best.quantities.get(limit.name, math.nan))}" for limit in limits)
        raise MechdriftError(f"no repair keeps {told} on the seen families; the nearest is {best.name} ({came}).")
    if not best.quantities["aligned"] > 0:
        raise MechdriftError(
            f"no repair that keeps {told} gains aligned answers on the seen families; the nearest is {best.name} "
            f"({_told(best.quantities['aligned'])} points)."
        )
    return best


def _told(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:+.1f}"
