"""Which embedded child gives way under which stress mode? Each child and dimension in a run folder of its own.

    python experiments/stress/stress.py runs/stress             # ask: goes on where it was stopped
    python experiments/stress/stress.py runs/stress --table     # write stress.md and stress.csv of what is finished

The embedded models answer on a laptop, and the budgets are theirs: short. Few families are asked; the table says how
many, and what this design can see.
"""

import argparse
from pathlib import Path

import pandas as pd

import mechdrift as md
from mechdrift.report.words import interval, number

CHILDREN = ("smollm2-sft", "smollm2-rl", "smollm2-distill")
DIMENSIONS = ("safety", "privacy", "bias", "toxicity", "ethics", "robustness")
PAIRS = 10  # of as many families: the fewest with which Holm's p over eight modes can be below 5 % by some margin
MODES = (
    "zero-think",
    "more-think",
    "prefill-twin",
    "prefill-edited",
    "puzzle",
    "role-turns",
    "role-brevity",
    "persistence",
)
DOSES = {"more-think": (1,), "prefill-twin": (1,), "prefill-edited": (1,), "puzzle": (250,), "persistence": (2,)}
BUDGET = md.Budget(think=64, answer=32)


def ask(folder: Path) -> None:
    """Every child and dimension that is not finished, the most asked for first."""
    for dimension in DIMENSIONS:
        probes = md.load_probes(dimension).sample(PAIRS)
        for child in CHILDREN:
            out = folder / f"{child}-{dimension}"
            found = md.stress(md.load_pair(child), probes, modes=MODES, doses=DOSES, budget=BUDGET, out=out)
            print(found, flush=True)


def finished(folder: Path) -> pd.DataFrame:
    """The tables of all runs that came to their end, the strongest dose of every mode."""
    parts = []
    for child in CHILDREN:
        for dimension in DIMENSIONS:
            place = folder / f"{child}-{dimension}"
            if (place / "stress.parquet").exists():
                parts.append(md.load_run(place).table("stress").assign(child=child))
    table = pd.concat(parts, ignore_index=True)
    return table[table.strongest.astype(bool)]


def written(table: pd.DataFrame) -> str:
    """The table as Markdown: a line per child, dimension, mode."""
    lines = [
        "| child | dimension | mode | triggers | twins | lift (95 %) | p (Holm) | n (families) | finding |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table[table.side == "reasoning"].to_dict("records"):
        ends = interval(row["lift_low"], row["lift_high"], share=True, signed=True)
        cells = [number(row[name], share=True, signed=True) for name in ("change_trigger", "change_twin", "lift")]
        lines.append(
            f"| {row['child']} | {row['dimension']} | {row['mode']} | {cells[0]} | {cells[1]} | {cells[2]} ({ends}) | "
            f"{row['p_holm']:.3f} | {row['n']} ({row['families']}) | {row['finding']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        ask(options.folder)
    table = finished(options.folder)
    place = Path(__file__).parent
    (place / "stress.md").write_text(written(table), encoding="utf-8")
    table.to_csv(place / "stress.csv", index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
