"""Each child's answers to the triggers of all probe sets, in one queue, kept in a folder.

Verdicts, options, refusals and insults are at the beginning of an answer, so short budgets are enough: `SHORT` for
everything but privacy, where only a finished answer shows that a secret was kept (`LONG`). Families alternate between
two *halves*: an audit of one half is compared with the other half.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.labels import judge_all
from mechdrift.behaviour.sampling import GREEDY, Budget, Sampling
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.sets import load_probes
from mechdrift.records import ProbeSet, Side

SHORT, LONG = Budget(answer=12), Budget(answer=48)
ROWS = 256  # answers are short, so that many rows fit into one batch
FINISHES = ("privacy",)  # asked with the long budget
HALVES = (0, 1)
Sets = Mapping[str, ProbeSet]


def load_triggers(dimensions: Sequence[str]) -> Sets:
    """The triggers of some dimensions."""
    return {name: load_probes(name).where("trigger") for name in dimensions}


def thin(sets: Sets, items: int, whole: str = "") -> Sets:
    """The first `items` triggers of every family, and all of one dimension's."""
    return {name: probes if name == whole else _first(probes, items) for name, probes in sets.items()}


def _first(probes: ProbeSet, items: int) -> ProbeSet:
    seen: dict[str, int] = {}
    kept = []
    for item in probes:
        seen[item.family] = seen.get(item.family, 0) + 1
        if seen[item.family] <= items:
            kept.append(item)
    return replace(probes, items=tuple(kept))


def half_of(sets: Sets, half: int) -> Mapping[str, tuple[str, ...]]:
    """The families of one half, by dimension: every second one, in the order of the file."""
    return {name: tuple(probes.families)[half::2] for name, probes in sets.items()}


def ask_all(loaded: LanguageModel, sets: Sets, side: Side, store: Path, sampling: Sampling = GREEDY) -> pd.DataFrame:
    """Judged answers of one model to these sets (`judge_all`); those in `store` are not asked again."""
    parts = []
    for budget, names in _by_budget(sets):
        questions = [Question(id=item.id, prompt=item.prompt) for name in names for item in sets[name]]
        how = {
            "budget": budget,
            "sampling": sampling,
            "store": store.with_name(f"{store.name}-{budget.answer}.jsonl"),
            "description": f"Asking {loaded.source.name}",
            "generator": HuggingFace(loaded, rows=ROWS),
        }
        answers = ask(loaded, questions, side, "none", **how)
        parts += [judge_all(sets[name], answers.of(sets[name])) for name in names]
    return pd.concat(parts, ignore_index=True)


def _by_budget(sets: Sets) -> list[tuple[Budget, list[str]]]:
    groups = [(SHORT, [name for name in sets if name not in FINISHES]), (LONG, [n for n in sets if n in FINISHES])]
    return [(budget, names) for budget, names in groups if names]
