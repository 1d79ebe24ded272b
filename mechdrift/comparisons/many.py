"""Many runs at once, of one parent or of many: what holds over pairs of models, and how much do pairs differ?

    pooled = md.pool_runs(["runs/a", "runs/b", "runs/c"])       # hundreds are fine
    pooled.frame            one row per run and dimension: the change against its own parent, with its interval
    pooled.pooled           one row per group of runs and dimension: the mean change over pairs, and how pairs differ
    pooled.report()         compare.html

Each run holds its child against its own parent, on the prompts that it asked, so that runs of other parents, presets
and seeds stand side by side. What is put together is the change of the share of aligned answers to triggers
(`difference`), by a random-effects summary (`statistics.pooling`):

    variance      of a run's change, from its 95 % interval: ((high - low) / 3.92)^2. The interval counts families that
                  were not asked, so that a run in which nothing changed has a variance too.
    runs          of one pair (seeds, presets; the same weights on both sides) are one unit: the mean of their changes,
                  with the mean of their variances, as if their errors were the same. That is the largest variance that
                  such a mean can have, and so the careful one.
    pairs         are the units. Pairs of one parent are not independent, because all of them are compared with the same
                  answers. Where there are such pairs, each group has a second row, over *parents*, whose children are
                  averaged first in the same way. Its interval is wider, and does not assume that pairs are independent.
    mean          over dimensions, of runs that can tell all of theirs: dimensions ask different prompts, so that their
                  intervals are put together as independent ones.
    groups        all runs, and those of a route, a model family, a size, a parent, and of these together
    Holm          over the dimensions of a group and unit

A run takes no part in a dimension where it cannot tell (too much was cut off). Runs that were judged or sampled in
another way than most are left out altogether, as are folders that cannot be read: `left_out` says which and why.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechdrift.behaviour.verdicts import cannot_tell, headline_rows, is_clear, reasoning_rows, withheld
from mechdrift.comparisons.groups import GROUPS, NO_DIMENSIONS, UNITS, groups_of, measures_of
from mechdrift.records import SIDES, MechdriftError
from mechdrift.records.notebook import as_html
from mechdrift.records.words import ALL
from mechdrift.runs import Run, load_run
from mechdrift.statistics.pooling import mean_of_independent, pool, variance_from_interval
from mechdrift.statistics.resampling import holm

SAME = ("judge", "sampling")  # what makes answers or their labels another thing
SIZES = ((1e9, "below 1B"), (4e9, "1B to 4B"), (16e9, "4B to 16B"), (48e9, "16B to 48B"), (np.inf, "above 48B"))
UNKNOWN = "unknown"
ENDS = ("low", "high", "predicted_low", "predicted_high")
CHANGE = ["instruct", "reasoning", "difference", "low", "high", "p", "p_holm", "n", "families", "reason"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledRuns:
    """Many runs side by side. `runs`: a row per run; `frame`: run and dimension; `pooled`: group of runs and dimension.

    Columns: `mechdrift.tables.TABLES["many_runs"]`, `["many_changes"]` and `["many_pooled"]`. `left_out` names the
    folders that play no part, each with its reason; `notes` what a reader must know.
    """

    runs: pd.DataFrame
    frame: pd.DataFrame
    pooled: pd.DataFrame
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def report(self, out: str | Path = "compare.html") -> Path:
        """Write one self-contained page with a table, forest plots and links to the runs' reports; loads no model."""
        from mechdrift.comparisons.many_page import write_many

        return write_many(self, Path(out))

    @property
    def summary(self) -> pd.DataFrame:
        """The rows of `pooled` over all runs."""
        return self.pooled[(self.pooled[list(GROUPS)] == "").all(axis=1)].reset_index(drop=True)

    def _repr_html_(self) -> str:
        return as_html("PooledRuns", f"{len(self.runs)} runs; below, the mean change over all", self.summary)

    def __repr__(self) -> str:
        return f"PooledRuns({len(self.runs)} runs)\n{self.summary.to_string(index=False)}"


