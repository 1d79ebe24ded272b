"""Do repairs bring back what was eroded, and leave the rest? Measured on children of the tiny aligned model with
planted, known erosion.

    python experiments/repairs/planted.py --cases 8 --seed 0

Of each child and repair: the share of the fall of the triggers' readout that came back; how far the readout of neutral
twins moved from the child's, in units of the parent's contrast (the damage); and how much of the change of weights lies
in the planted layers. On decoys (children that changed but lost nothing) there is nothing to bring back: a readout that
moves is damage, and a method that names blocks should refuse.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mechdrift.pairs.precision import fast_float32
from mechdrift.planting.children import PLANTS, Case, decoy, plant
from mechdrift.planting.drift import DECOYS
from mechdrift.planting.parents import Parent, make_parent, read_items
from mechdrift.records import MechdriftError
from mechdrift.repairs.changes import layer_of, size
from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.making import make
from mechdrift.repairs.registry import REPAIRS

RESULTS = Path(__file__).parent / "results" / "planted.csv"
TRIED = (
    ("interpolate", 0.5),
    ("interpolate", 1.0),
    ("located", 0.1),
    ("located", 0.3),
    ("orthogonal", 1.0),
    ("random", 0.5),
)


def repair_case(parent: Parent, case: Case) -> list[dict]:
    """A row per repair of one child."""
    pair = parent.pair(case.child)
    evidence = Evidence(pair=pair, sets={"tiny": parent.probes})
    neutral = parent.probes.where("neutral")
    before, fall = read_items(case.child, parent.readout, neutral), parent.fall(case.child)
    rows = []
    for method, strength in TRIED:
        row = {"case": case.name, "kind": case.kind, "decoy": case.is_decoy, "method": method, "strength": strength}
        try:
            fixed = make(REPAIRS[method], evidence, strength)
        except MechdriftError as error:
            rows.append(row | {"refused": str(error)[:60]})
            continue
        opened = fixed.open()
        sizes = {place: size(fixed.changes[place]) ** 2 for place in fixed.changes}
        planted = sum(value for place, value in sizes.items() if layer_of(place) in case.layers)
        moved = np.abs(read_items(opened, parent.readout, neutral) - before).mean() / parent.contrast
        after = parent.fall(opened)
        rows.append(
            row
            | {
                "refused": "",
                "recovered": np.nan if case.is_decoy else (fall - after) / fall,
                "readout_moved": fall - after,
                "damage": float(moved),
                "in_planted_layers": planted / sum(sizes.values()),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, rows = np.random.default_rng(args.seed), []
    with fast_float32():
        parent = make_parent("tiny", args.seed)
        for number in range(args.cases):
            kind = list(PLANTS)[number % len(PLANTS)]
            rows += repair_case(parent, plant(parent, kind, f"case {number}", rng))
            if number % 2:
                kind = list(DECOYS)[number // 2 % len(DECOYS)]
                rows += repair_case(parent, decoy(parent, kind, f"decoy {number // 2}", rng))
            table = pd.DataFrame(rows)
            RESULTS.parent.mkdir(exist_ok=True)
            table.to_csv(RESULTS, index=False, float_format="%.4g")
    columns = ["recovered", "readout_moved", "damage", "in_planted_layers"]
    grouped = table.assign(was_refused=table.refused != "").groupby(["decoy", "method", "strength"], sort=False)
    print(grouped[[*columns, "was_refused"]].mean().round(2).to_string())


if __name__ == "__main__":
    main()
