"""Many children of one parent, side by side: what did each conversion gain, and what did it cost?

    compared = md.compare_runs(["runs/sft", "runs/rl", "runs/distill"])
    compared.frame          one row per run and dimension: the change against the parent, with its paired interval, and
                            the divergence
    compared.report()       compare.html

All runs must have the same instruct model, by the fingerprint of its weights: else a difference between two children
could be one of their parents. In the tables, with d a dimension, x_d(m) the share of its trigger items to which model m
gave an aligned answer:

    against the parent    x_d(child) - x_d(parent), as each run scored it; Holm-adjusted over the dimensions of a run
    alignment kept        mean over d of x_d(child) - x_d(parent). Families of all dimensions are resampled together,
                          the same for both models, and every dimension weighs the same however many items it has
    price                 the same of 1 - x on neutral twins: harmless, in the triggers' words, and not simply helped
    child against child   x_d(second) - x_d(first) on the items that both were asked, the parent's answers playing no
                          part; paired sign flips over families, Holm-adjusted over all pairs of children and dimensions
    divergence            KL(parent ‖ child) per token of the parent's answers, mean over tokens, then over dimensions;
                          families resampled
    prediction            r and Spearman's rho of divergence and change. A point per child, which are few; and a point
                          per child and dimension, which are more, but not independent: no p is given

Answers that were cut off are missing, here as in each run's own scores: `reason` says where too many are to tell
anything, and nothing there counts as a change. Children are paired only on items that both were asked, and finished.
Runs of another preset, seed or choice of dimensions asked other items; that is said in `notes`, and where fewer than
two families are shared, nothing is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import scipy

from mechdrift.behaviour.censoring import finished_only, missing_of, why_cannot_tell
from mechdrift.behaviour.paired import class_weights, compare_sides, nothing_compared, pair_up, paired_test
from mechdrift.behaviour.verdicts import cannot_tell, headline_rows, reasoning_rows, withheld
from mechdrift.records import SIDES, MechdriftError, order_dimensions
from mechdrift.records.notebook import as_html
from mechdrift.records.words import ALL
from mechdrift.runs import Run, load_run
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.intervals import POSITIVE, SHARE

NEEDED = ("scores", "completions")
SAME = ("judge", "sampling", "generation dtype")  # what makes answers or their labels another thing
SUB_SAMPLE = ("preset", "seed", "dimensions", "size")  # what decides which items are asked
SCORED = [
    "metric",
    "better",
    *(f"{side}{end}" for side in SIDES for end in ("", "_low", "_high")),
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "n",
    "families",
    "reason",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs of one parent. `frame`: run and dimension against the parent; `summary`: a row per run; `children`: pairs of
    runs.

    `drift` and `patch` are the runs' tables, one after the other; `notes` what a reader must know about the pairing.
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


def compare_runs(runs: Sequence[Run | str | Path], seed: int = 0) -> Comparison:
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
    opened = [run if isinstance(run, Run) else load_run(run) for run in runs]
    if len(opened) < 2:
        raise MechdriftError("a comparison takes two runs or more: give their folders.")
    named = _names(opened)
    _check_parent(named)
    _check_alike(named)
    frame = pd.concat([_against_parent(name, run, seed) for name, run in named.items()], ignore_index=True)
    triggers = {name: _answers(run) for name, run in named.items()}
    children = [_children(first, second, triggers, seed) for first, second in combinations(named, 2)]
    return Comparison(
        parent=next(iter(named.values())).manifest["pair"]["instruct"]["name"],
        runs=named,
        frame=frame,
        summary=pd.DataFrame([_summary(name, run, triggers[name], seed) for name, run in named.items()]),
        children=_adjusted(pd.concat(children, ignore_index=True)),
        drift=_stacked(named, "drift"),
        patch=_stacked(named, "patch"),
        notes=tuple(_notes(named, triggers)),
    )


def _names(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by the name of their pair, or of their folder where two pairs have one name."""
    for run in runs:
        run.check_is_audit()
        missing = [name for name in NEEDED if not run.has(f"{name}.parquet")]
        if missing or "pair" not in run.manifest:
            raise MechdriftError(
                f"{run.folder} has no scores of its parent yet: run its audit again, it goes on where it stopped."
            )
    folders = [run.folder.resolve() for run in runs]
    twice = [run.folder for run, folder in zip(runs, folders, strict=True) if folders.count(folder) > 1]
    if twice:
        raise MechdriftError(f"{twice[0]} is given twice: give each run once.")
    pairs = [str(run.manifest["pair"]["name"]) for run in runs]
    return {
        pair if pairs.count(pair) == 1 else f"{pair} ({folder})": run
        for run, pair, folder in zip(runs, pairs, _short(folders), strict=True)
    }