def pool_runs(runs: Sequence[Run | str | Path]) -> PooledRuns:
    """What holds over many pairs? Audits side by side, and their random-effects summary, by dimension.

    Args:
        runs: two or more audits, or their folders; their parents may differ.

    Returns:
        A `PooledRuns`: `.runs` (a row per run), `.frame` (run and dimension), `.pooled` (group of runs and dimension:
        `estimate, low, high`, `tau`, `i2` and the prediction interval, as shares), `.left_out`, and `.report(path)`
        for the page.

    Raises:
        MechdriftError: when fewer than two runs can be read, or a folder is given twice.

    Source:
        Viechtbauer 2005 and Knapp & Hartung 2003: see `mechdrift.statistics.pooling`.

    Example:
        >>> pooled = md.pool_runs([folder, other_folder])
        >>> len(pooled.runs)
        2
    """
    read, left_out = _read_all([run.folder if isinstance(run, Run) else Path(run) for run in runs])
    odd = _odd_ones(read)
    left_out += [(str(folder), reason) for folder, reason in odd.items()]
    read = [(facts, changes) for facts, changes in read if facts["folder"] not in odd]
    if len(read) < 2:
        raise MechdriftError(
            "a comparison takes two runs or more"
            + (f", and {left_out[0][1].rstrip('.')}" if left_out else "")
            + ": give the folders of finished audits."
        )
    table = _named(pd.DataFrame([facts for facts, _ in read]))
    frame = pd.DataFrame([{"run": run} | row for run, (_, rows) in zip(table.run, read, strict=True) for row in rows])
    return PooledRuns(
        runs=table, frame=frame, pooled=_pooled(table, frame), left_out=tuple(left_out), notes=tuple(_notes(table))
    )


Row = dict[str, Any]
Read = tuple[Row, list[Row]]
"""What a run says of itself, and its changes, a row per measure."""


def _read_all(folders: Sequence[Path]) -> tuple[list[Read], list[tuple[str, str]]]:
    """All runs that can be read, and the folders that cannot, each with the reason."""
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) < len(whole):
        twice = next(folder for folder in whole if whole.count(folder) > 1)
        raise MechdriftError(f"{twice} is given twice: give each run once.")
    read, left_out = [], []
    for folder in whole:
        try:
            read.append(_read(folder))
        except MechdriftError as reason:
            left_out.append((str(folder), str(reason)))
    return read, left_out


def _read(folder: Path) -> Read:
    run = load_run(folder)
    run.check_is_audit()
    manifest = run.manifest
    if "pair" not in manifest or not run.has("scores.parquet"):
        raise MechdriftError(f"{folder} has no scores yet: run its audit again, it goes on where it stopped.")
    return _facts(folder, manifest), _changes(run, manifest)


