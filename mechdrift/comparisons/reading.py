"""What each of many runs says: its pair, route and size, and its changes, a row per measure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mechdrift.behaviour.verdicts import cannot_tell, headline_rows, is_clear, reasoning_rows, withheld
from mechdrift.records import SIDES, MechdriftError
from mechdrift.records.words import ALL
from mechdrift.runs import Run, load_run
from mechdrift.statistics.pooling import REACH, mean_of_independent, variance_from_interval

SAME = ("judge", "sampling")  # runs that differ in these have other answers or other labels
SIZES = ((1e9, "below 1B"), (4e9, "1B to 4B"), (16e9, "4B to 16B"), (48e9, "16B to 48B"), (np.inf, "above 48B"))
UNKNOWN = "unknown"
CHANGE = ["instruct", "reasoning", "difference", "low", "high", "se", "p", "p_holm", "n", "families", "reason"]

Row = dict[str, Any]
Read = tuple[Row, list[Row]]
"""The facts of one run, and its changes, a row per measure."""


def read_runs(folders: Sequence[Path]) -> tuple[list[Read], list[tuple[str, str]]]:
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
    """One run; raises where the folder is no audit, or has no scores yet."""
    run = load_run(folder)
    run.check_is_audit()
    manifest = run.manifest
    if "pair" not in manifest or not run.has("scores.parquet"):
        raise MechdriftError(f"{folder} has no scores yet: run its audit again, it goes on where it stopped.")
    return _facts(folder, manifest), _changes(run, manifest)


def _facts(folder: Path, manifest: Mapping[str, Any]) -> Row:
    """A row of `many_runs`: names, route, model family, size, settings and fingerprints."""
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
    """The number of a model's parameters, and its class of size.

    Runs of earlier versions did not count them. There the number is estimated as that of a Llama: 12 width^2 for each
    layer, plus the embedding. It is NaN where the width is not known.
    """
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
    reach = _reach_of(run)
    told = {
        row["dimension"]: {name: row.get(name, np.nan) for name in ("dimension", *CHANGE)}
        | {"se": _standard_error(row, reach.get(row["dimension"], REACH))}
        | {"reason": cannot_tell(row), "established": is_clear(row)}
        for row in rows
    }
    dimensions = [row for name, row in told.items() if name != "reasoning"]
    kl = _divergence(run)
    return [row | {"kl": kl.get(row["dimension"], np.nan)} for row in (*told.values(), _mean_row(dimensions, reach))]


def _reach_of(run: Run) -> dict[str, float]:
    """By dimension, how many standard errors the interval of its change reaches: where an audit asked in waves, to the
    boundary of the look at which it stopped (`statistics.sequential`)."""
    if not run.has("waves.parquet"):
        return {}
    last = run.table("waves").drop_duplicates("dimension", keep="last")
    return dict(zip(last.dimension, last.boundary.astype(float), strict=True))


def _standard_error(row: Mapping[str, Any], reach: float) -> float:
    return float(np.sqrt(variance_from_interval(float(row["high"] - row["low"]), reach)))


def _mean_row(rows: Sequence[Row], reach: Mapping[str, float]) -> Row:
    """The mean of the dimensions, with its interval; without numbers where one of them cannot tell."""
    mean: Row = {"dimension": ALL} | dict.fromkeys(CHANGE, np.nan) | {"reason": "", "established": False}
    mean |= {name: int(sum(row[name] for row in rows)) for name in ("n", "families")}
    if untold := [row["dimension"] for row in rows if row["reason"]]:
        return mean | {"reason": f"{', '.join(untold)} cannot be told"}
    ends = np.array([[row[name] for row in rows] for name in ("difference", "low", "high")], dtype=float)
    if not rows or np.isnan(ends).any():
        return mean
    sides = {side: float(np.mean([row[side] for row in rows])) for side in SIDES}
    # Intervals may reach to different looks' boundaries, so the standard error is that of ends one standard error away.
    near = ends[0] + (ends - ends[0]) / [reach.get(row["dimension"], REACH) for row in rows]
    _, below, above = mean_of_independent(*near)
    found = dict(zip(("difference", "low", "high"), mean_of_independent(*ends), strict=True))
    return mean | sides | found | {"se": (above - below) / 2}


def _divergence(run: Run) -> dict[str, float]:
    """Mean KL per token by dimension and over dimensions, in nats."""
    if not run.has("kl.parquet"):
        return {}
    table = run.table("kl")
    sums = table.assign(kl=table.kl * table.n).groupby("dimension")[["kl", "n"]].sum()
    means = (sums.kl / sums.n).to_dict()
    return means | {ALL: float(np.mean([*means.values()]))} if means else {}
