"""How often is a gate wrong? Simulated audits at the limit itself, where both errors are most likely.

    python gate.py > gate.md     also writes gate.csv, a row per cell

A gate is wrong where it passes a drop of the limit or more, or fails a drop of the limit or less. Both are most
frequent where the true drop is the limit: with a larger drop it passes less, with a smaller one it fails less. So every
limit is tested on audits in which the true drop is that limit.
"""

import numpy as np
import pandas as pd
from families import DATA_SETS, PARENTS, answers, designs, of_distinct, ours

from mechdrift.statistics.intervals import SAFE_UNSEEN, SIGNED_SHARE

LIMITS = (0.0, 0.02, 0.05, 0.1, 0.2)
MOST = 0.035
TESTER = (  # families, items, parent, child, limit: the cells in which the percentile bootstrap passed 5 to 64 %
    (8, 1, 0.99, 0.94, 0.05),
    (8, 1, 0.99, 0.89, 0.05),
    (8, 1, 0.99, 0.84, 0.05),
    (8, 1, 0.97, 0.77, 0.1),
    (16, 2, 0.99, 0.94, 0.05),
    (16, 2, 0.97, 0.92, 0.05),
    (16, 2, 0.99, 0.89, 0.05),
    (16, 2, 0.97, 0.77, 0.2),
)


def simulate(seed: int = 0) -> pd.DataFrame:
    """A row per cell: how often the gate passes and fails where the true drop is the limit."""
    rng, rows = np.random.default_rng(seed), []
    for group in designs().values():
        cells = [(design, parent, limit) for design in group for parent in PARENTS for limit in LIMITS]
        drops = [np.subtract(*answers(design, (parent, parent - limit), rng)) for design, parent, limit in cells]
        least, most = of_distinct(np.concatenate(drops), ours(SIGNED_SHARE, SAFE_UNSEEN))
        for place, (design, parent, limit) in enumerate(cells):
            own = slice(place * DATA_SETS, (place + 1) * DATA_SETS)
            rows.append(
                {
                    "families": design.families,
                    "items": design.items,
                    "within": design.within,
                    "between": design.between,
                    "parent": parent,
                    "limit": limit,
                    "passes": float((most[own] <= limit + 1e-9).mean()),
                    "fails": float((least[own] > limit + 1e-9).mean()),
                }
            )
    return pd.DataFrame(rows)


def power(seed: int = 1) -> pd.DataFrame:
    """What the gate says where nothing fell, or twice the limit did: parent 90 %, two items a family, correlations of
    .4."""
    rng, rows = np.random.default_rng(seed), []
    for group in designs((0.4,)).values():
        (design,) = [one for one in group if one.within == 0.4] or group
        if design.items != 2:
            continue
        for limit in LIMITS[2:]:
            row: dict[str, float] = {"families": design.families, "limit": limit}
            for name, drop in (("passes, drop 0", 0.0), ("fails, drop twice the limit", 2 * limit)):
                found = np.subtract(*answers(design, (0.9, 0.9 - drop), rng))
                least, most = of_distinct(found, ours(SIGNED_SHARE, SAFE_UNSEEN))
                row[name] = float((most <= limit + 1e-9).mean() if drop == 0 else (least > limit + 1e-9).mean())
            rows.append(row)
    return pd.DataFrame(rows)


def told(table: pd.DataFrame) -> str:
    """Markdown: the largest and the mean error by families and limit, then the power."""
    lines = [
        "# How often a gate is wrong",
        "",
        f"`python gate.py > gate.md`; {DATA_SETS:,} simulated audits in each of {len(table):,} cells (`gate.csv`): "
        "parents from 50 to 99 %, 1 to 3 items a family, correlations of 0, .4 and .8 in families and between models; "
        "the true drop is the limit. In per cent of audits; allowed are 2.5, simulation error 1.",
        "",
        f"Largest share that passes: **{100 * table.passes.max():.1f} %**; that fails: "
        f"**{100 * table.fails.max():.1f} %**; cells above {100 * MOST:.1f} %: "
        f"**{int(((table.passes > MOST) | (table.fails > MOST)).sum())}**.",
        "",
        "| families | limit | passes: mean | largest | fails: mean | largest |",
        "|---|---|---|---|---|---|",
    ]
    for (families, limit), part in table.groupby(["families", "limit"]):
        numbers = (part.passes.mean(), part.passes.max(), part.fails.mean(), part.fails.max())
        lines.append(f"| {families} | {limit:.0%} | {' | '.join(f'{100 * number:.1f}' for number in numbers)} |")
    return "\n".join(lines)


def told_power(table: pd.DataFrame) -> str:
    lines = [
        "",
        "What it costs: parent 90 %, 2 items a family, correlations of .4. In per cent of audits; of the rest nothing "
        "can be told.",
        "",
        "| families | limit | passes where nothing fell | fails where twice the limit fell |",
        "|---|---|---|---|",
    ]
    for families, limit, passes, fails in table.itertuples(index=False):
        lines.append(f"| {families} | {limit:.0%} | {100 * passes:.0f} | {100 * fails:.0f} |")
    return "\n".join(lines)


def told_tester(seed: int = 2) -> str:
    """The cells in which the gate of percentile intervals was caught."""
    rng = np.random.default_rng(seed)
    lines = [
        "",
        "Where the percentile bootstrap passed 5 to 64 % (correlations of .4 in families and between models):",
        "",
        "| families | items | parent | child | limit | passes | fails |",
        "|---|---|---|---|---|---|---|",
    ]
    for families, items, parent, child, limit in TESTER:
        design = next(one for one in designs((0.4,))[families, items] if one.within == 0.4 or items == 1)
        found = np.subtract(*answers(design, (parent, child), rng))
        least, most = of_distinct(found, ours(SIGNED_SHARE, SAFE_UNSEEN))
        shares = ((most <= limit + 1e-9).mean(), (least > limit + 1e-9).mean())
        lines.append(
            f"| {families} | {items} | {parent:.0%} | {child:.0%} | {limit:.0%} | "
            + " | ".join(f"{100 * share:.1f}" for share in shares)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    table = simulate()
    table.to_csv("gate.csv", index=False, float_format="%.4f")
    print(told(table), told_tester(), told_power(power()), sep="\n")


if __name__ == "__main__":
    main()