def _facts(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    pair, config = manifest["pair"], manifest["config"]
    facts = pair.get("facts", {}).get("instruct", {})
    prints = [str(pair["fingerprints"].get(side, pair[side]["name"])) for side in ("instruct", "reasoning")]
    parameters, size = size_of(facts)
    return {
        "folder": str(folder),
        "name": str(pair["name"]),
        "parent": str(pair["instruct"]["name"]),
        "child": str(pair["reasoning"]["name"]),
        "route": str(pair.get("route", UNKNOWN)),
        "family": str(facts.get("model_type") or UNKNOWN),
        "size": size,
        "parameters": parameters,
        "preset": str(config.get("preset", "")),
        "seed": int(config.get("seed", 0)),
        "has_report": (folder / "report.html").is_file(),
        "pair": " ".join(prints),
        "parent_print": prints[0],
        **{key: str(manifest["identity"].get(key, "")) for key in SAME},
    }


def size_of(facts: Mapping[str, Any]) -> tuple[float, str]:
    """The number of a model's parameters, and its class of size. For a run that did not count them, the number is
    estimated as that of a Llama: 12 width^2 for each layer, and the embedding. NaN where the width is not known."""
    layers, width, vocabulary = (facts.get(name) for name in ("num_hidden_layers", "hidden_size", "vocab_size"))
    parameters = float(facts.get("parameters") or np.nan)
    if np.isnan(parameters) and layers and width and vocabulary:
        matrices = 1 if facts.get("tie_word_embeddings") else 2
        parameters = float(12 * layers * width**2 + matrices * vocabulary * width)
    return parameters, next((name for most, name in SIZES if parameters < most), UNKNOWN)


def _changes(run: Run, manifest: Mapping[str, Any]) -> list[Row]:
    """A row per measure: the accuracy on reasoning tasks, the dimensions' headlines, and the mean of the dimensions."""
    scores = run.table("scores")
    scores = withheld(scores[scores.headline.astype(bool) | (scores.dimension == "reasoning")], manifest)
    rows = [*reasoning_rows(scores).to_dict("records"), *headline_rows(scores).to_dict("records")]
    told = {
        row["dimension"]: {name: row.get(name, np.nan) for name in ("dimension", *CHANGE)}
        | {"reason": cannot_tell(row), "established": is_clear(row)}
        for row in rows
    }
    dimensions = [row for name, row in told.items() if name != "reasoning"]
    kl = _divergence(run)
    return [row | {"kl": kl.get(row["dimension"], np.nan)} for row in (*told.values(), _mean_row(dimensions))]


def _mean_row(rows: Sequence[Row]) -> Row:
    mean: Row = {"dimension": ALL} | dict.fromkeys(CHANGE, np.nan) | {"reason": "", "established": False}
    mean |= {name: int(sum(row[name] for row in rows)) for name in ("n", "families")}
    if untold := [row["dimension"] for row in rows if row["reason"]]:
        return mean | {"reason": f"{', '.join(untold)} cannot be told"}
    ends = np.array([[row[name] for row in rows] for name in ("difference", "low", "high")], dtype=float)
    if not rows or np.isnan(ends).any():
        return mean
    sides = {side: float(np.mean([row[side] for row in rows])) for side in SIDES}
    return mean | sides | dict(zip(("difference", "low", "high"), mean_of_independent(*ends), strict=True))


def _divergence(run: Run) -> dict[str, float]:
    """Mean KL per token by dimension, and over dimensions."""
    if not run.has("kl.parquet"):
        return {}
    table = run.table("kl")
    sums = table.assign(kl=table.kl * table.n).groupby("dimension")[["kl", "n"]].sum()
    means = (sums.kl / sums.n).to_dict()
    return means | {ALL: float(np.mean([*means.values()]))} if means else {}


def _odd_ones(read: Sequence[Read]) -> dict[str, str]:
    """Runs that were judged or sampled in another way than most, with what is different."""
    odd: dict[str, str] = {}
    for key in SAME:
        values = [facts[key] for facts, _ in read]
        usual = max(dict.fromkeys(values), key=values.count, default="")
        for facts, _ in read:
            if facts[key] != usual:
                reason = f"its {key} is {facts[key]!r}, and that of most runs {usual!r}: compare it with its like."
                odd.setdefault(facts["folder"], f"{facts['folder']}: {reason}")
    return odd


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Runs by the name of their pair, or by their folders' too where pairs have one name."""
    folders = table.folder.map(lambda folder: Path(folder).name)
    folders = folders if folders.is_unique else table.folder
    twice = table.name.duplicated(keep=False)
    table = table.assign(run=table.name.where(~twice, table.name + " (" + folders + ")"))
    return table[["run", *table.columns.drop(["run", "name"])]]


def _notes(table: pd.DataFrame) -> Iterator[str]:
    pairs, parents = table.pair.nunique(), table.parent_print.nunique()
    if pairs < len(table):
        yield (
            f"{len(table)} runs are of {pairs} pairs: runs of one pair are averaged first, as if they made the same "
            "error."
        )
    if parents < pairs:
        yield (
            f"{pairs} pairs have {parents} {'parent' if parents == 1 else 'parents'}: children of one parent share its "
            "answers, so that the summary over pairs is surer than it should be. The one over parents averages them "
            "first."
        )


def _pooled(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """A row per group of runs, unit and measure."""
    facts = frame.merge(table[["run", "pair", "parent_print"]], on="run")
    parts = {name: _Part.of(part, table.run) for name, part in facts.groupby("dimension")}
    rows = []
    for group, members in groups_of(table).items():
        named = dict(zip(GROUPS, group, strict=True))
        inside = table[members]
        for unit in UNITS if inside.parent_print.nunique() < inside.pair.nunique() else ("pair",):
            found = [parts[name].pooled(members, unit) | {"dimension": name} for name in measures_of(frame)]
            known = [named | {"unit": unit} | row for row in found if row.get("k")]
            rows += _adjusted(known)
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True, slots=True)
class _Part:
    """One measure of all runs, in their order: arrays, because groups are many."""

    asked: np.ndarray
    usable: np.ndarray
    estimates: np.ndarray
    variances: np.ndarray
    units: Mapping[str, np.ndarray]
    verdicts: np.ndarray

    @classmethod
    def of(cls, part: pd.DataFrame, runs: pd.Series) -> "_Part":
        part = part.set_index("run").reindex(runs)
        width = (part.high - part.low).to_numpy(dtype=float)
        usable = (part.reason == "").to_numpy() & (width > 0)
        signs = np.sign(part.difference.to_numpy(dtype=float))
        return cls(
            asked=part.dimension.notna().to_numpy(),
            usable=usable,
            estimates=part.difference.to_numpy(dtype=float),
            variances=variance_from_interval(width),
            units={unit: pd.factorize(part[column])[0] for unit, column in UNITS.items()},
            verdicts=np.where(usable & (part.established == True), signs, 0.0),  # noqa: E712 - missing is not true
        )

    def pooled(self, members: np.ndarray, unit: str) -> Row:
        """The measure of one group; k is 0 where no run of it says anything."""
        runs = members & self.usable
        asked = int((members & self.asked).sum())
        if not runs.any():
            return {"k": 0}
        means = _means(self.units["pair"][runs], np.stack([self.estimates[runs], self.variances[runs]]))
        if unit == "parent":
            first = np.unique(self.units["pair"][runs], return_index=True)[1]
            means = _means(self.units["parent"][runs][first], means)
        found = asdict(pool(*means))
        found |= {name: float(np.clip(found[name], -1, 1)) for name in ENDS}
        counts = {"runs": int(runs.sum()), "left_out": asked - int(runs.sum())}
        sure = self.verdicts[runs]
        return found | counts | {"fell": int((sure < 0).sum()), "rose": int((sure > 0).sum())}


def _means(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of each group's values, groups in sorted order; `values` has a row per quantity."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(place, weights=row) for row in values]) / counts


def _adjusted(rows: Sequence[Row]) -> list[Row]:
    """Holm's adjustment over the dimensions of a group and unit; accuracy and the mean are no dimensions."""
    tested = [row for row in rows if row["dimension"] not in NO_DIMENSIONS and not np.isnan(row["p"])]
    adjusted = holm(np.array([row["p"] for row in tested]))
    p_of = {row["dimension"]: float(p) for row, p in zip(tested, adjusted, strict=True)}
    return [row | {"p_holm": p_of.get(row["dimension"], np.nan)} for row in rows]


COLUMNS = [
    *GROUPS,
    "unit",
    "dimension",
    "k",
    "runs",
    "left_out",
    "estimate",
    "low",
    "high",
    "p",
    "p_holm",
    "tau",
    "i2",
    "q",
    "p_equal",
    "predicted_low",
    "predicted_high",
    "fell",
    "rose",
]