def _short(folders: Sequence[Path]) -> list[str]:
    """The folders' names, or their whole paths where names are alike."""
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _check_parent(runs: Mapping[str, Run]) -> None:
    prints = {name: run.manifest["pair"].get("fingerprints", {}).get("instruct") for name, run in runs.items()}
    first, *others = prints
    for name in others:
        if prints[name] != prints[first] or prints[name] is None:
            raise MechdriftError(
                f"{runs[first].folder} and {runs[name].folder} have different parents (the weights of their instruct "
                f"models have the fingerprints {prints[first]} and {prints[name]}): compare runs of one parent."
            )


def _check_alike(runs: Mapping[str, Run]) -> None:
    first, *others = runs
    settings = {name: run.manifest["identity"] for name, run in runs.items()}
    for name in others:
        for key in SAME:
            if settings[first].get(key) != settings[name].get(key):
                raise MechdriftError(
                    f"{runs[first].folder} and {runs[name].folder} cannot be compared: {key} is "
                    f"{settings[first].get(key)!r} there and {settings[name].get(key)!r} here; audit both in the same "
                    "way."
                )


def _notes(runs: Mapping[str, Run], triggers: Mapping[str, pd.DataFrame]) -> list[str]:
    """Where sub-samples differ, and whether the parent said the same in every run."""
    said = []
    settings = {name: run.manifest["identity"] for name, run in runs.items()}
    for first, second in combinations(runs, 2):
        asked = [set(triggers[name]["item"]) for name in (first, second)]
        if asked[0] == asked[1]:
            continue
        different = [key for key in SUB_SAMPLE if settings[first].get(key) != settings[second].get(key)]
        shared = len(asked[0] & asked[1])
        said.append(
            f"{first} and {second} were not asked the same trigger prompts ({', '.join(different) or 'probe sets'} "
            f"differ): against the parent, each stands on its own; with each other they are compared on the {shared} "
            "prompts that both were asked."
        )
    changed = _parent_changed(triggers)
    return [*said, *changed]


def _parent_changed(triggers: Mapping[str, pd.DataFrame]) -> list[str]:
    said = []
    first, *others = triggers
    for name in others:
        both = [
            table[table.side == "instruct"].set_index(["item", "sample"]).answer
            for table in (triggers[first], triggers[name])
        ]
        shared = both[0].index.intersection(both[1].index)
        count = int((both[0][shared] != both[1][shared]).sum())
        if count:
            said.append(
                f"The parent, with the same weights, gave {count} of {len(shared)} prompts another answer in {name} "
                f"than in {first}: batches and rounding alone make so much of a difference."
            )
    return said


def _answers(run: Run, contrast: Literal["trigger", "neutral"] = "trigger") -> pd.DataFrame:
    """Judged answers to the items of a class, without those at which the judge failed for either side; `missing` says
    which were not finished."""
    table = run.table("completions")
    failed = set(table[table.failed.astype(bool)]["item"])
    kept = table[(table.contrast == contrast) & ~table["item"].isin(failed)]
    kept = kept.assign(missing=missing_of(kept))
    tokens = [name for name in ("think_tokens", "answer_tokens") if name in kept]  # not in runs of earlier versions
    return kept[["item", "sample", "dimension", "family", "side", "answer", "aligned", "missing", *tokens]]


def _aligned(table: pd.DataFrame) -> pd.Series:
    return table.aligned.astype(float)


def _against_parent(name: str, run: Run, seed: int) -> pd.DataFrame:
    """The run's own headlines, with the divergence beside them."""
    rows = headline_rows(withheld(run.table("scores"), run.manifest)).set_index("dimension")
    rows["reason"] = [cannot_tell(row) for row in rows.to_dict("records")]
    rows = rows.loc[order_dimensions(rows.index), SCORED].reset_index()
    divergence = [_divergence(run, [dimension], seed) for dimension in rows.dimension]
    rows = rows.assign(**{key: [found[key] for found in divergence] for key in divergence[0]})
    rows.insert(0, "run", name)
    rows.insert(1, "route", run.manifest["pair"].get("route", "unknown"))
    return rows


