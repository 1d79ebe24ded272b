"""How often do 95 % intervals hold the truth? Simulated audits, with mechdrift's interval and with others.

    python intervals.py > intervals.md     also writes intervals.csv, a row per cell and kind of number

Of levels (the share of aligned answers of one model), paired differences (child - parent), differences of differences
(what a condition does to the child - what it does to the parent), means of six dimensions, and of numbers without
bounds. The other methods, on part of the cells:

    percentiles   of 2,000 draws of families with replacement: mechdrift's earlier interval
    t             mean +- t sd / sqrt(F) over families
    two added     the same after one family at either end of the scale was added (Agresti & Caffo 2000, of families)
    Wilson        levels: Wilson's interval with the effective number of items and t quantiles (Dean & Pagano 2015, doi
                  10.1093/jssam/smv024); differences: such levels squared and added with the families' correlation
                  (Newcombe 1998; Zou & Donner 2008)
    safe          mechdrift's safe ends, those of gates
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from families import DRAWS, PARENTS, Design, Ends, Method, Values, answers, designs, of_distinct, ours
from scipy import stats

from mechdrift.statistics.intervals import SAFE_UNSEEN, SHARE, SIGNED_SHARE, UNBOUNDED, ends, family_weights
from mechdrift.statistics.resampling import family_draws

DATA_SETS = 1000
ENDS = (0.0, 0.8)  # of the correlations: the first grids, on which other methods are tried, too
DROPS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
CONDITIONS = (0.0, 0.1, 0.2)  # by how much more a condition costs the child than the parent
SIX = (0.99, 0.97, 0.9, 0.8, 0.7, 0.6)
SIX_DROPS = (0.0, 0.02, 0.1, 0.2, 0.05, 0.3)
LOW, HIGH = 0.93, 0.98
Grid = dict[tuple[int, int], list[Design]]
FEW = 4  # families that tell: with fewer, on average, a count of 0 or 1 decides


def percentiles(sets: Values) -> Ends:
    drawn = family_draws(sets.shape[1], DRAWS, 0) @ sets.T / sets.shape[1]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def student(sets: Values) -> Ends:
    reach = stats.t.isf(0.025, sets.shape[1] - 1) * sets.std(axis=1, ddof=1) / np.sqrt(sets.shape[1])
    return sets.mean(axis=1) - reach, sets.mean(axis=1) + reach


def two_added(low: float, high: float) -> Method:
    return lambda sets: student(
        np.pad(np.pad(sets, ((0, 0), (1, 0)), constant_values=low), ((0, 0), (0, 1)), constant_values=high)
    )


def wilson(sets: Values, items: int) -> Ends:
    count, mean = sets.shape[1], sets.mean(axis=1)
    variance = sets.var(axis=1, ddof=1) / count
    size = np.where(variance > 0, mean * (1 - mean) / np.where(variance > 0, variance, 1), count)
    size = np.clip(size, 1, count * items)
    square = stats.t.isf(0.025, count - 1) ** 2
    centre = (mean + square / 2 / size) / (1 + square / size)
    reach = np.sqrt(square * (mean * (1 - mean) / size + square / 4 / size**2)) / (1 + square / size)
    return centre - reach, centre + reach


def squared_and_added(before: Values, after: Values, items: int) -> Ends:
    means = before.mean(axis=1), after.mean(axis=1)
    (low, high), (low_after, high_after) = wilson(before, items), wilson(after, items)
    spread = before.std(axis=1) * after.std(axis=1)
    shared = ((before - means[0][:, None]) * (after - means[1][:, None])).mean(axis=1)
    r = np.where(spread > 0, shared / np.where(spread > 0, spread, 1), 0)

    def reach(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(one**2 + other**2 - 2 * r * one * other, 0))

    change = means[1] - means[0]
    down = reach(means[1] - low_after, high - means[0])
    return change - down, change + reach(high_after - means[1], means[0] - low)


def row(kind: str, method: str, design: Design, truth: float, found: Ends, changed: float, **said: float) -> dict:
    low, high = found
    below, above = float((truth < low - 1e-9).mean()), float((truth > high + 1e-9).mean())
    return {
        "kind": kind,
        "method": method,
        "families": design.families,
        "items": design.items,
        "within": design.within,
        "between": design.between,
        **said,
        "truth": truth,
        "changed": changed,
        "covered": 1 - below - above,
        "truth_below": below,
        "truth_above": above,
        "width": float((high - low).mean()),
    }


def rest_of(grid: Grid, every: Grid) -> Grid:
    """The designs of `every` that `grid` has not."""
    left = {size: [one for one in group if one not in grid.get(size, ())] for size, group in every.items()}
    return {size: group for size, group in left.items() if group}


def levels(grid: Grid, seed: int) -> Iterator[dict]:
    """One model's share; `changed` is the smaller number of families with any aligned, and with any other answer."""
    rng = np.random.default_rng(seed)
    for group in grid.values():
        cells = [(design, share) for design in group for share in PARENTS]
        sets = np.concatenate([answers(design, (share,), rng, DATA_SETS)[0] for design, share in cells])
        methods: dict[str, Method] = {
            "mechdrift": ours(SHARE),
            "safe": ours(SHARE, SAFE_UNSEEN),
            "percentiles": percentiles,
            "t": student,
            "two added": two_added(0, 1),
            "Wilson": lambda part, items=group[0].items: wilson(part, items),
        }
        for name, method in methods.items():
            low, high = of_distinct(sets, method)
            for place, (design, share) in enumerate(cells):
                own = slice(place * DATA_SETS, (place + 1) * DATA_SETS)
                telling = min((sets[own] > 0).sum(axis=1).mean(), (sets[own] < 1).sum(axis=1).mean())
                yield row("level", name, design, share, (low[own], high[own]), telling, parent=share)


