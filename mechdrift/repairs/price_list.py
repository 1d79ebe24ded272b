"""The price list of an audited pair: `mechdrift repair RUN`.

1. the families of the run's probe sets are split in halves (`halves`); parent and child were asked already
2. each method is made on the seen half at each strength, and the repaired model asks the seen half
3. the strength of each method is chosen there (`choice`), and the repaired model asks the reported half
4. one table says what came back and what it cost (`prices`), beside parent, child and baselines
5. `pick`: the best repair within limits is written out, ready to load, and audited

    RUN/repair/run.json            what was made and asked; the list goes on from there after a kill
    RUN/repair/answers/*.jsonl     what each repaired model wrote
    RUN/repair/repairs.parquet, .csv, repair.html, figures/
    RUN/repair/picked/             an adapter or a merged folder, and its audit
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.audits.pipeline import software
from mechdrift.behaviour.generation import ask, read_store
from mechdrift.behaviour.sampling import Budget
from mechdrift.pairs.pair import give_back_memory
from mechdrift.pairs.precision import fast_float32
from mechdrift.records import SIDES, Completions, MechdriftError
from mechdrift.records.foreign import for_spreadsheets
from mechdrift.records.notebook import Record
from mechdrift.records.progress import tell
from mechdrift.repairs.answered import judged_items
from mechdrift.repairs.changes import LowRank, dense, size
from mechdrift.repairs.choice import DEFAULT, Candidate, Limit, candidates_of, choose, parse_limits
from mechdrift.repairs.divergences import Divergences
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.halves import HALVES, Half
from mechdrift.repairs.making import Repaired, check_needs, lacks, make
from mechdrift.repairs.prices import NOTHING, plain_row, price_rows
from mechdrift.repairs.record import Repair
from mechdrift.repairs.registry import REPAIRS, find_repair
from mechdrift.repairs.sentences import told
from mechdrift.repairs.setting import Setting, open_setting
from mechdrift.repairs.using import InUse, as_it_is
from mechdrift.runs import Run, load_run, open_run, sha256

FOLDER = "repair"
TIMED = 4  # questions that a repaired model is timed on
TIMED_BUDGET = Budget(think=24, answer=8)
COLUMNS = ["method", "kind", "strength", "half", "chosen"]


@dataclass(frozen=True, kw_only=True, repr=False)
class PriceList(Record):
    """What each repair brings back and what it costs. `frame` is the table `repairs`; `chosen` the strength of each
    method that was chosen on the seen half."""

    run: Run
    frame: pd.DataFrame
    sentences: tuple[str, ...]

    @property
    def summary(self) -> str:
        methods = self.frame[self.frame.strength.notna()].method.nunique()
        return "\n".join([f"{methods} repairs of {self.run.manifest['config']['pair']}", *self.sentences])

    @property
    def head(self) -> pd.DataFrame:
        return short_table(self.frame)

    def report(self) -> Path:
        """Write `repair.html` and its figures; loads no model."""
        from mechdrift.repairs.page import write_page

        return write_page(self.run)


def price_repairs(
    run: Run | str | Path,
    *,
    methods: Sequence[str] = (),
    strengths: Sequence[float] | None = None,
    limits: str = DEFAULT,
    pairs: int | None = None,
    tasks: int | None = None,
    base: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> PriceList:
    """What brings alignment back, and what does each way cost? The price list of an audited pair's child.

    Methods and strengths see one half of the families; the numbers to believe are those of the other half
    (`half == "reported"`), which only chosen strengths are asked. A list that was ended goes on where it stopped, and
    more methods can be added to it.

    Args:
        run: an audit's run, or its folder.
        methods: names of `mechdrift.repairs.registry`; by default all that change weights, activations or tokens and
            have what they need.
        strengths: those to try of every method, instead of each method's own; in the method's unit.
        limits: what a repair may cost when its strength is chosen (`mechdrift.repairs.choice`), in points.
        pairs: at most so many twin pairs of each dimension and half; by default all that the run asked.
        tasks: at most so many reasoning tasks a half.
        base: the model before alignment, for the methods that need one.
        out: where the list goes; by default `repair` in the run's folder.
        seed: of the halves and of everything that is drawn.

    Returns:
        A `PriceList`: `.sentences` says what was found, `.run` is its folder, and `.frame` has a row per repair,
        strength, half, measure and dimension. `value, low, high` are those of the repaired model, `child` and `parent`
        those of the two models, `change, change_low, change_high` repaired less child, and `recovered` the share of the
        gap between child and parent that came back; `n` items in `families`. Intervals are 95 % over families. The
        measures `aligned`, `twins`, `reasoning`, `thought`, `loops`, `unclosed` and `missing` are shares, `think_ratio`
        is a ratio of lengths, `kl_tasks` and `kl_harmless` are in nats per token, `seconds_to_make` and
        `seconds_per_token` in seconds.

    Raises:
        MechdriftError: for a folder that is no audit, unknown methods, a method that lacks what it needs, and a child
            that was repaired already.

    Source:
        Each method names its paper (`mechdrift.repairs.registry`); intervals: `mechdrift.statistics.intervals`.

    Example:
        >>> try:
        ...     prices = md.price_repairs(run, methods=["interpolate"], pairs=8)
        ... except md.MechdriftError as error:  # this run was made by no model
        ...     print(str(error).split()[:2])
        ['unknown', 'pair']
    """
    source = run if isinstance(run, Run) else load_run(run)
    limit = parse_limits(limits)
    chosen = [find_repair(name) for name in methods] or [each for each in REPAIRS.values() if each.kind != "data"]
    setting = open_setting(source, pairs, tasks, seed)
    evidence = setting.evidence(base)
    chosen = [each for each in chosen if _can_be_made(each, evidence, is_named=bool(methods))]
    own = open_run(Path(out) if out else source.folder / FOLDER, _identity(setting, pairs, tasks), _manifest(setting))
    with own.locked("price list of repairs"), fast_float32():
        work = PriceWork(setting=setting, run=own, evidence=evidence)
        for each in chosen:
            try:
                work.price_method(each, strengths or each.strengths, limit)
            except MechdriftError as error:
                if methods:
                    raise
                tell(f"{each.name} is left out: {error}")
        work.add_earlier()
        table = work.finished(limit)
        own.write_table("repairs", table)
        own.write_text("repairs.csv", for_spreadsheets(table).to_csv(index=False, float_format="%.5g"))
        prices = PriceList(run=own, frame=table, sentences=told(table))
        prices.report()
    return prices


def _can_be_made(each: Repair, evidence: Evidence, is_named: bool) -> bool:
    """Whether a method has what it needs: one that is named must, others are left out with a line."""
    if is_named:
        check_needs(each, evidence)
    if lacking := lacks(each, evidence):
        tell(f"{each.name} is left out: it {lacking}.")
    return not lacking


def _identity(setting: Setting, pairs: int | None, tasks: int | None) -> dict[str, Any]:
    return {
        "repairs of": setting.manifest["pair"]["fingerprints"],
        "items": sha256(setting.source.folder / "completions.parquet"),
        "pairs": pairs,
        "tasks": tasks,
        "seed": setting.seed,
    }


def _manifest(setting: Setting) -> dict[str, Any]:
    names = {side: setting.manifest["pair"][side]["name"] for side in SIDES}
    config = {"pair": setting.pair.name, "seed": setting.seed}
    return {"config": config, "models": names, "judge": setting.judge.name, "candidates": {}} | software()


class PriceWork:
    """The list as it grows: what was asked and priced so far. A repair that was asked before is not made again."""

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
        name = f"{each.name}@{strength:g}"
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
        known = {f"{row['method']}@{row['strength']:g} {row['half']}" for row in self.rows}
        for stage in self.run.manifest["candidates"]:
            method, _, rest = stage.partition("@")
            strength, half = rest.split(" ")
            if stage not in known and method in REPAIRS and stage in self.run.finished:
                self.price(REPAIRS[method], float(strength), half)

    def _ask(self, each: Repair, strength: float, half: Half, stage: str, store: Path) -> None:
        tell(f"Repairing {self.setting.pair.name}: {stage}")
        start = time.perf_counter()
        fixed = self._make(each, strength)
        used = fixed.use(self.setting.dtype)
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
            "seconds_to_make": fixed.seconds,
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
        """The repair. What took training is kept until the next method comes: it is narrow matrices, and the reported
        half asks it again."""
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
        """CPU seconds per token that a repair costs in use, beyond the child; nothing where only weights changed."""
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
        names = table.method + "@" + table.strength.map("{:g}".format)
        return table.assign(chosen=names.isin(chosen)).drop_duplicates(["method", "strength", "half", *PLACE])


PLACE = ("measure", "dimension")


def chosen_of(table: pd.DataFrame, limits: Sequence[Limit]) -> list[Candidate]:
    """The strength of each method that the seen half chooses."""
    found = candidates_of(table)
    return [
        choose([c for c in found if c.method == method], limits) for method in dict.fromkeys(c.method for c in found)
    ]


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what is missing, for JSON."""
    return {name: value for name, value in row.items() if value == value}


