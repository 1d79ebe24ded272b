"""Where does erosion enter, in several pairs side by side, and how much of it is not due to reasoning? From finished
audits; opens no model.

    python experiments/patching/overview.py RUN …          # writes overview.md beside this file

The first table has a row per pair and dimension, on trigger prompts, with effects in log-odds of the aligned opening:

    gap          instruct minus reasoning readout, both after an empty think block
    best run     the run of blocks whose parent's weights, put into the child, move the readout furthest towards the
                 parent's
    carried by   how many runs of blocks do so by the family-wise test, of all; in brackets those that also break the
                 parent
    thinking     the parent's readout after the child's thinking minus after an empty block: what passes through the
                 text alone
    weights      the child's readout minus the parent's, both after an empty block: what the weights change by
                 themselves
    both         the child's readout after its thinking minus the parent's after an empty block
    after        the child's readout minus the parent's, both after the child's thinking: what the weights still add
                 when the text is given

A dimension is marked where a model's readout, after an empty block, tells its aligned answers from the others with an
AUROC below 0.7. The second table patches the last layer's activation at the end of the empty think block into the
child: the parent's, the null model's (same steps of training, no reasoning), the parent's on another prompt, and a
random difference of the same length.

`where.py` says for one pair whether attention or MLPs carry it.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import mechdrift as md
from mechdrift.report.words import DASH, interval, layer_range, number, p_value
from mechdrift.runs import Run
from mechdrift.statistics.grids import ALPHA

HERE = Path(__file__).parent
PATHS = {
    "thinking alone": "thinking alone",
    "weights alone": "weights alone",
    "both": "all",
    "weights, after the thinking": "weights after the thinking",
}
HEAD = ["pair", "dimension", "gap", "best run of blocks", "carried by", *PATHS]
SOURCES = {
    "the parent's": "same",
    "the null model's": "null model",
    "unrelated prompt": "unrelated",
    "random difference": "random",
}
NULL_HEAD = ["pair", "dimension", "gap to the parent", "gap to the null model", *SOURCES]
CELL = "think_close"  # the end of the closed empty block


def rows_of(run: Run) -> list[list[str]]:
    grafts, passage = run.table("grafts"), run.table("passage")
    into_child = grafts[grafts.donor == "instruct"]
    width = int(np.diff(np.unique(into_child.layer)).min())
    rows = []
    for dimension, part in into_child.groupby("dimension", sort=False):
        gap = float(part.gap.iloc[0])
        towards = part.effect * (1 if gap > 0 else -1)
        best = part.loc[towards.idxmax()]
        first = int(best.layer)
        significant = (part.p_adjusted <= ALPHA) & (towards > 0)
        paths = passage[passage.dimension == dimension].set_index("path")
        rows.append(
            [
                f"`{run.manifest['pair']['name']}`",
                str(dimension) + _marked(run, str(dimension)),
                number(gap, signed=True),
                (
                    f"{layer_range({first, first + width - 1})}: {number(best.effect, signed=True)} "
                    f"({p_value(best.p_adjusted)})"
                ),
                f"{int(significant.sum())} of {len(part)} ({int((significant & part.both_ways).sum())})",
                *(_change(paths.loc[name]) if name in paths.index else DASH for name in PATHS.values()),
            ]
        )
    return rows


def _marked(run: Run, dimension: str) -> str:
    """The sides whose readout is unreliable, in brackets."""
    found = run.table("readout_validation").query("dimension == @dimension and think == 'off' and not reliable")
    return (
        f" (unreliable: {', '.join(f'{row.side}, AUROC {number(row.auroc)}' for row in found.itertuples())})"
        if len(found)
        else ""
    )


def null_rows(run: Run) -> list[list[str]]:
    """What the last layer's activations restore, from the parent, from the null model, and from placebos; none where
    there is no null model."""
    placebos = run.table("placebos")
    if "null model" not in set(placebos.source):
        return []
    patches = pd.concat([run.table("patch"), placebos])
    cells = patches[(patches.layer == placebos.layer.max()) & (patches.role == CELL) & (patches.donor == "instruct")]
    rows = []
    for dimension, part in cells.groupby("dimension", sort=False):
        effects = part.set_index("source")
        gaps = (number(effects.gap[source], signed=True) for source in ("same", "null model"))
        rows.append(
            [
                f"`{run.manifest['pair']['name']}`",
                str(dimension) + _marked(run, str(dimension)),
                *gaps,
                *(_change(effects.loc[source]) for source in SOURCES.values()),
            ]
        )
    return rows


def _change(row) -> str:
    return f"{number(row.effect, signed=True)} ({interval(row.low, row.high, signed=True)})"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "overview.md")
    asked = parser.parse_args()
    runs = [md.load_run(folder) for folder in asked.runs]
    preset, seed = runs[0].manifest["config"]["preset"], runs[0].manifest["config"]["seed"]
    asked.out.write_text(
        TEXT.format(
            preset=preset,
            seed=seed,
            entry=markdown(HEAD, [row for run in runs for row in rows_of(run)]),
            null=markdown(NULL_HEAD, [row for run in runs for row in null_rows(run)]),
        ),
        encoding="utf-8",
    )


TEXT = """# Where the erosion enters, by pair and dimension

Written by `overview.py`, whose text says what the columns are, from {preset} audits (seed {seed}).
Patches and grafts: 8 trigger prompts in 8 families a dimension; thinking and weights: all of them.
Log-odds of the aligned opening, 95 % intervals; those of patches and placebos hold for all cells of a grid together.

{entry}

## What of it is no reasoning

{null}
"""


if __name__ == "__main__":
    main()