def differences(grid: Grid, seed: int) -> Iterator[dict]:
    """Child - parent; other methods on a part of the grid. `changed`: the families that differ."""
    rng = np.random.default_rng(seed)
    for group in grid.values():
        cells = [(design, parent, drop) for design in group for parent in PARENTS for drop in DROPS]
        both = [answers(design, (parent, parent - drop), rng, DATA_SETS) for design, parent, drop in cells]
        for name, method in {
            "mechdrift": ours(SIGNED_SHARE),
            "safe": ours(SIGNED_SHARE, SAFE_UNSEEN),
            "percentiles": percentiles,
            "t": student,
            "two added": two_added(-1, 1),
        }.items():
            chosen = [k for k, cell in enumerate(cells) if name == "mechdrift" or _is_compared(cell[0])]
            if not chosen:
                continue
            low, high = of_distinct(np.concatenate([both[k][1] - both[k][0] for k in chosen]), method)
            for place, k in enumerate(chosen):
                own = slice(place * DATA_SETS, (place + 1) * DATA_SETS)
                yield _difference(name, *cells[k], both[k], (low[own], high[own]))
        for k, cell in enumerate(cells):
            if _is_compared(cell[0]):
                yield _difference("Wilson", *cell, both[k], squared_and_added(*both[k], cell[0].items))


def _is_compared(design: Design) -> bool:
    """Where other methods are tried, too; they take most of the time."""
    return design.between == 0.8 and design.within == 0 and design.families <= 32


def _difference(name: str, design: Design, parent: float, drop: float, both: np.ndarray, found: Ends) -> dict:
    changed = float((both[0] != both[1]).sum(axis=1).mean())
    return row("difference", name, design, -drop, found, changed, parent=parent)


def differences_of_differences(grid: Grid, seed: int) -> Iterator[dict]:
    """A condition costs the parent 5 points and the child, which lost 5 already, as much or more."""
    rng = np.random.default_rng(seed)
    for group in grid.values():
        cells = [(design, parent, more) for design in group for parent in PARENTS[:4] for more in CONDITIONS]
        found = [
            answers(design, (parent, parent - 0.05, parent - 0.05, parent - 0.1 - more), rng, DATA_SETS)
            for design, parent, more in cells
        ]
        sets = [(child_now - child) - (now - before) for before, now, child, child_now in found]
        low, high = of_distinct(np.concatenate(sets), ours(SIGNED_SHARE.of_difference))
        for place, (design, parent, more) in enumerate(cells):
            own = slice(place * DATA_SETS, (place + 1) * DATA_SETS)
            changed = float((np.abs(sets[place]) > 1e-9).sum(axis=1).mean())
            yield row(
                "difference of differences", "mechdrift", design, -more, (low[own], high[own]), changed, parent=parent
            )


def means_of_six() -> Iterator[dict]:
    """The mean over six dimensions of child - parent, from 99 to 60 % in the parent; families are drawn together."""
    rng = np.random.default_rng(3)
    for group in designs((0.8,), ENDS).values():
        for design in group:
            sets = np.stack(
                [
                    np.subtract(*answers(design, (parent - drop, parent), rng, DATA_SETS))
                    for parent, drop in zip(SIX, SIX_DROPS, strict=True)
                ]
            )
            weights = family_weights(6 * design.families, DRAWS, 0).reshape(DRAWS, 6, design.families)
            drawn = np.einsum("dkf,ksf->ds", weights / weights.sum(axis=2, keepdims=True), sets, optimize=True) / 6
            estimate = sets.mean(axis=(0, 2))
            found = ends(estimate, drawn, 6 * design.families, SIGNED_SHARE)
            changed = float((sets != 0).sum(axis=(0, 2)).mean())
            yield row("mean of six", "mechdrift", design, -float(np.mean(SIX_DROPS)), found, changed)


