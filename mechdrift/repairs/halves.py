"""Families are split in halves: one is seen, the other is reported.

Repairs are made and their strengths chosen on the seen half. The reported numbers come from the other half, which
neither has seen. Reasoning tasks are split by kind, which is their family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mechdrift.behaviour.tasks import Task, held_out
from mechdrift.records import MechdriftError, ProbeSet

Half = Literal["seen", "reported"]
HALVES: tuple[Half, Half] = ("seen", "reported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked on one half: probe sets by dimension, and tasks by their ids in the run."""

    sets: Mapping[str, ProbeSet]
    tasks: Mapping[str, Task]


def split(
    sets: Mapping[str, ProbeSet], tasks: int, seed: int, pairs: int | None = None, most_tasks: int | None = None
) -> dict[Half, Asked]:
    """Both halves of a run's probe sets and tasks; of each set and half at most `pairs` twin pairs, and of each half at
    most `most_tasks` tasks."""
    rng = np.random.default_rng(seed)
    named = {f"task-{index}": task for index, task in enumerate(held_out(tasks) if tasks else ())}
    kinds = _halve(sorted({task.kind for task in named.values()}), rng)
    families = {name: _halve(probes.families, rng) for name, probes in sets.items()}
    for name, (seen, reported) in families.items():
        if not seen or not reported:
            raise MechdriftError(
                f"{name} has one family only, so there is no half to choose on and another to report: audit more items."
            )
    found: dict[Half, Asked] = {}
    for place, half in enumerate(HALVES):
        chosen = [item for item in named.items() if item[1].kind in kinds[place]][:most_tasks]
        parts = {name: probes.of_families(families[name][place]) for name, probes in sets.items()}
        if pairs is not None:
            parts = {name: probes.sample(pairs, seed) for name, probes in parts.items()}
        found[half] = Asked(sets=parts, tasks=dict(chosen))
    return found


def _halve(names: "tuple[str, ...] | list[str]", rng: np.random.Generator) -> tuple[set[str], set[str]]:
    order = [str(name) for name in rng.permutation(list(names))]
    cut = (len(order) + 1) // 2
    return set(order[:cut]), set(order[cut:])