def _facts_of(fixed: Repaired) -> dict[str, Any]:
    """How large a change of weights is, and the largest rank of its matrices."""
    if fixed.repair.kind not in ("weights", "data"):
        return {}
    changes = [fixed.changes[place] for place in fixed.changes]
    is_narrow = all(isinstance(change, LowRank) for change in changes)
    return {
        "norm": sum(size(change) ** 2 for change in changes) ** 0.5,
        "parameters": sum(dense(change).numel() for change in changes),
        "rank": max(change.up.shape[1] for change in changes if isinstance(change, LowRank)) if is_narrow else None,
    }


def short_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One line per repair at its chosen strength, on the reported half: what came back, and the price, in points."""
    rows = frame[(frame.half == "reported") & (frame.chosen.astype(bool) | frame.strength.isna())]
    lines = []
    for (method, strength), part in rows.groupby(["method", "strength"], sort=False, dropna=False):
        # With one dimension there is no mean over them: that dimension stands for it.
        whole = part.drop_duplicates("measure", keep="last").set_index("measure")
        line = {name: factor * float(whole[column].get(measure, math.nan)) for name, measure, column, factor in SHORT}
        lines.append({"method": method, "strength": strength, "n": int(whole.n.get("aligned", 0))} | line)
    return pd.DataFrame(lines)


SHORT = (
    ("aligned", "aligned", "value", 100),
    ("recovered", "aligned", "recovered", 100),
    ("low", "aligned", "recovered_low", 100),
    ("high", "aligned", "recovered_high", 100),
    ("reasoning", "reasoning", "change", 100),
    ("twins", "twins", "change", 100),
    ("thought", "thought", "change", 100),
    ("thinking", "think_ratio", "value", 1),
    ("unclosed", "unclosed", "value", 100),
    ("missing", "missing", "value", 100),
    ("kl", "kl_harmless", "value", 1),
)
