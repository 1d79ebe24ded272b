"""What an audit can find, by simulation (`statistics.power`): from an assumption before it starts, from its own answers
afterwards."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mechdrift.audits.plan import Waves
from mechdrift.behaviour.censoring import finished_only
from mechdrift.behaviour.dimensions.record import column
from mechdrift.behaviour.paired import judged_by_both, pair_up
from mechdrift.records import ProbeSet
from mechdrift.statistics.power import assumed_answers, smallest_fall

ASSUMED = 0.85  # assumed share of aligned answers of an instruct model, before anything is known of it
LEAST_FAMILIES = 4  # with fewer, a simulation says nothing


def power_line(waves: Waves) -> str:
    """The line that is printed before an audit in waves: the fall that it finds in 80 % of cases, by size of set."""
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, probes in waves.sets.items():
        triggers = probes.where("trigger")
        families = len(triggers.families)
        sizes.setdefault((families, max(1, round(len(triggers) / max(families, 1)))), []).append(name)
    tests = len(waves.sets)
    found = [
        f"{_points(smallest_fall(*assumed_answers(ASSUMED, items), families, tests=tests, looks=waves.count))} in "
        f"{', '.join(names)} ({families} families of {items})"
        for (families, items), names in sizes.items()
    ]
    return (
        f"Power, simulated after Holm's correction over {tests} for a parent with {ASSUMED:.0%} aligned answers: "
        f"found in 80% of audits are falls of {'; '.join(found)}."
    )


def _points(fall: float) -> str:
    return "no size that was tried" if np.isnan(fall) else f"{fall * 100:.0f} points"


def power_of_design(judged: pd.DataFrame, families: Mapping[str, int], looks: int) -> dict[str, float | None]:
    """Per dimension the smallest fall that its design finds in 80 % of audits, from the audit's own answers; None where
    none is found, or too few families answered."""
    return {name: _smallest(judged[judged.dimension == name], n, len(families), looks) for name, n in families.items()}


def _smallest(judged: pd.DataFrame, families: int, tests: int, looks: int) -> float | None:
    both, _ = judged_by_both(judged[judged.contrast == "trigger"])
    items, before, after = pair_up(finished_only(both), column("aligned"))
    if items.family.nunique() < LEAST_FAMILIES:
        return None
    sides = [_by_family(values, items.family) for values in (before, after)]
    fall = smallest_fall(*sides, families, tests=tests, looks=looks)
    return None if np.isnan(fall) else fall


def _by_family(values: np.ndarray, families: pd.Series) -> np.ndarray:
    """Values by family and item, NaN where a family has fewer items."""
    place = families.groupby(families.to_numpy()).cumcount().to_numpy()
    table = pd.DataFrame({"family": families.to_numpy(), "place": place, "value": values})
    return table.pivot(index="family", columns="place", values="value").to_numpy()


def families_planned(sets: Mapping[str, ProbeSet]) -> dict[str, int]:
    """How many families each dimension may be asked."""
    return {name: len(probes.families) for name, probes in sets.items()}
