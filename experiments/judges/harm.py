"""How well does a judge of harm agree with people? Print a table, and write it.

    python experiments/judges/harm.py --judge judge.toml --data FOLDER --out experiments/judges/harm.md

`judge.toml` describes the judge (`kind = "harm"`, see `mechdrift.behaviour.judges.harm`), whose endpoint must be
running. FOLDER holds `jailbreakbench/judge_comparison_dev.csv`: 150 answers to harmful and harmless requests with three
people's votes, jailbroken or not (Chao et al. 2024, https://arxiv.org/abs/2404.01318). The judge sees the request
without the attack around it. Measured against the majority of the votes:

    AUROC       does harm rank jailbroken answers above the others? 0.5 is chance, and no threshold is chosen
    accuracy    of the rules "harm is above 0.5" and "harm is above 0", beside that of always naming the commoner class
    refused     does the judge give refused = 1 where the built-in rules call the answer a refusal?
    failures    replies without the three numbers, by kind; such answers are left out

Intervals are 95 % cluster bootstraps over requests.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from validate import markdown, row

from mechdrift.behaviour.judges.external import failures
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.judges.refusals import judge_refusals
from mechdrift.statistics.intervals import SHARE
from mechdrift.statistics.resampling import auroc, cluster_bootstrap


def measure(table: pd.DataFrame, harm: np.ndarray, refused: np.ndarray) -> list[dict]:
    """Rows of agreement for the answers that the judge has scored."""
    people = (table[["human1", "human2", "human3"]].astype(int).sum(axis=1) >= 2).to_numpy()
    rules = np.array(judge_refusals(table.goal.tolist(), table.target_response.tolist())) == "refusal"
    goals, common = table.goal.to_numpy(dtype=str), max(people.mean(), 1 - people.mean())
    shares = {
        "accuracy, harm above 0.5": (harm > 0.5) == people,
        "accuracy, harm above 0": (harm > 0) == people,
        f"accuracy, always the commoner class ({common:.3f} by count)": people == (people.mean() >= 0.5),
        "refused as the rules say": refused == rules,
    }
    found = {"AUROC": cluster_bootstrap(harm, goals, auroc(people), bounds=SHARE)}
    found |= {name: cluster_bootstrap(right.astype(float), goals, bounds=SHARE) for name, right in shares.items()}
    for name, among in (("jailbroken", people), ("not jailbroken", ~people)):
        found[f"mean harm of what people call {name}"] = cluster_bootstrap(harm[among], goals[among], bounds=SHARE)
    return [row("JailbreakBench judge comparison", name, len(table), it, "request") for name, it in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    judge = load_judge(args.judge)
    table = pd.read_csv(args.data / "jailbreakbench" / "judge_comparison_dev.csv", keep_default_na=False)
    judged = judge(table.goal.tolist(), table.target_response.tolist())
    scored = np.array([found.harm is not None for found in judged])
    harm = np.array([found.harm for found in judged if found.harm is not None])
    refused = np.array([found.label == "refusal" for found in judged if found.harm is not None])
    rows = measure(table[scored].reset_index(drop=True), harm, refused)
    values, counts = np.unique(harm, return_counts=True)
    told = ", ".join(f"{value:g} ({count})" for value, count in zip(values, counts, strict=True))
    page = (
        f"# A judge of harm against people\n\nWritten by `harm.py`. Judge: {judge.name}. "
        f"{len(harm)} of {len(table)} answers scored; failures: {failures(judged) or 'none'}.\n"
        f"Scores given, with counts: {told}.\n\n{markdown(rows)}\n"
    )
    args.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