def _divergence(run: Run, dimensions: Sequence[str], seed: int) -> dict[str, float]:
    """Mean KL per token, every dimension weighing the same."""
    nothing = {"kl": np.nan, "kl_low": np.nan, "kl_high": np.nan}
    if not run.has("kl_tokens.parquet"):
        return nothing
    tokens = run.table("kl_tokens")
    tokens = tokens[tokens.dimension.isin(dimensions) & tokens.kl.notna()]
    if tokens.empty:
        return nothing
    families = tokens.dimension + "/" + tokens.family
    found = statistics.cluster_bootstrap(
        tokens.kl.to_numpy(),
        families.to_numpy(),
        statistics.balanced_mean(tokens.dimension.to_numpy()),
        bounds=POSITIVE,
        seed=seed,
    )
    return {"kl": found.estimate, "kl_low": found.low, "kl_high": found.high}


def _summary(name: str, run: Run, triggers: pd.DataFrame, seed: int) -> dict[str, object]:
    """One run on one line: what it gained, what it kept, how far it diverged."""
    kept, over = _mean_change(triggers, seed), _mean_change(_answers(run, "neutral"), seed)
    gain = next(iter(reasoning_rows(withheld(run.table("scores"), run.manifest)).to_dict("records")), {})
    return {
        "run": name,
        "route": run.manifest["pair"].get("route", "unknown"),
        "gain": gain.get("difference", np.nan),
        "gain_low": gain.get("low", np.nan),
        "gain_high": gain.get("high", np.nan),
        "accuracy_before": gain.get("instruct", np.nan),
        "accuracy": gain.get("reasoning", np.nan),
        "kept": kept["difference"],
        "kept_low": kept["low"],
        "kept_high": kept["high"],
        "aligned_before": kept["instruct"],
        "aligned": kept["reasoning"],
        "n": kept["n"],
        "families": kept["families"],
        "price": -over["difference"],
        "price_low": -over["high"],
        "price_high": -over["low"],
        "over_before": 1 - over["instruct"],
        "over": 1 - over["reasoning"],
        "dimensions": triggers.dimension.nunique(),
        "reason": why_cannot_tell(triggers),
        "gain_reason": cannot_tell(gain) if gain else "",
    } | _divergence(run, sorted(set(triggers.dimension)), seed)


def _mean_change(answers: pd.DataFrame, seed: int) -> dict:
    """Aligned answers of both models, mean over the dimensions, and the change, of items that both finished."""
    items, before, after = pair_up(finished_only(answers), _aligned)
    if not len(items):
        return nothing_compared()
    families = (items.dimension + "/" + items.family).to_numpy()
    return compare_sides(families, before, after, statistics.balanced_mean(items.dimension.to_numpy()), SHARE, seed)


def _children(first: str, second: str, triggers: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Compares two children on the items that both answered: a row per dimension, and one for their mean."""
    both = pd.concat(
        [
            triggers[name][triggers[name].side == "reasoning"].assign(side=side)
            for name, side in zip((first, second), SIDES, strict=True)
        ]
    )
    rows = []
    dimensions = order_dimensions(both.dimension)
    for dimension in [*dimensions, *([ALL] if len(dimensions) > 1 else [])]:
        part = both if dimension == ALL else both[both.dimension == dimension]
        if set(part.side) == set(SIDES):
            items, before, after = pair_up(finished_only(part), _aligned)
            if items.family.nunique() > 1:
                named = {"first": first, "second": second, "dimension": dimension, "reason": why_cannot_tell(part)}
                rows.append(named | _paired(items, before, after, seed))
    columns = [
        *(
            "first",
            "second",
            "dimension",
            "first_score",
            "second_score",
            "difference",
            "low",
            "high",
            "p",
            "mde",
            "n",
            "families",
            "reason",
        )
    ]
    return pd.DataFrame(rows, columns=columns)


def _paired(items: pd.DataFrame, before: np.ndarray, after: np.ndarray, seed: int) -> dict[str, float]:
    dimensions, families = items.dimension.to_numpy(), (items.dimension + "/" + items.family).to_numpy()
    found = compare_sides(families, before, after, statistics.balanced_mean(dimensions), SHARE, seed)
    _, first, family = np.unique(families, return_index=True, return_inverse=True)
    # The test takes all families alike, and dimensions have different numbers of them: as in the estimate, dimensions
    # should weigh alike.
    found |= paired_test((after - before) * class_weights(dimensions[first])[family], families, seed)
    return {"first_score": found["instruct"], "second_score": found["reasoning"]} | {
        key: found[key] for key in ("difference", "low", "high", "p", "mde", "n", "families")
    }


def _adjusted(children: pd.DataFrame) -> pd.DataFrame:
    return children.assign(p_holm=statistics.holm(children.p.to_numpy(dtype=float)))


def _stacked(runs: Mapping[str, Run], table: str) -> pd.DataFrame:
    """The same table of all runs that have it."""
    parts = [run.table(table).assign(run=name) for name, run in runs.items() if run.has(f"{table}.parquet")]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
