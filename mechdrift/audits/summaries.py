"""What an audit keeps of its grids, paths and divergences: one row per cell, path or position, with an interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechdrift.records import PatchGrid
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.grids import ALPHA


def summarise_both_ways(grids: Sequence[PatchGrid], readout: pd.Series, seed: int) -> pd.DataFrame:
    """The two directions of one grid, and the cells that carry the change in both: significant in either, each towards
    its donor."""
    tables = [summarise_grid(grid, readout, seed) for grid in grids]
    agrees = [(table.p_adjusted <= ALPHA) & (np.sign(table.effect) == np.sign(table.gap)) for table in tables]
    return pd.concat([table.assign(both_ways=agrees[0] & agrees[1]) for table in tables], ignore_index=True)


def summarise_grid(grid: PatchGrid, readout: pd.Series, seed: int) -> pd.DataFrame:
    """One row per cell: mean effect with the band that holds for all cells at once, family-wise adjusted p, recovery;
    and how good its `readout` is."""
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


PATHS = {
    "all": ("reasoning own", "instruct off"),
    "thinking alone": ("instruct own", "instruct off"),
    "weights alone": ("reasoning off", "instruct off"),
    "weights after the thinking": ("reasoning own", "instruct own"),
}


def summarise_passage(cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Through what does the change of the readout pass, on trigger items: the thinking, or the weights that read it?

    Four cells, {instruct, reasoning} weights x {empty block, the reasoning model's thinking}; each row is a difference
    of two, with its interval over families. Without interaction, "all" is the sum of "thinking alone" and "weights
    alone".
    """
    rows = []
    for dimension, part in cells.groupby("dimension", sort=False):
        table = part.pivot_table(index=["item", "family"], columns="cell", values="readout").reset_index()
        for path, (after, before) in PATHS.items():
            interval = statistics.paired_bootstrap(
                table[before].to_numpy(), table[after].to_numpy(), table.family.to_numpy(), draws=2000, seed=seed
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
    for (dimension, position), part in tokens.groupby(["dimension", "position"]):
        if len(part) >= 3:
            interval = statistics.cluster_bootstrap(part.kl.to_numpy(), part.family.to_numpy(), draws=500, seed=seed)
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
