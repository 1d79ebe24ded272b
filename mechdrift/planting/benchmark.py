"""`mechdrift bench --planted`: plant, locate, score, print.

Children are made and examined one after the other. Erosion cases take turns through the ways of planting, and every
second one is followed by a decoy. For the tiny model, a new parent is trained for every `CASES_PER_PARENT` cases.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mechdrift.pairs.precision import fast_float32
from mechdrift.planting.children import PLANTS, Case, decoy, plant
from mechdrift.planting.drift import DECOYS
from mechdrift.planting.localisers import CELLS, LOCALISERS, Evidence
from mechdrift.planting.parents import Parent, make_parent
from mechdrift.planting.scoring import by_kind, score_case, summarise
from mechdrift.records import MechdriftError
from mechdrift.records.progress import progress

CASES_PER_PARENT = 15
CASES_PER_DECOY = 2  # one decoy after so many
DEAR = (
    "held attention, restore",
    "held MLP, restore",
    "resid increments, all positions, break",
    "resid increments, all positions, both ways",
    "graft modules, restore",
    "graft modules, break",
)
"""Localisers that are left out on smollm2-aligned, where each takes as long as all others together."""

Row = dict[str, object]
COLUMNS = {
    "auroc": "AUROC",
    "recall": "recall",
    "distance": "distance",
    "within_one": "within 1",
    "found": "found",
    "wrong": "wrong",
    "false_positives": "decoys",
    "false_unchecked": "unchecked",
    "false_by_p": "p alone",
}


def print_planted(model: str = "tiny", cases: int = 40, seed: int = 0, out: Path | None = None) -> None:
    """Run the benchmark and print its tables; `out` gets them as Markdown, or all rows if it ends in .jsonl, as they
    come."""
    if cases < 1:
        raise MechdriftError(f"--cases should be 1 or more; it is {cases}.")
    rows: list[Row] = []
    keep = out if out is not None and out.suffix == ".jsonl" else None
    try:
        if keep is not None:
            keep.write_text("")
        for found in run(model, cases, seed):
            rows += found
            if keep is not None:
                with keep.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
        text = tables(rows, f"mechdrift bench --planted --model {model} --cases {cases} --seed {seed}")
        if out is not None and keep is None:
            out.write_text(text)
    except OSError as error:
        raise MechdriftError(f"{out} could not be written ({error.strerror}): give another file with --out.") from error
    print(text)


def run(model: str, cases: int, seed: int) -> Iterator[list[Row]]:
    """Rows of one child after the other."""
    parent, rng = None, np.random.default_rng(seed)
    with fast_float32(), progress(f"Planting in {model}", cases + cases // CASES_PER_DECOY) as advance:
        for number in range(cases):
            if parent is None or (model == "tiny" and number % CASES_PER_PARENT == 0):
                parent = make_parent(model, seed + number)
            kind = list(PLANTS)[number % len(PLANTS)]
            yield locate(parent, plant(parent, kind, f"case {number}", rng), model)
            advance()
            if number % CASES_PER_DECOY == CASES_PER_DECOY - 1:
                place = number // CASES_PER_DECOY
                yield locate(parent, decoy(parent, list(DECOYS)[place % len(DECOYS)], f"decoy {place}", rng), model)
                advance()


def locate(parent: Parent, case: Case, model: str) -> list[Row]:
    """All localisers on one child; those of modules and heads where such were damaged."""
    evidence = Evidence.of(parent, case.child)
    cells = {
        name: localiser
        for name, localiser in CELLS.items()
        if case.cells and ("head" in name) == (case.kind == "heads")
    }
    return [
        score_case(case, name, localiser(evidence))
        for name, localiser in (LOCALISERS | cells).items()
        if model == "tiny" or name not in DEAR
    ]


def tables(rows: Sequence[Row], command: str) -> str:
    """The result as Markdown: all localisers, and each way of planting and kind of decoy by itself."""
    summary = summarise(rows).set_index("localiser")
    children = pd.DataFrame(rows).drop_duplicates("case")
    planted, decoys = children[children.layers.map(bool)], children[~children.layers.map(bool)]
    draws = [f"{kind} {part.draws.sum()} for {len(part)}" for kind, part in planted.groupby("kind", sort=False)]
    fall = f"{planted.fall.min():.0%} to {planted.fall.max():.0%} of the contrast, median {planted.fall.median():.0%}"
    lines = [
        f"    {command}",
        "",
        f"{len(planted)} children with planted erosion (the readout fell by {fall}) and {len(decoys)} decoys.",
        f"Draws until so many had eroded: {', '.join(draws)}.",
        "",
        "| localiser | " + " | ".join(COLUMNS.values()) + " | reaches |",
        "|---|" + "---:|" * len(COLUMNS) + "---|",
    ]
    for name, row in summary.iterrows():
        cells = [_cell(row, column) for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {'yes' if row.reaches else 'no'} |")
    lines += ["", "AUROC by what was planted:", "", *_markdown(by_kind(rows)), "", "Share of decoys called:", ""]
    return "\n".join([*lines, *_markdown(by_kind(rows, "any_call"))]) + "\n"


def _cell(row: pd.Series, column: str) -> str:
    if pd.isna(row.get(column, np.nan)):
        return ""
    return f"{row[column]:.2f} ({row[f'{column}_low']:.2f}–{row[f'{column}_high']:.2f})"


def _markdown(table: pd.DataFrame) -> list[str]:
    head = [f"| localiser | {' | '.join(table.columns)} |", "|---|" + "---:|" * len(table.columns)]
    body = [
        [str(name), *("" if pd.isna(value) else f"{value:.2f}" for value in row)]
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return head + [f"| {' | '.join(cells)} |" for cells in body]
