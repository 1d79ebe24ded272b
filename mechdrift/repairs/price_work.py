"""The work behind a price list: repairs are asked one after the other, and each adds its rows.

A repair that was asked before is not made again: its answers lie in the folder of the list, and its facts (seconds,
divergences, the size of the change) in the manifest. Methods that train are the exception to making a repair anew for
each half: what they trained is kept until the next method comes, because the reported half asks it again.
"""

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.behaviour.answer_store import read_store
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.sampling import Budget
from mechdrift.pairs.pair import give_back_memory
from mechdrift.records import SIDES, Completions, MechdriftError, exactly
from mechdrift.records.progress import tell
from mechdrift.repairs.answered import judged_items
from mechdrift.repairs.changes import LowRank, dense, size
from mechdrift.repairs.choice import Candidate, Limit, candidates_of, choose
from mechdrift.repairs.divergences import Divergences
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.halves import HALVES, Half
from mechdrift.repairs.making import Repaired, make
from mechdrift.repairs.prices import NOTHING, plain_row, price_rows
from mechdrift.repairs.record import Repair
from mechdrift.repairs.registry import REPAIRS
from mechdrift.repairs.setting import Setting
from mechdrift.repairs.using import InUse, as_it_is
from mechdrift.runs import Run

TIMED = 4  # questions that a repaired model is timed on
TIMED_BUDGET = Budget(think=24, answer=8)
PLACE = ("method", "strength", "half", "measure", "dimension")  # what names a row


