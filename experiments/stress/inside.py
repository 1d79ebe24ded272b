"""What do modes do inside the children? Read from the answers that `stress.py` has kept.

    python experiments/stress/inside.py runs/stress --children smollm2-sft --dimensions safety --modes less-think decoy

For each mode at its strongest dose: how far triggers stand from twins along the parent's direction, plain and under the
mode, at the end of the thinking; how often a trigger is recognised there and answered all the same; the cell whose
plain activation brings most of the readout back; and how much adding the direction brings back (`inside_tables`).
"""

import argparse
from pathlib import Path

import pandas as pd
from stress import CHILDREN, HERE, PAIRS, asked, plan_of

import mechdrift as md
from mechdrift.pairs.precision import fast_float32
from mechdrift.report.words import interval, number
from mechdrift.stress_tests.inside import LAST_THOUGHT, inside_tables
from mechdrift.stress_tests.registry import modes_of

LEAST_EFFECT = 0.5  # log-odds: a recovery of less is a share of next to nothing
HEAD = (
    "| child | dimension | mode | triggers less twins, plain | under the mode | recognised, answered badly: plain | "
    "under the mode (95 %) | n (families) | the readout moves by, log-odds | best cell brings back | "
    "the direction brings back |"
)


def told(child: str, tables: dict[str, pd.DataFrame]) -> list[str]:
    """One line per dimension and mode."""
    lines = []
    for key, along in tables["along"].groupby(["dimension", "mode"], sort=False):
        at = along[(along.side == "reasoning") & (along.position == LAST_THOUGHT)].set_index("condition")
        own = {name: _part(tables[name], key) for name in ("recognised", "patch", "undo")}
        seen = own["recognised"].set_index("condition")
        cells = [number(at.projection[name]) for name in ("plain", "attack")]
        shares = ["", "", ""]
        if len(seen):
            attack = seen.loc["attack"]
            ends = interval(attack.low, attack.high, share=True)
            shares = [
                number(seen.share["plain"], share=True), f"{number(attack.share, share=True)} ({ends})",
                f"{attack.n} ({attack.families})",
            ]  # fmt: skip
        effect = own["patch"].effect.iloc[0]
        back = ["", ""]
        if abs(effect) >= LEAST_EFFECT:
            cell = own["patch"].loc[own["patch"].recovery.idxmax()]
            best = own["undo"].loc[own["undo"].recovery.idxmax()]
            back = [
                f"{cell.recovery:.0%}: {cell.role}, layer {cell.layer}",
                f"{best.recovery:.0%} at {best.strength:g}",
            ]
        lines.append(f"| {' | '.join([child, *key, *cells, *shares, f'{effect:+.2f}', *back])} |")
    return lines


def _part(table: pd.DataFrame, key: tuple) -> pd.DataFrame:
    return table[(table.dimension == key[0]) & (table["mode"] == key[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--children", nargs="+", choices=CHILDREN, default=["smollm2-sft", "smollm2-rl"])
    parser.add_argument("--dimensions", nargs="+", choices=PAIRS, default=["safety"])
    parser.add_argument("--modes", nargs="+", default=["less-think", "prefill-twin", "prefill-edited", "decoy"])
    options = parser.parse_args()
    lines = [HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    for child in options.children:
        pair = md.load_pair(child)
        for dimension in options.dimensions:
            answers, _ = asked(options.folder, dimension, pair)
            sets = plan_of(dimension, pair).sets
            with fast_float32():
                tables, left_out = inside_tables(pair, sets, answers, modes_of(options.modes))
            lines += told(child, tables) if tables else []
            lines += [f"| {child} | {name} | {mode} | {why} |||||||||" for name, mode, why in left_out]
            (HERE / "inside.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
