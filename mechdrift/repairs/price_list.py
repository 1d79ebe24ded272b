"""The price list of an audited pair: `mechdrift repair RUN`.

1. The families of the run's probe sets are split in halves (`halves`). Parent and child were asked by the audit.
2. Each method is made on the seen half at each strength, and the repaired model is asked the seen half (`price_work`).
3. The strength of each method is chosen there (`choice`), and the repaired model is asked the reported half.
4. One table says what came back and what it cost (`prices`), beside parent, child and baselines.
5. With `--pick`, the best repair within limits is written out, ready to load, and audited (`picking`).

    RUN/repair/run.json            what was made and asked; the list goes on from there after a kill
    RUN/repair/answers/*.jsonl     what each repaired model wrote
    RUN/repair/repairs.parquet, .csv, repair.html, figures/
    RUN/repair/picked/             an adapter or a merged folder, and its audit
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.audits.pipeline import software
from mechdrift.behaviour.sampling import check_seed
from mechdrift.pairs.precision import fast_float32
from mechdrift.records import SIDES, MechdriftError, several
from mechdrift.records.foreign import for_spreadsheets
from mechdrift.records.notebook import Record
from mechdrift.records.progress import tell
from mechdrift.repairs.choice import DEFAULT, check_asked, parse_limits
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.making import check_needs, lacks
from mechdrift.repairs.price_work import PriceWork
from mechdrift.repairs.record import Repair
from mechdrift.repairs.registry import REPAIRS, find_repair
from mechdrift.repairs.sentences import told
from mechdrift.repairs.setting import Setting, open_setting
from mechdrift.runs import Run, load_run, open_run, sha256

FOLDER = "repair"
# Columns of the short table: name, measure, column of the long table, factor.
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
    methods: str | Sequence[str] = (),
    strengths: float | Sequence[float] | None = None,
    limits: str = DEFAULT,
    pairs: int | None = None,
    tasks: int | None = None,
    base: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> PriceList:
    """What brings alignment back, and what does each way cost? The price list of an audited pair's child.

    Methods and strengths see one half of the families. Believe the numbers of the other half (`half == "reported"`),
    which only chosen strengths are asked. A list that was ended goes on where it stopped, and
    more methods can be added to it.

    Args:
        run: an audit's run, or its folder.
        methods: names of `mechdrift.repairs.registry`; by default all that need no training and whose needs are met.
        strengths: what to try of every method, instead of each method's own strengths; in the method's unit.
        limits: what a repair may cost when its strength is chosen (`mechdrift.repairs.choice`), in points.
        pairs: at most so many twin pairs of each dimension and half; by default all that the run asked.
        tasks: at most so many reasoning tasks per half.
        base: the model before alignment, for the methods that need one.
        out: where the list goes; by default `repair` in the run's folder.
        seed: seed of the halves and of everything that is drawn.

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
    methods, tried = several(methods), () if strengths is None else several(strengths)
    chosen = [find_repair(name) for name in methods] or [each for each in REPAIRS.values() if each.kind != "data"]
    _check_numbers(chosen if methods else [], tried, {"pairs": pairs, "tasks": tasks}, seed)
    setting = open_setting(source, pairs, tasks, seed)
    if limits != DEFAULT:
        check_asked(limit, list(setting.answers.sets), bool(setting.halves["seen"].tasks))
    evidence = setting.evidence(base)
    chosen = [each for each in chosen if _can_be_made(each, evidence, is_named=bool(methods))]
    own = open_run(Path(out) if out else source.folder / FOLDER, _identity(setting, pairs, tasks), _manifest(setting))
    with own.locked("price list of repairs"), fast_float32():
        work = PriceWork(setting=setting, run=own, evidence=evidence)
        for each in chosen:
            try:
                work.price_method(each, tried or each.strengths, limit)
            except MechdriftError as error:
                if methods:
                    raise
                tell(f"{each.name} is left out: {error}")
        work.add_earlier()
        work.report_chosen(limit)
        table = work.finished(limit)
        own.write_table("repairs", table)
        own.write_text("repairs.csv", for_spreadsheets(table).to_csv(index=False, float_format="%.5g"))
        prices = PriceList(run=own, frame=table, sentences=told(table))
        prices.report()
    return prices


def _check_numbers(
    named: Sequence[Repair], strengths: Sequence[float], counts: Mapping[str, int | None], seed: int
) -> None:
    """Raise for numbers that no list can be made with, before a model is opened."""
    check_seed(seed)
    for name, count in counts.items():
        if count is not None and count < 1:
            raise MechdriftError(f"{name} should be 1 or more; it is {count}.")
    for each in named:
        for strength in strengths:
            each.check(strength)


def _can_be_made(each: Repair, evidence: Evidence, is_named: bool) -> bool:
    """Whether the needs of a method are met. Raises for a method that the user named; for others a line is printed."""
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
