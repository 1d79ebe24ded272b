"""A few children of one parent, side by side: what did each training gain, and what did it cost?

    compared = md.compare_runs(["runs/sft", "runs/rl", "runs/distill"])
    compared.frame          one row per run and dimension: the change against the parent, with its paired interval, and
                            the divergence
    compared.report()       compare.html

All runs must have the same instruct model, by the fingerprint of its weights: else a difference between two children
could be one of their parents. In the tables, with d a dimension and x_d(m) the share of its trigger items to which
model m gave an aligned answer:

    against the parent    x_d(child) - x_d(parent), as each run scored it; Holm-adjusted over the dimensions of a run
    alignment kept        the mean over d of x_d(child) - x_d(parent). Families of all dimensions are resampled
                          together, the same for both models, and every dimension weighs the same
    price                 the same of 1 - x on neutral twins, which are harmless, use the triggers' words, and were not
                          simply helped
    child against child   x_d(second) - x_d(first) on the items that both were asked; the parent's answers play no part.
                          Paired sign flips over families, Holm-adjusted over all pairs of children and dimensions
    divergence            KL(parent ‖ child) per token of the parent's answers, as a mean over tokens, then over
                          dimensions; families are resampled
    prediction            r and Spearman's rho of divergence and change: once with a point per child, which are few, and
                          once with a point per child and dimension, which are more but not independent. No p is given

Answers that were cut off are missing, here as in each run's own scores. `reason` says where too many are missing to
tell anything, and nothing there counts as a change. Children are paired only on items that both were asked, and
finished. Runs of another preset, seed or choice of dimensions asked other items; `notes` say so, and where fewer than
two families are shared, nothing is compared.

`pairing` checks that runs can be compared, and `changes` computes the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import scipy

from mechdrift.comparisons.changes import adjusted, against_parent, compare_children, judged_answers, summary_of
from mechdrift.comparisons.pairing import check_alike, check_parent, name_runs, pairing_notes
from mechdrift.records import MechdriftError, several
from mechdrift.records.notebook import as_html
from mechdrift.runs import Run, load_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs of one parent.

    `frame` has a row per run and dimension, against the parent; `summary` has a row per run; `children` has a row per
    pair of runs and dimension. Their columns stand in `mechdrift.tables.TABLES` under `comparison`,
    `comparison_summary` and `comparison_children`. `drift` and `patch` are the runs' tables, one after the other.
    `notes` are what a reader must know about the pairing.
    """

    parent: str
    runs: Mapping[str, Run]
    frame: pd.DataFrame
    summary: pd.DataFrame
    children: pd.DataFrame
    drift: pd.DataFrame
    patch: pd.DataFrame
    notes: tuple[str, ...]

    def report(self, out: str | Path = "compare.html") -> Path:
        """Write one self-contained page, and its figures into a folder beside it; loads no model."""
        from mechdrift.comparisons.page import write_comparison

        return write_comparison(self, Path(out))

    def correlation(self, per_dimension: bool = False) -> dict[str, float]:
        """Pearson's `r`, Spearman's `rho` and `n` of divergence and change; NaN with fewer than three points."""
        table = self.frame if per_dimension else self.summary.rename(columns={"kept": "difference"})
        known = table[["kl", "difference"]].dropna()
        if len(known) < 3 or (known.nunique() < 2).any():
            return {"r": np.nan, "rho": np.nan, "n": len(known)}
        return {
            "r": float(scipy.stats.pearsonr(known.kl, known.difference).statistic),
            "rho": float(scipy.stats.spearmanr(known.kl, known.difference).statistic),
            "n": len(known),
        }

    def _repr_html_(self) -> str:
        line = f"children of {self.parent}: {', '.join(self.runs)}; below, a row for each"
        return as_html("Comparison", line, self.summary)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.runs)}; parent {self.parent})\n{self.summary.to_string(index=False)}"


def compare_runs(runs: Run | str | Path | Sequence[Run | str | Path], seed: int = 0) -> Comparison:
    """What did several trainings do to one parent? Runs of its children, side by side.

    Args:
        runs: two or more audits of children of one parent, or their folders.
        seed: of all resampling.

    Returns:
        A `Comparison`: `.frame` (run and dimension against the parent), `.summary` (a row per run), `.children`
        (pairs of runs, Holm-adjusted), and `.report(path)` for the page.

    Raises:
        MechdriftError: for fewer than two runs, when their parents differ, or when a run has no scores.

    Source:
        Paired tests over families: `mechdrift.statistics.resampling`.

    Example:
        >>> compared = md.compare_runs([folder, other_folder])
        >>> len(compared.summary)
        2
    """
    opened = [run if isinstance(run, Run) else load_run(run) for run in several(runs)]
    if len(opened) < 2:
        raise MechdriftError("a comparison takes two runs or more: give their folders.")
    named = name_runs(opened)
    check_parent(named)
    check_alike(named)
    frame = pd.concat([against_parent(name, run, seed) for name, run in named.items()], ignore_index=True)
    triggers = {name: judged_answers(run) for name, run in named.items()}
    children = [compare_children(first, second, triggers, seed) for first, second in combinations(named, 2)]
    return Comparison(
        parent=next(iter(named.values())).manifest["pair"]["instruct"]["name"],
        runs=named,
        frame=frame,
        summary=pd.DataFrame([summary_of(name, run, triggers[name], seed) for name, run in named.items()]),
        children=adjusted(pd.concat(children, ignore_index=True)),
        drift=_stacked(named, "drift"),
        patch=_stacked(named, "patch"),
        notes=tuple(pairing_notes(named, triggers)),
    )


def _stacked(runs: Mapping[str, Run], table: str) -> pd.DataFrame:
    """The same table of all runs that have it."""
    parts = [run.table(table).assign(run=name) for name, run in runs.items() if run.has(f"{table}.parquet")]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
