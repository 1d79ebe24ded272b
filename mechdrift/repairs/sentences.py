"""What a price list says, in words: which repair is shown to bring most back, and what no repair is shown to do.

A gain counts as shown where its interval excludes 0. One repair counts as better than another where their intervals do
not overlap, which is stricter than a test of their difference. A repair that leaves over 5 points more answers missing
than the child is never said to bring anything back, because what it would have answered is not known
(`behaviour.censoring`).
"""

import math

import pandas as pd

from mechdrift.behaviour.censoring import MOST_MISSING
from mechdrift.records import exactly
from mechdrift.records.notebook import counted
from mechdrift.repairs.registry import REPAIRS
from mechdrift.report.words import MINUS, interval, listing, number


def told(table: pd.DataFrame) -> tuple[str, ...]:
    """The sentences: the best repair on the reported half, how located interpolation compares with that of all blocks,
    and the baselines."""
    rows = {str(method): part for method, part in reported(table).groupby("method", sort=False)}
    sentences = [*_best(rows), *_located(rows), *_baselines(rows)]
    return tuple(sentences)


def reported(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the chosen strengths on the reported half."""
    return table[(table.half == "reported") & table.chosen.astype(bool)]


def row_of(part: pd.DataFrame, measure: str) -> "pd.Series | None":
    """One measure's row: the mean over dimensions, or the only dimension's."""
    rows = part[part.measure == measure]
    return rows.iloc[-1] if len(rows) else None


def is_baseline(method: str) -> bool:
    return method in REPAIRS and REPAIRS[method].is_baseline


def name_of(method: str, part: pd.DataFrame) -> str:
    return f"{method}@{exactly(part.strength.iloc[0])}"


def _best(rows: dict[str, pd.DataFrame]) -> list[str]:
    gains = {name: row for name, part in rows.items() if (row := row_of(part, "aligned")) is not None}
    gains = {name: row for name, row in gains.items() if not is_baseline(name)}
    if untold := [name_of(name, part) for name, part in rows.items() if name not in gains and not is_baseline(name)]:
        return [*_best({name: rows[name] for name in gains}), _nothing_finished(untold)]
    if not gains:
        return []
    known = {name: row for name, row in gains.items() if not _is_cut(rows[name])}
    sentences = []
    if known:
        best = max(known, key=lambda name: known[name].change)
        name, cost = name_of(best, rows[best]), price(rows[best])
        is_shown = known[best].change_low > 0
        sentences.append(
            f"{name} brings most aligned answers back: {cost}."
            if is_shown
            else f"No repair is shown to bring aligned answers back; the largest estimate is that of {name}: {cost}."
        )
    return sentences + [_cannot_tell(name_of(name, rows[name]), rows[name]) for name in gains if name not in known]


def _nothing_finished(names: list[str]) -> str:
    verb = "does" if len(names) == 1 else "do"
    return (
        f"What {listing(names)} {verb} cannot be told: no trigger has an answer that was finished by the child and "
        "after the repair."
    )


def _is_cut(part: pd.DataFrame) -> bool:
    """Whether too many answers are missing, compared with the child, to say what a repair does."""
    missing = row_of(part, "missing")
    return missing is not None and bool(missing.change > MOST_MISSING)


def _cannot_tell(name: str, part: pd.DataFrame) -> str:
    missing = part[part.measure == "missing"].iloc[-1]
    return (
        f"What {name} does cannot be told: {missing.value:.0%} of its answers are missing, and {missing.child:.0%} of "
        f"the child's; of those that ended: {price(part)}."
    )


def price(part: pd.DataFrame) -> str:
    """What one repair brought back and what it cost, with intervals, in points."""
    told = []
    aligned = row_of(part, "aligned")
    if aligned is not None:
        size = f"{counted(int(aligned.n), 'trigger')} of {counted(int(aligned.families), 'family', 'families')}"
        told.append(f"{_points(aligned)} points of aligned answers ({size})")
        if not math.isnan(aligned.recovered):
            ends = interval(aligned.recovered_low, aligned.recovered_high, share=True)
            told.append(f"{number(aligned.recovered, share=True)} of the gap ({ends})")
    for measure, words in (("reasoning", "of reasoning"), ("twins", "of harmless twins helped")):
        row = row_of(part, measure)
        if row is not None:
            told.append(f"{_points(row)} points {words}")
    return ", ".join(told)


def _points(row: pd.Series) -> str:
    change, low, high = (_in_tenths(100 * value) for value in (row.change, row.change_low, row.change_high))
    return f"{change} ({low} to {high})"


def _in_tenths(points: float) -> str:
    """ "+1.5", "−0.4", and "0.0" without a sign."""
    return f"{points:+.1f}".replace("-", MINUS) if round(points, 1) else "0.0"


def _located(rows: dict[str, pd.DataFrame]) -> list[str]:
    """Whether interpolating the located blocks beats all blocks, at the strengths that were chosen."""
    if not {"located", "interpolate"} <= set(rows):
        return []
    here, there = (row_of(rows[name], "aligned") for name in ("located", "interpolate"))
    cost, other = (row_of(rows[name], "reasoning") for name in ("located", "interpolate"))
    if here is None or there is None or any(_is_cut(rows[name]) for name in ("located", "interpolate")):
        return []
    told = f"{_points(here)} against {_points(there)} points"
    if cost is not None and other is not None:
        told += f", with {_points(cost)} against {_points(other)} points of reasoning"
    if here.change_low > there.change_high:
        return [f"Interpolating the located blocks brings more aligned answers back than interpolating all: {told}."]
    return [f"Interpolating the located blocks is not shown to bring more back than interpolating all: {told}."]


def _baselines(rows: dict[str, pd.DataFrame]) -> list[str]:
    found = []
    for name in (name for name in rows if is_baseline(name)):
        row = row_of(rows[name], "aligned")
        if row is not None:
            found.append(f"The baseline {name_of(name, rows[name])} changes {_points(row)} points of aligned answers.")
    return found
