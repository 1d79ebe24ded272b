"""What a price list says, in words: which repair brought most back within the limits, and what none of them did."""

import math

import pandas as pd

from mechdrift.repairs.registry import REPAIRS


def told(table: pd.DataFrame) -> tuple[str, ...]:
    """A sentence each: the best repair on the reported half; how located interpolation compares with all blocks; the
    baselines."""
    rows = {str(method): part for method, part in reported(table).groupby("method", sort=False)}
    sentences = [*_best(rows), *_located(rows), *_baselines(rows)]
    return tuple(sentences)


def reported(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the chosen strengths on the reported half."""
    return table[(table.half == "reported") & table.chosen.astype(bool)]


def row_of(part: pd.DataFrame, measure: str) -> "pd.Series | None":
    """One measure's row: the mean over dimensions, or that of the one dimension there is."""
    rows = part[part.measure == measure]
    return rows.iloc[-1] if len(rows) else None


def is_baseline(method: str) -> bool:
    return method in REPAIRS and REPAIRS[method].is_baseline


def name_of(method: str, part: pd.DataFrame) -> str:
    return f"{method}@{part.strength.iloc[0]:g}"


def _best(rows: dict[str, pd.DataFrame]) -> list[str]:
    gains = {name: row for name, part in rows.items() if (row := row_of(part, "aligned")) is not None}
    gains = {name: row for name, row in gains.items() if not is_baseline(name)}
    if not gains:
        return []
    best = max(gains, key=lambda name: gains[name].change)
    return [f"{name_of(best, rows[best])} brings most aligned answers back: {price(rows[best])}."]


def price(part: pd.DataFrame) -> str:
    """What one repair brought and cost, with intervals, in points."""
    told = []
    aligned = row_of(part, "aligned")
    if aligned is not None:
        told.append(f"{_points(aligned)} points of aligned answers")
        if not math.isnan(aligned.recovered):
            ends = f"{aligned.recovered_low:.0%} to {aligned.recovered_high:.0%}"
            told.append(f"{aligned.recovered:.0%} of the gap ({ends})")
    for measure, words in (("reasoning", "of reasoning"), ("twins", "of harmless twins helped")):
        row = row_of(part, measure)
        if row is not None:
            told.append(f"{_points(row)} points {words}")
    return ", ".join(told)


def _points(row: pd.Series) -> str:
    return f"{100 * row.change:+.1f} ({100 * row.change_low:+.1f} to {100 * row.change_high:+.1f})".replace("-", "−")


def _located(rows: dict[str, pd.DataFrame]) -> list[str]:
    """Whether interpolating the located blocks beats all blocks, at the strengths that were chosen."""
    if not {"located", "interpolate"} <= set(rows):
        return []
    here, there = (row_of(rows[name], "aligned") for name in ("located", "interpolate"))
    cost, other = (row_of(rows[name], "reasoning") for name in ("located", "interpolate"))
    if here is None or there is None:
        return []
    word = "more" if here.change > there.change else "no more"
    kept = (
        "" if cost is None or other is None else f", with {_points(cost)} against {_points(other)} points of reasoning"
    )
    return [
        f"Interpolating the located blocks brings {word} aligned answers back than interpolating all: {_points(here)} "
        f"against {_points(there)} points{kept}."
    ]


def _baselines(rows: dict[str, pd.DataFrame]) -> list[str]:
    found = []
    for name in (name for name in rows if is_baseline(name)):
        row = row_of(rows[name], "aligned")
        if row is not None:
            found.append(f"The baseline {name_of(name, rows[name])} changes {_points(row)} points of aligned answers.")
    return found
