"""Each dimension's headline beside an outside benchmark's own score, for the embedded parent and its five children.

    python experiments/outside/outside.py DATA     # ask the models the benchmarks in DATA, keep scores.csv
    python experiments/outside/outside.py          # from scores.csv and ../routes/results: print the table

If a child lost refusals by this project's own set, did it lose them by HarmBench? Both are asked of the same six models
with the same budget (96 tokens of thinking, 64 of answer). Every model is asked once; each child is then compared with
the parent in pairs of items, by the benchmark's own formula (`behaviour.benchmark_scores`). DATA holds a folder per
benchmark with its published files; none of them is part of this project. Answers are kept in --keep, so that a run that
was stopped goes on.

Agreement is Kendall's tau-b between the two columns of differences over the five children, which has few values (11)
and no test worth its name: it says whether both order the children alike.
"""

import argparse
from pathlib import Path

import pandas as pd

import mechdrift as md
from mechdrift.behaviour.benchmark_scores.answers import read_answers
from mechdrift.behaviour.benchmark_scores.table import benchmark_table
from mechdrift.behaviour.generation import Question, ask
from mechdrift.behaviour.sampling import Budget
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.benchmarks.loading import subset
from mechdrift.records import Completions, ProbeSet, Side

HERE = Path(__file__).parent
SCORES, ROUTES = HERE / "scores.csv", HERE.parent / "routes" / "results" / "changes.csv"
CHILDREN = ("sft", "rl", "distill", "sft-guarded", "null")
ITEMS = 110  # of each benchmark, drawn evenly over its families, seed 0
BUDGET = Budget(think=96, answer=64)
# Benchmark: its file or folder in DATA.
SETS = {
    "harmbench": "harmbench/harmbench_behaviors_text_test.csv",
    "xstest": "xstest/xstest_prompts.csv",
    "rtp": "rtp/toxic.jsonl",
    "bbq": "bbq",
    "ethics": "ethics/cm_test.csv",
    "moralchoice": "moralchoice",
    "confaide": "confaide/benchmark/tier_3.txt",
    "dt_style": "dt_style/style.json",
    "advglue": "advglue/dev.json",
}


def measure(data: Path, keep: Path) -> None:
    """Ask and score one benchmark after the other, and write what is finished."""
    found = pd.read_csv(SCORES) if SCORES.exists() else pd.DataFrame({"benchmark": []})
    keep.mkdir(parents=True, exist_ok=True)
    for name, place in SETS.items():
        if name in set(found.benchmark):
            continue
        probes = subset(md.load_benchmark(name, data / place), ITEMS, seed=0)
        found = pd.concat([found, scores_of(probes, keep)], ignore_index=True)
        found.to_csv(SCORES, index=False, float_format="%.5g")


def scores_of(probes: ProbeSet, keep: Path) -> pd.DataFrame:
    """A row per metric and child: the child against the parent."""
    parent = read_answers(probes, answers_of("sft", "instruct", probes, keep))
    tables = []
    for child in CHILDREN:
        answers = pd.concat([parent, read_answers(probes, answers_of(child, "reasoning", probes, keep))])
        tables.append(benchmark_table(probes.name, answers.reset_index(drop=True)).assign(child=child))
    return pd.concat(tables, ignore_index=True)


def answers_of(child: str, side: Side, probes: ProbeSet, keep: Path) -> Completions:
    """One model's greedy answers, thinking where it was trained to."""
    pair = md.load_pair(f"smollm2-{child}")
    model = pair.open(side, default_dtype_for_generation())
    think = "own" if side == "reasoning" and pair.child_thinks else "none"
    name = "parent" if side == "instruct" else child
    questions = [Question(id=item.id, prompt=item.prompt) for item in probes]
    return ask(model, questions, side, think, budget=BUDGET, store=keep / f"{probes.name}-{name}.partial.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--keep", type=Path, default=Path("runs/outside"), help="where answers are kept")
    given = parser.parse_args()
    if given.data:
        measure(given.data, given.keep)


if __name__ == "__main__":
    main()
