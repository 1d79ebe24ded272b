"""The tables in which an audit keeps its grids, mediation paths and divergences: one row per cell, path or position,
with an interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechdrift.records import PatchGrid
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.intervals import POSITIVE, UNBOUNDED


def summarise_both_ways(grids: Sequence[PatchGrid], readout: pd.Series, seed: int) -> pd.DataFrame:
    """Both directions of one grid in one table. `both_ways` marks the cells that carry the change in both directions:
    the effect is significant in each, and moves the readout towards the donor."""
    tables = [summarise_grid(grid, readout, seed) for grid in grids]
    agrees = [
        (table.p_adjusted <= ALPHA) & (np.sign(table.effect) == np.sign(grid.tested_gap))
        for table, grid in zip(tables, grids, strict=True)
    ]
    return pd.concat([table.assign(both_ways=agrees[0] & agrees[1]) for table in tables], ignore_index=True)


def summarise_grid(grid: PatchGrid, readout: pd.Series, seed: int) -> pd.DataFrame:
    """One row per cell: mean effect with the band that holds for all cells at once, family-wise adjusted p, recovery,
    and the quality of the `readout`."""
    found = grid.inference(seed=seed)
    frame = found.frame.drop(columns=["t", "significant"]).assign(recovery=grid.recovery.reshape(-1))
    return frame.assign(
        dimension=grid.dimension,
        donor=grid.donor,
        recipient=grid.recipient,
        site=grid.site,
        think=grid.think,
        source=grid.source,
        engine=grid.engine,
        gap=float(grid.gap.mean()),
        n=found.n,
        families=found.families,
        reliable=bool(readout.reliable),
        auroc=readout.auroc,
        auroc_low=readout.low,
        auroc_high=readout.high,
    )


# By the name that the table gives each effect: the cell after the change, and the one before.
EFFECTS = {
    "all": ("reasoning own", "instruct off"),  # total effect
    "thinking alone": ("instruct own", "instruct off"),  # indirect effect, through the thinking
    "weights alone": ("reasoning off", "instruct off"),  # direct effect, with an empty think block
    "weights after the thinking": ("reasoning own", "instruct own"),  # direct effect, with the child's thinking
}


def summarise_mediation(cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How much of the readout's change on trigger items is mediated by the thinking, and how much comes from the
    weights directly?

    `cells` holds the readouts of four cells, {instruct, reasoning} weights x {empty block, the reasoning model's
    thinking}. Each row is the difference of two (`EFFECTS`), with its interval over families: the total effect, the
    indirect effect through the thinking, and the direct effect of the weights with either thinking held fixed. The
    total is the indirect effect plus the direct one after the child's thinking; without interaction, the direct effect
    is the same after an empty block. (Pearl 2001, direct and indirect effects.)
    """
    rows = []
    for dimension, part in cells.groupby("dimension", sort=False):
        table = part.pivot_table(index=["item", "family"], columns="cell", values="readout").reset_index()
        for path, (after, before) in EFFECTS.items():
            interval = statistics.paired_bootstrap(
                table[before].to_numpy(),
                table[after].to_numpy(),
                table.family.to_numpy(),
                bounds=UNBOUNDED,
                seed=seed,
            )
            rows.append(
                {
                    "dimension": dimension,
                    "path": path,
                    "effect": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "n": len(table),
                    "families": table.family.nunique(),
                }
            )
    return pd.DataFrame(rows, columns=["dimension", "path", "effect", "low", "high", "n", "families"])


def summarise_kl(tokens: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Mean KL per dimension and answer position, with an interval over families; positions that fewer than 3 answers
    reach are left out."""
    rows = []
    for (dimension, position), part in tokens.groupby(["dimension", "position"]) if len(tokens) else ():
        if len(part) >= 3:
            interval = statistics.cluster_bootstrap(
                part.kl.to_numpy(), part.family.to_numpy(), bounds=POSITIVE, draws=500, seed=seed
            )
            rows.append(
                {
                    "dimension": dimension,
                    "position": position,
                    "kl": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "kl_reverse": float(np.mean(part.kl_reverse)),
                    "n": len(part),
                }
            )
    return pd.DataFrame(rows, columns=["dimension", "position", "kl", "low", "high", "kl_reverse", "n"])
