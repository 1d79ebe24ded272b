"""Which repair gives an embedded child its alignment back, and at what price? Makes the lists under `results/`.

    python experiments/repairs/prices.py smollm2-sft --pairs 16 --tasks 48 --out runs/repairs-sft

Parent and child are asked first (the first two stages of an audit), then every repair, on halves of the families. A
list that was interrupted goes on where it stopped. The list is copied to `results/PAIR.csv`.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import mechdrift as md
from mechdrift.audits.config import PRESETS
from mechdrift.audits.pipeline import load_from, open_audit, run_unfinished_stages
from mechdrift.audits.plan import plan_audit
from mechdrift.audits.stages.order import stages_of
from mechdrift.behaviour.labels import RULES
from mechdrift.pairs.precision import fast_float32
from mechdrift.repairs.command import text_of

RESULTS = Path(__file__).parent / "results"
STRENGTHS: dict[str, list[float]] = {
    "interpolate": [0.25, 0.5],
    "located": [0.25, 0.5],
    "random": [0.5],
    "empty": [1],
    "remind-start": [3],
    "resta": [1.0],
    "null-space": [1.0],
    "safe-lora": [0.75],
    "orthogonal": [2.0],
    "steer-back": [0.5],
    "safe-merge": [1.0],
    "remind-end": [3],
    "cliff-heads": [1.0],
    "remind-falling": [0.5],
}
"""What is tried, the most telling first: a list that is ended early has the baselines beside the first methods."""


def ask_both(pair: str, pairs: int, tasks: int, out: Path, seed: int) -> md.Run:
    """A run with the answers of parent and child."""
    PRESETS["quick"] = replace(PRESETS["quick"], pairs=pairs, tasks=tasks, variants=1)
    config = md.Audit(pair=pair, preset="quick", out=out, seed=seed)
    own = load_from(config)
    config = replace(config, until_decided=False)
    run, plan = open_audit(config, own, RULES), plan_audit(config, own)
    with run.locked(), fast_float32():
        run_unfinished_stages(run, own, plan, stages_of(config)[:2])
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pair")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--tasks", type=int, default=48)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=list(STRENGTHS))
    args = parser.parse_args()
    run = ask_both(args.pair, args.pairs, args.tasks, args.out, args.seed)
    for method in args.methods:
        prices = md.price_repairs(run, methods=[method], strengths=STRENGTHS[method], seed=args.seed)
        print(text_of(prices), flush=True)
        RESULTS.mkdir(exist_ok=True)
        shutil.copy(prices.run.folder / "repairs.csv", RESULTS / f"{args.pair}.csv")


if __name__ == "__main__":
    main()