def without_bounds() -> Iterator[dict]:
    """Family means of log-odds and the like: normal, with heavy tails (t with 3 degrees of freedom), skewed."""
    rng = np.random.default_rng(4)
    drawn = {
        "normal": (rng.standard_normal, 0.0),
        "heavy tails": (lambda shape: rng.standard_t(3, shape), 0.0),
        "skewed": (lambda shape: rng.lognormal(size=shape), float(np.exp(0.5))),
    }
    for families in (8, 16, 32, 48):
        design = Design(families=families, items=1, within=0, between=0)
        for name, (draw, truth) in drawn.items():
            sets = draw((DATA_SETS, families))
            parts = [ours(UNBOUNDED)(part) for part in np.array_split(sets, 5)]
            low, high = (np.concatenate(found) for found in zip(*parts, strict=True))
            yield row(f"no bounds: {name}", "mechdrift", design, truth, (low, high), families)


def told(table: pd.DataFrame) -> str:
    """Markdown: mechdrift's interval by kind and families, then where coverage is what it is, then other methods."""
    own = table[table.method == "mechdrift"]
    head = ["cells", "mean", "least", "most", "93 to 98 %", "below 93 %", "above 98 %", "truth below", "truth above"]
    lines = [
        "# How often 95 % intervals hold the truth",
        "",
        f"`python intervals.py > intervals.md`; {DATA_SETS:,} simulated audits a cell, {len(own):,} cells "
        "(`intervals.csv`): parents from 50 to 99 %, children up to 40 points below, 1 to 3 items a family, and "
        "correlations of 0, .4 and .8 in families and between models. "
        "Coverage in per cent; two standard errors are 1.4.",
        "",
        *_rows(own, ["kind", "families"], head),
        "",
        f"Where few families tell, coverage lies above 98 %: with fewer than {FEW} families that differ, on average, "
        "many data sets have none, and an interval that is right for these holds a truth near 0 always. By the mean "
        "number of families that differ (for levels: that have the rarer kind of answer):",
        "",
        *_rows(own.assign(telling=own.changed.map(_span)).sort_values("changed"), ["kind", "telling"], head),
        "",
        "The cells in which coverage is least:",
        "",
        *_worst(own),
        "",
        "Other methods on the same data (differences: up to 32 families, models correlated by .8):",
        "",
        *_rows(_shared(table), ["kind", "method"], [*head, "width"]),
    ]
    return "\n".join(lines)


def _span(changed: float) -> str:
    edges = (1, 2, 4, 8, 16)
    place = int(np.searchsorted(edges, changed))
    return "up to 1" if not place else "over 16" if place == len(edges) else f"{edges[place - 1]} to {edges[place]}"


def _shared(table: pd.DataFrame) -> pd.DataFrame:
    middle = (table.between == 0.8) & (table.within == 0) & (table.families <= 32)
    return table[(table.kind == "level") | ((table.kind == "difference") & middle)]


def _rows(table: pd.DataFrame, by: list[str], head: list[str]) -> list[str]:
    lines = [f"| {' | '.join([*by, *head])} |", "|---" * (len(by) + len(head)) + "|"]
    for names, part in table.groupby(by, sort=False):
        covered = part.covered
        numbers = {
            "cells": f"{len(part)}",
            "mean": f"{100 * covered.mean():.1f}",
            "least": f"{100 * covered.min():.1f}",
            "most": f"{100 * covered.max():.1f}",
            "93 to 98 %": f"{100 * covered.between(LOW, HIGH).mean():.0f} %",
            "below 93 %": f"{100 * (covered < LOW).mean():.0f} %",
            "above 98 %": f"{100 * (covered > HIGH).mean():.0f} %",
            "truth below": f"{100 * part.truth_below.mean():.1f}",
            "truth above": f"{100 * part.truth_above.mean():.1f}",
            "width": f"{part.width.mean():.2f}",
        }
        lines.append(f"| {' | '.join([*map(str, names), *(numbers[name] for name in head)])} |")
    return lines


def _worst(own: pd.DataFrame) -> list[str]:
    columns = [
        "kind",
        "families",
        "items",
        "within",
        "between",
        "parent",
        "truth",
        "covered",
        "truth_below",
        "truth_above",
    ]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for values in own.nsmallest(12, "covered")[columns].itertuples(index=False):
        lines.append("| " + " | ".join(value if isinstance(value, str) else f"{value:.3g}" for value in values) + " |")
    return lines


def first_rows() -> Iterator[dict]:
    """Correlations at the ends of their range."""
    yield from levels(designs((0.0,), ENDS), 0)
    yield from differences(designs(ENDS, ENDS), 1)
    yield from differences_of_differences(designs((0.8,), ENDS), 2)
    yield from means_of_six()
    yield from without_bounds()


def other_rows() -> Iterator[dict]:
    """The correlations between, and between models that are not alike, for differences of differences."""
    yield from levels(rest_of(designs((0.0,), ENDS), designs((0.0,))), 5)
    yield from differences(rest_of(designs(ENDS, ENDS), designs()), 6)
    yield from differences_of_differences(rest_of(designs((0.8,), ENDS), designs()), 7)


def main() -> None:
    table = pd.DataFrame([*first_rows(), *other_rows()])
    table.to_csv("intervals.csv", index=False, float_format="%.4f")
    print(told(table))


if __name__ == "__main__":
    main()
