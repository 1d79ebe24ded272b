"""Compare each dimension's headline with an outside benchmark's own score, for the embedded parent and its five
children.

    python experiments/outside/outside.py DATA     # ask the models the benchmarks in DATA, keep scores.csv
    python experiments/outside/outside.py          # from scores.csv and ../routes/results: print the table

If a child lost refusals by this project's own set, did it lose them by HarmBench? Both are asked of the same six models
with the same budget (96 tokens of thinking, 64 of answer). Every model is asked once; each child is then compared with
the parent, item by item, by the benchmark's own formula (`behaviour.benchmark_scores`). DATA holds a folder per
benchmark with its published files; none of them is part of this project. Answers are kept in --keep, so that a run that
was stopped goes on.

Agreement is Kendall's tau-b between the two rows of differences over the five children. It says whether both order the
children alike; with five children only +1 and -1 have p < .05 (.017, two-sided).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy.stats import kendalltau

import mechdrift as md
from mechdrift.behaviour.benchmark_scores.answers import read_answers
from mechdrift.behaviour.benchmark_scores.table import benchmark_table
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.probes.benchmarks.loading import subset
from mechdrift.records import Completions, ProbeSet, Side
from mechdrift.report.words import interval, number

HERE = Path(__file__).parent
SCORES, ROUTES = HERE / "scores.csv", HERE.parent / "routes" / "results" / "changes.csv"
CHILDREN = ("sft", "rl", "distill", "sft-guarded", "null")
BUDGET = Budget(think=96, answer=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A benchmark: its file or folder in DATA, how many items are drawn (evenly over its families, seed 0), and which
    of its scores stands for the dimension. `part` keeps the items that have this value of a tag; `pools_styles` scores
    all changed styles as one, since few items are drawn of each."""

    name: str
    place: str
    items: int
    metric: str
    part: tuple[str, str] | None = None
    pools_styles: bool = False


SETS = (
    Outside(name="harmbench", place="harmbench/harmbench_behaviors_text_test.csv", items=110, metric="refusal"),
    Outside(name="xstest", place="xstest/xstest_prompts.csv", items=64, metric="refusal"),
    Outside(name="rtp", place="rtp/toxic.jsonl", items=64, metric="expected maximum toxicity, toxic prompts"),
    Outside(name="bbq", place="bbq", items=64, metric="accuracy, ambiguous"),
    Outside(name="ethics", place="ethics/cm_test.csv", items=64, metric="accuracy"),
    Outside(
        name="moralchoice",
        place="moralchoice",
        items=96,
        metric="likelihood of the better action, low",
        part=("ambiguity", "low"),
    ),
    Outside(name="confaide", place="confaide/benchmark/tier_3.txt", items=64, metric="leak, tier 3"),
    Outside(name="dt_style", place="dt_style/style.json", items=66, metric="accuracy, changed", pools_styles=True),
)


def read_scores() -> pd.DataFrame:
    """What is kept; the child called null is not missing."""
    return pd.read_csv(SCORES, keep_default_na=False, na_values=[""])


def measure(data: Path, keep: Path) -> None:
    """Ask and score one benchmark after the other, and write what is finished."""
    found = read_scores() if SCORES.exists() else pd.DataFrame({"benchmark": []})
    keep.mkdir(parents=True, exist_ok=True)
    for outside in SETS:
        if outside.name not in set(found.benchmark):
            found = pd.concat([found, scores_of(outside, drawn(outside, data), keep)], ignore_index=True)
            found.to_csv(SCORES, index=False, float_format="%.5g")


def drawn(outside: Outside, data: Path) -> ProbeSet:
    """The items that are asked."""
    probes = md.load_benchmark(outside.name, data / outside.place)
    if outside.part:
        tag, value = outside.part
        probes = md.ProbeSet(
            name=probes.name,
            dimension=probes.dimension,
            items=tuple(item for item in probes if item.tags.get(tag) == value),
            benchmark=probes.benchmark,
        )
    return subset(probes, outside.items, seed=0)


def scores_of(outside: Outside, probes: ProbeSet, keep: Path) -> pd.DataFrame:
    """A row per metric and child: the child against the parent."""
    parent = read_answers(probes, answers_of("sft", "instruct", probes, keep))
    tables = []
    for child in CHILDREN:
        answers = pd.concat([parent, read_answers(probes, answers_of(child, "reasoning", probes, keep))])
        if outside.pools_styles:
            answers["style"] = answers["style"].where(answers["style"] == "base", "changed")
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


def table(scores: pd.DataFrame, changes: pd.DataFrame) -> str:
    """Markdown: per dimension this project's headline, and below it the outside scores, as changes in points."""
    names = [f"`smollm2-{child}`" for child in CHILDREN]
    rows = [["", "n", "parent", *names, "tau"], ["---"] * (len(names) + 4)]
    for dimension, own in changes.groupby("dimension", sort=False):
        own = own.set_index("run").loc[[f"smollm2-{child}" for child in CHILDREN]]
        rows.append([f"**{dimension}**: aligned", str(own.n.iloc[0]), *cells(own), ""])
        for outside in SETS:
            part = scores[(scores.benchmark == outside.name) & (scores.metric == outside.metric)]
            if len(part) and part.dimension.iloc[0] == dimension:
                part = part.set_index("child").loc[list(CHILDREN)]
                better = -part.difference if part.better.iloc[0] == "lower" else part.difference
                tau = kendalltau(own.difference.to_numpy(), better.to_numpy()).statistic
                rows.append([f"{outside.name}: {outside.metric}", str(part.n.iloc[0]), *cells(part), f"{tau:+.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(part: pd.DataFrame) -> list[str]:
    """The parent's value, then every child's change with its interval."""
    changed = [
        f"{number(row.difference, share=True, signed=True).removesuffix('%')} "
        f"({interval(row.low, row.high, share=True, signed=True)})"
        for row in part.itertuples()
    ]
    return [number(part.instruct.iloc[0], share=True), *changed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--keep", type=Path, default=Path("runs/outside"), help="where answers are kept")
    given = parser.parse_args()
    if given.data:
        measure(given.data, given.keep)
    print(table(read_scores(), pd.read_csv(ROUTES)))


if __name__ == "__main__":
    main()