class PriceWork:
    """The list as it grows: what was asked and priced so far."""

    def __init__(self, setting: Setting, run: Run, evidence: Evidence):
        self.setting, self.run, self.evidence = setting, run, evidence
        self.rows: list[dict] = []
        self._trained: dict[tuple[str, float], Repaired] = {}
        self.sides = {(half, side): setting.of_side(half, side) for half in HALVES for side in SIDES}
        (run.folder / "answers").mkdir(exist_ok=True)

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def price_method(self, each: Repair, strengths: Sequence[float], limits: Sequence[Limit]) -> None:
        """Price one method at all strengths on the seen half, and at the chosen one on the reported half."""
        for strength in strengths:
            self.price(each, strength, "seen")
        best = choose([c for c in candidates_of(self.frame) if c.method == each.name], limits)
        self.price(each, best.strength, "reported")

    def price(self, each: Repair, strength: float, half: Half) -> None:
        """Ask one repair on one half, unless that was done, and add its rows."""
        name = f"{each.name}@{exactly(strength)}"
        store, stage = self.run.folder / "answers" / f"{name} {half}.jsonl", f"{name} {half}"
        if stage not in self.run.finished:
            self._ask(each, strength, half, stage, store)
        answers = Completions(side="reasoning", think="own", rows=tuple(read_store(store).values()))
        items = judged_items(self.setting.halves[half], answers, self.setting.judge)
        facts = self.run.manifest["candidates"][stage]
        place = {"method": each.name, "kind": each.kind, "strength": float(strength), "half": half}
        priced = price_rows(items, self.sides[half, "reasoning"], self.sides[half, "instruct"], self.setting.seed)
        costs = [plain_row(cost, facts[cost]) for cost in ("seconds_to_make", "seconds_per_token")]
        self.rows += [place | row for row in (*priced, *(NOTHING | row for row in facts["kl"]), *costs)]

    def add_earlier(self) -> None:
        """The rows of what an earlier call priced and this one did not name."""
        known = {f"{row['method']}@{exactly(row['strength'])} {row['half']}" for row in self.rows}
        for stage in self.run.manifest["candidates"]:
            method, _, rest = stage.partition("@")
            strength, half = rest.split(" ")
            if stage not in known and method in REPAIRS and stage in self.run.finished:
                self.price(REPAIRS[method], float(strength), half)

    def report_chosen(self, limits: Sequence[Limit]) -> None:
        """Ask the reported half of earlier methods for which these limits choose another strength than those before.
        A method that cannot be made this time has no chosen strength on that half, and is not picked."""
        asked = {(row["method"], row["strength"]) for row in self.rows if row["half"] == "reported"}
        for best in chosen_of(self.frame, limits):
            if (best.method, best.strength) not in asked:
                try:
                    self.price(REPAIRS[best.method], best.strength, "reported")
                except MechdriftError as error:
                    tell(f"{best.name} is not reported: {error}")

    def _ask(self, each: Repair, strength: float, half: Half, stage: str, store: Path) -> None:
        tell(f"Repairing {self.setting.pair.name}: {stage}")
        start = time.perf_counter()
        fixed = self._make(each, strength)
        made = time.perf_counter()
        used = fixed.use(self.setting.dtype)  # changes of weights are computed here, one matrix at a time
        ready = time.perf_counter() - made
        ask(
            used.loaded,
            self.setting.questions(half),
            "reasoning",
            used.think,
            budget=self.setting.budget,
            store=store,
            generator=used.generator,
            is_model=used.is_model,
            description=f"Asking {fixed.name}",
        )
        found = {
            "seconds_to_make": fixed.seconds + ready,
            "seconds_per_token": self._extra_seconds(used),
            "kl": [_short(row) for texts in self._divergences(half) for row in texts.row(used, self.setting.seed)],
            **_facts_of(fixed),
        }
        candidates = self.run.manifest["candidates"] | {stage: found}
        file = store.relative_to(self.run.folder).as_posix()
        self.run.finish(stage, time.perf_counter() - start, (file,), candidates=candidates)
        del used
        give_back_memory()

    def _make(self, each: Repair, strength: float) -> Repaired:
        """The repair. What was trained is kept until the next method comes: it is small (narrow matrices), and is
        needed again for the reported half."""
        if each.kind != "data":
            return make(each, self.evidence, strength)
        self._trained = {key: fixed for key, fixed in self._trained.items() if key[0] == each.name}
        key = (each.name, strength)
        if key not in self._trained:
            self._trained[key] = make(each, self.evidence, strength)
        return self._trained[key]

    def _divergences(self, half: Half) -> list[Divergences]:
        if half not in self._texts:
            child = self.setting.pair.open("reasoning", self.setting.dtype)
            texts = self.setting.texts(half)
            self._texts[half] = [Divergences.of(self.setting.pair, name, texts[name], child) for name in texts]
        return self._texts[half]

    @cached_property
    def _texts(self) -> dict[Half, list[Divergences]]:
        return {}

    def _extra_seconds(self, used: InUse) -> float:
        """CPU seconds per token that a repair costs in use, beyond the child; 0 where only weights changed."""
        if used.is_model:
            return 0.0
        return self._seconds_per_token(used) - self._child_seconds

    @cached_property
    def _child_seconds(self) -> float:
        return self._seconds_per_token(as_it_is(self.setting.pair, self.setting.dtype))

    def _seconds_per_token(self, used: InUse) -> float:
        start = time.process_time()
        written = ask(
            used.loaded,
            self.setting.questions("seen")[:TIMED],
            "reasoning",
            used.think,
            budget=TIMED_BUDGET,
            generator=used.generator,
            is_model=False,
            description="Timing",
        )
        tokens = sum(len(row.thinking_ids) + len(row.answer_ids) for row in written)
        return (time.process_time() - start) / max(1, tokens)

    def finished(self, limits: Sequence[Limit]) -> pd.DataFrame:
        """The whole table: parent and child first, then every repair, with the chosen strengths marked."""
        models = []
        for half in HALVES:
            child, parent = self.sides[half, "reasoning"], self.sides[half, "instruct"]
            for name, side in (("parent", parent), ("child", child)):
                place = {"method": name, "kind": "model", "strength": float("nan"), "half": half}
                models += [place | row for row in price_rows(side, child, parent, self.setting.seed)]
        table = pd.DataFrame([*models, *self.rows])
        chosen = {c.name for c in chosen_of(table, limits)}
        names = table.method + "@" + table.strength.map(exactly)
        return table.assign(chosen=names.isin(chosen)).drop_duplicates([*PLACE])


def chosen_of(table: pd.DataFrame, limits: Sequence[Limit]) -> list[Candidate]:
    """The strength of each method that the seen half chooses."""
    found = candidates_of(table)
    return [
        choose([c for c in found if c.method == method], limits) for method in dict.fromkeys(c.method for c in found)
    ]


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its missing values (NaN), for JSON."""
    return {name: value for name, value in row.items() if value == value}


def _facts_of(fixed: Repaired) -> dict[str, Any]:
    """The norm of a change of weights, its number of parameters, and the largest rank of its matrices."""
    if fixed.repair.kind not in ("weights", "data"):
        return {}
    changes = [fixed.changes[place] for place in fixed.changes]
    is_narrow = all(isinstance(change, LowRank) for change in changes)
    return {
        "norm": sum(size(change) ** 2 for change in changes) ** 0.5,
        "parameters": sum(dense(change).numel() for change in changes),
        "rank": max(change.up.shape[1] for change in changes if isinstance(change, LowRank)) if is_narrow else None,
    }
