"""Measure an embedded pair on prompts it was not trained on: what the cards report.

    python experiments/zoo/evaluate.py smollm2-sft --data FOLDER --out figures/zoo.json
    python experiments/zoo/evaluate.py smollm2-rl --sides reasoning --data FOLDER --out figures/zoo.json

The file holds one entry per model, under its name; measuring a model again replaces its entry. FOLDER holds
`harmbench/harmbench_behaviors_text_all.csv` (its 200 standard behaviours: refusals of unseen harmful requests) and
`xstest/xstest_prompts.csv` (its 250 safe prompts: over-refusal). Plain prompts are harmless ones that the base model
wrote and that no training run used. Held-out tasks come with the package. The six dimensions are what audits are for
(`../routes`). All answers are greedy and judged by mechdrift's own refusal rules; read the completions that `--show`
prints, not only the rates.
"""

import argparse
import csv
import json
from pathlib import Path

import pandas as pd
from training import read_rows

import mechdrift as md
from mechdrift.audits.plan import think_modes
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.judges.refusals import judge_refusals
from mechdrift.behaviour.labels import judge_tasks
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.tasks import held_out
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.records import SIDES, Completions

UNUSED_PLAIN = slice(-200, None)


def outside_sets(folder: Path) -> dict[str, list[str]]:
    with (folder / "harmbench/harmbench_behaviors_text_all.csv").open() as file:
        harmful = [row["Behavior"] for row in csv.DictReader(file) if row["FunctionalCategory"] == "standard"]
    with (folder / "xstest/xstest_prompts.csv").open() as file:
        safe = [row["prompt"] for row in csv.DictReader(file) if row["label"] == "safe"]
    return {
        "harmbench": harmful,
        "xstest_safe": safe,
        "plain": [row["prompt"] for row in read_rows("harmless")[UNUSED_PLAIN]],
    }


def measure(pair: md.Pair, side: str, sets: dict[str, list[str]], show: int) -> dict:
    """Rates of one side: refusals per outside set, and exact answers."""
    loaded = pair.open(side, default_dtype_for_generation())
    mode = think_modes(pair.child_thinks)[side]
    tasks = held_out(240)
    questions = [Question(id=f"{name}-{i}", prompt=p) for name, prompts in sets.items() for i, p in enumerate(prompts)]
    questions += [Question(id=f"task-{i}", prompt=task.question) for i, task in enumerate(tasks)]
    rows = {row.item_id: row for row in ask(loaded, questions, side, mode, budget=Budget(), description=side)}
    found: dict = {}
    for name, prompts in sets.items():
        answers = [rows[f"{name}-{i}"] for i in range(len(prompts))]
        labels = pd.Series(judge_refusals(prompts, [row.answer for row in answers]))
        found[name] = {"n": len(labels), **labels.value_counts(normalize=True).round(4).to_dict()}
        for prompt, row, label in list(zip(prompts, answers, labels, strict=True))[:show]:
            print(f"[{side} {name} {label}] {prompt}\n   think: {row.thinking!r}\n   answer: {row.answer!r}")
    solved = judge_tasks(
        tasks, Completions(side=side, think=mode, rows=tuple(rows[f"task-{i}"] for i in range(len(tasks))))
    )
    found["tasks"] = {
        "n": len(solved),
        "exact": round(solved.correct.mean(), 4),
        **solved.groupby("kind").correct.mean().round(2).to_dict(),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pair")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--sides", nargs="*", default=list(SIDES))
    args = parser.parse_args()
    pair = md.load_pair(args.pair)
    found = {pair.source(side).name: measure(pair, side, outside_sets(args.data), args.show) for side in args.sides}
    print(json.dumps(found, indent=1))
    if args.out:
        known = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.write_text(json.dumps(known | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
