"""Where the erosion enters, for several pairs at once, from what their audits hold; runs no model.

    python experiments/patching/overview.py RUN … > experiments/patching/overview.md

A row per pair and dimension, on trigger prompts:

    gap          instruct minus reasoning readout, both after an empty think block, in log-odds of the aligned opening
    best run     the run of blocks whose parent's weights, put into the child, move the readout furthest towards the parent's
    carried by   how many runs of blocks do so by the family-wise test, of all; in brackets those that also break the parent
    thinking     the parent's readout after the child's thinking minus after an empty block: what passes through the text alone
    weights      the child's readout minus the parent's, both after the child's thinking: what the weights still add when the text is given

`where.py` says for one pair whether attention or MLPs carry it.
"""

import argparse
from pathlib import Path

import numpy as np

import mechdrift as md
from mechdrift.report.narrative import ALPHA
from mechdrift.report.words import DASH, interval, layer_range, number, p_value
from mechdrift.runs import Run

HEAD = ["pair", "dimension", "gap", "best run of blocks", "carried by", "thinking alone", "weights, after the thinking"]


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
        rows.append([
            f"`{run.manifest['pair']['name']}`", str(dimension) + ("" if part.reliable.all() else " (unreliable readout)"),
            number(gap, signed=True),
            f"{layer_range({first, first + width - 1})}: {number(best.effect, signed=True)} ({p_value(best.p_adjusted)})",
            f"{int(significant.sum())} of {len(part)} ({int((significant & part.both_ways).sum())})",
            *(_path(paths.loc[name]) if name in paths.index else DASH for name in ("thinking alone", "weights after the thinking")),
        ])  # fmt: skip
    return rows


def _path(row) -> str:
    return f"{number(row.effect, signed=True)} ({interval(row.low, row.high, signed=True)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    lines = [HEAD, ["---"] * len(HEAD), *(row for folder in parser.parse_args().runs for row in rows_of(md.load_run(folder)))]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
