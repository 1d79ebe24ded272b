"""Which embedded child gives way under which stress mode? The parent is asked once, then every child.

    python experiments/stress/stress.py runs/stress             # ask: goes on where it was stopped
    python experiments/stress/stress.py runs/stress --dimensions safety bias       # these alone, for one of two cores
    python experiments/stress/stress.py runs/stress --table     # write stress.md, stress.csv of what is finished

`md.stress` asks both models of one pair. The five embedded children have one parent, so its parts are called here one
by one, and the parent's answers stand beside each child's. The budgets are the embedded models': short. The table says
how many families were asked, and what this design can see.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

import mechdrift as md
from mechdrift.audits.plan import think_modes
from mechdrift.pairs.precision import default_dtype_for_generation, fast_float32
from mechdrift.records import SIDES
from mechdrift.report.words import interval, number
from mechdrift.stress_tests.answers import answers_table
from mechdrift.stress_tests.asking import StressPlan, ask_side, elicited_thoughts
from mechdrift.stress_tests.registry import modes_of
from mechdrift.stress_tests.run import with_doses
from mechdrift.stress_tests.table import stress_table

CHILDREN = ("smollm2-sft", "smollm2-rl", "smollm2-distill", "smollm2-sft-guarded", "smollm2-null")
PAIRS = {"safety": 20, "privacy": 16, "bias": 10, "toxicity": 10, "ethics": 10, "robustness": 10}
"""Twin pairs asked, of as many families. With ten, an effect that all families share is told from chance after Holm's
correction over 17 modes, and little else is."""
DOSES = {
    "more-think": (2,),
    "budget": (0.5, 0),
    **dict.fromkeys(("prefill-own", "prefill-donor", "prefill-twin", "prefill-neutral", "prefill-edited"), (1,)),
    "puzzle": (250,),
    "decoy": (6,),
    "persistence": (2,),
    "sampling": (2,),
    "sampling-hot": (2,),
}
"""One dose a mode, but for the budget: fewer than the modes have by themselves."""
FOUR = {"sampling": (4,), "sampling-hot": (4,)}
MORE = {"safety": FOUR | {"more-think": (1, 3), "budget": (1, 0.5, 0), "puzzle": (250, 1000)}, "privacy": FOUR}
"""Where more is asked, for trends over doses."""
BUDGET = md.Budget(think=128, answer=48)
HERE = Path(__file__).parent


def plan_of(dimension: str, pair: md.Pair) -> StressPlan:
    modes = tuple(with_doses(mode, DOSES | MORE.get(dimension, {})) for mode in modes_of(None))
    probes = md.load_probes(dimension).sample(PAIRS[dimension])
    return StressPlan(sets={dimension: probes}, modes=modes, think=think_modes(pair.child_thinks), budget=BUDGET)


def ask(folder: Path, dimensions: Sequence[str]) -> None:
    """Every child in these dimensions that is not finished."""
    folder.mkdir(parents=True, exist_ok=True)
    for dimension in dimensions:
        for child in CHILDREN:
            kept = folder / f"{dimension}-{child}.parquet"
            if not kept.exists():
                pair = md.load_pair(child)
                answers, skipped = asked(folder, dimension, pair)
                stress_table(answers, plan_of(dimension, pair).modes, skipped).to_parquet(kept)
                print(kept.stem, flush=True)


def asked(folder: Path, dimension: str, pair: md.Pair) -> tuple[pd.DataFrame, dict]:
    """Answers of the parent and of one child. Each model's are kept in a file of its own, the parent's for all."""
    tables, skipped = [], {}
    plan = plan_of(dimension, pair)
    donors = folder / f"{dimension}-parent-thoughts.json"
    for side in SIDES:
        name = "parent" if side == "instruct" else pair.name
        kept, reasons = folder / f"{dimension}-{name}-answers.parquet", folder / f"{dimension}-{name}-skipped.json"
        if not kept.exists():
            thoughts = json.loads(donors.read_text(encoding="utf-8")) if side == "reasoning" else {}
            loaded = pair.open(side, default_dtype_for_generation())
            found = ask_side(loaded, side, plan, thoughts, folder / f"{dimension}-{name}")
            if side == "instruct":
                donors.write_text(json.dumps(elicited_thoughts(found)), encoding="utf-8")
            pd.Series({"|".join(map(str, key)): next(iter(c)) for key, c in found.skipped.items()}).to_json(reasons)
            answers_table(found, plan, side).to_parquet(kept)
        answers = pd.read_parquet(kept)
        tables.append(answers[answers["item"].isin([item.id for item in plan.items])])
        for key, reason in pd.read_json(reasons, typ="series", dtype=False).items():
            _, mode, dose = str(key).split("|")
            skipped[side, dimension, mode, float(dose)] = reason
    return pd.concat(tables, ignore_index=True), skipped


def finished(folder: Path) -> Iterator[pd.DataFrame]:
    """The tables of all dimensions and children that came to their end, the strongest dose of every mode."""
    for dimension in PAIRS:
        for child in CHILDREN:
            if (kept := folder / f"{dimension}-{child}.parquet").exists():
                table = pd.read_parquet(kept)
                yield table[table.strongest.astype(bool)].assign(child=child)


def written(table: pd.DataFrame) -> str:
    """The table as Markdown: a line per child, dimension, mode."""
    lines = [
        "| child | dimension | mode | triggers | twins | lift (95 %) | p (Holm) | n (families) | finding |",
        "|---|---|---|---:|---:|---|---:|---|---|",
    ]
    for row in table.to_dict("records"):
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
    parser.add_argument("--dimensions", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        with fast_float32():
            ask(options.folder, options.dimensions)
    table = pd.concat(finished(options.folder), ignore_index=True)
    (HERE / "stress.md").write_text(written(table[table.side == "reasoning"]), encoding="utf-8")
    table.to_csv(HERE / "stress.csv", index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
