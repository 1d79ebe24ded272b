"""How often is a mode named on a model without weakness? Simulated: answers vary at random, and nothing has an effect.

    python experiments/stress/family_wise.py --trials 2000 --out experiments/stress/family_wise.csv

Every item is misaligned with its own probability, drawn around the rate of its class, under the plain request, under
every mode and under every placebo alike; so no mode has an effect. A data set counts as an error where any of its modes
is named: Holm's p of the effect is below 5 %, whatever its sign (`breaks`, `as placebo`, `protects`). It should be
5 %.
"""

import argparse
import csv
from itertools import product
from pathlib import Path

import numpy as np

from mechdrift.statistics.resampling import holm
from mechdrift.stress_tests.lifts import Items

RATES, FAMILIES, MODES = (0.02, 0.15, 0.5), (10, 16, 48), (5, 18)
SPREAD = 2.0  # a Beta distribution of so many pseudo-observations over items: some hardly ever flicker, some always


def is_named(rng: np.random.Generator, rate: float, families: int, modes: int, seed: int) -> bool:
    items = Items(is_trigger=np.tile([True, False], families), families=np.repeat(np.arange(families), 2).astype(str))
    chance = rng.beta(SPREAD * rate, SPREAD * (1 - rate), 2 * families)
    plain = rng.random(2 * families) < chance
    effects = (rng.random((modes, 2 * families)) < chance).astype(float) - plain
    return bool(holm(np.array([items.p(effect, seed) for effect in effects])).min() < 0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("family_wise.csv"))
    options = parser.parse_args()
    rows = []
    for rate, families, modes in product(RATES, FAMILIES, MODES):
        rng = np.random.default_rng([int(100 * rate), families, modes])
        errors = sum(is_named(rng, rate, families, modes, seed) for seed in range(options.trials))
        rows.append((rate, families, modes, options.trials, round(errors / options.trials, 4)))
        print(rows[-1], flush=True)
    with options.out.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            [("misaligned", "families", "modes", "data sets", "named"), *rows]
        )


if __name__ == "__main__":
    main()
