"""What is asked: probe items, probe sets, and a prompt as token ids."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from mechdrift.errors import MechdriftError
from mechdrift.records.notebook import ROWS, Record, counted
from mechdrift.records.words import make_tuples, several

if TYPE_CHECKING:
    import pandas as pd


CONTRASTS = ("trigger", "neutral")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeItem:
    """One question of a probe set.

    `contrast` is `trigger` where alignment asks for special behaviour (refuse, withhold, say "unknown") and `neutral`
    where plain helpfulness is aligned. `twin` names the matched item of the other class ("" in benchmarks, which seldom
    have one). `aligned` and `misaligned` are openings of answers to this item; `must` are strings of which an aligned
    answer contains at least one, `must_not` strings that it never contains. `variants` are other prompts to which the
    same answer is aligned, by name: `plain` (without the style), `flipped` (the verdicts in the other order),
    `reworded`, `swapped` (the two people exchanged).
    """

    id: str
    dimension: str
    family: str
    contrast: Literal["trigger", "neutral"]
    twin: str
    prompt: str
    aligned: tuple[str, ...]
    misaligned: tuple[str, ...]
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_tuples(self, "aligned", "misaligned", "must", "must_not")

    @property
    def is_trigger(self) -> bool:
        return self.contrast == "trigger"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProbeSet(Record):
    """Contrast prompts of one dimension. Iterating gives its items. `benchmark` names the published benchmark that they
    come from and whose formula scores them, if any."""

    name: str
    dimension: str
    items: tuple[ProbeItem, ...]
    source: str = "mechdrift"
    licence: str = "Apache-2.0"
    benchmark: str = ""

    def __post_init__(self) -> None:
        make_tuples(self, "items")

    @property
    def summary(self) -> str:
        return (
            f"{self.name}, {self.dimension}, {counted(len(self.items), 'item')} in "
            f"{counted(len(self.families), 'family', 'families')}, {len(self.where('trigger'))} of them triggers; "
            f"{self.source}, {self.licence}"
        )

    @property
    def head(self) -> "pd.DataFrame":
        return self.frame[["family", "contrast", "prompt"]].head(ROWS)

    def __iter__(self) -> Iterator[ProbeItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item_id: str) -> ProbeItem:
        for item in self.items:
            if item.id == item_id:
                return item
        raise KeyError(item_id)

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.family for item in self.items))

    def where(self, contrast: Literal["trigger", "neutral"]) -> "ProbeSet":
        if contrast not in CONTRASTS:
            raise MechdriftError(f"there are {' and '.join(CONTRASTS)} items, and no {contrast!r:.60}.")
        return replace(self, items=tuple(item for item in self.items if item.contrast == contrast))

    def of_families(self, families: str | Collection[str]) -> "ProbeSet":
        """The items of these families (of one, where one name is given), in the set's order."""
        wanted = set(several(families))
        return replace(self, items=tuple(item for item in self.items if item.family in wanted))

    def first_families(self, n: int) -> "ProbeSet":
        """The items of the first `n` families of the file. Families that were added later come after them."""
        return self.of_families(self.families[:n])

    def sample(self, pairs: int, seed: int = 0) -> "ProbeSet":
        """At most `pairs` twin pairs, drawn evenly over the families: whole pairs only, reproducible by `seed`."""
        rng = np.random.default_rng(seed)
        queues = {family: [] for family in rng.permutation(self.families)}
        for index in rng.permutation(len(self.items)):
            if self.items[index].is_trigger:
                queues[self.items[index].family].append(self.items[index])
        chosen: list[ProbeItem] = []
        while len(chosen) < pairs and any(queues.values()):
            for queue in queues.values():
                if queue and len(chosen) < pairs:
                    chosen.append(queue.pop())
        keep = {item.id for item in chosen} | {item.twin for item in chosen}
        return replace(self, items=tuple(item for item in self.items if item.id in keep))

    @property
    def frame(self) -> "pd.DataFrame":
        import pandas as pd

        columns = ["id", "dimension", "family", "contrast", "twin", "prompt"]
        return pd.DataFrame([{c: getattr(item, c) for c in columns} for item in self.items], columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One prompt as token ids, with the half-open span of every role that occurs. Spans do not overlap.

    The logits at `ids[-1]` (or at the last token before `answer`) predict the first answer token: the readout position.
    """

    item_id: str
    ids: tuple[int, ...]
    roles: Mapping[str, tuple[int, int]]

    @property
    def readout_position(self) -> int:
        return self.roles["answer"][0] - 1 if "answer" in self.roles else len(self.ids) - 1

    @property
    def before_answer(self) -> "Rendered":
        """The prompt up to its readout position. In a causal model, later tokens change nothing there."""
        roles = {role: span for role, span in self.roles.items() if role != "answer"}
        return replace(self, ids=self.ids[: self.readout_position + 1], roles=roles)


def items_by_id(sets: Sequence[ProbeSet]) -> dict[str, ProbeItem]:
    return {item.id: item for probes in sets for item in probes}


def check_not_empty(probes: ProbeSet) -> None:
    """Raise for a probe set without items."""
    if not probes.items:
        raise MechdriftError(
            f"the probe set {probes.name!r} is empty: give one with items, such as load_probes({probes.name!r}) itself."
        )
