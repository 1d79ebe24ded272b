"""Can these runs be compared, and what must a reader know about it? Checks and notes for `compare_runs`."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from mechdrift.records import MechdriftError
from mechdrift.runs import Run

NEEDED = ("scores", "completions")
SAME = ("judge", "sampling", "generation dtype")  # runs that differ in these have other answers or other labels
SUB_SAMPLE = ("preset", "seed", "dimensions", "size")  # these decide which items are asked


def name_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by the name of their pair, with that of their folder where two pairs have the same name."""
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
    """The folders' names, or their whole paths where two names are the same."""
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def check_parent(runs: Mapping[str, Run]) -> None:
    """Raise where two runs have different parents, by the fingerprints of their weights."""
    prints = {name: run.manifest["pair"].get("fingerprints", {}).get("instruct") for name, run in runs.items()}
    first, *others = prints
    for name in others:
        if prints[name] != prints[first] or prints[name] is None:
            raise MechdriftError(
                f"{runs[first].folder} and {runs[name].folder} have different parents (the weights of their instruct "
                f"models have the fingerprints {prints[first]} and {prints[name]}): compare runs of one parent."
            )


def check_alike(runs: Mapping[str, Run]) -> None:
    """Raise where runs were judged or sampled in different ways."""
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


def pairing_notes(runs: Mapping[str, Run], triggers: Mapping[str, pd.DataFrame]) -> list[str]:
    """Which runs were asked different prompts, and whether the parent answered the same in every run."""
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
            f"differ). Each is compared with the parent on its own prompts, and with the other on the {shared} prompts "
            "that both were asked."
        )
    return [*said, *_parent_changed(triggers)]


def _parent_changed(triggers: Mapping[str, pd.DataFrame]) -> list[str]:
    """How many answers of the parent differ between runs, although its weights are the same."""
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
                f"The parent, with the same weights, answered {count} of {len(shared)} prompts differently in {name} "
                f"than in {first}: batches and rounding alone make that much of a difference."
            )
    return said
