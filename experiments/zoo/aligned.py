"""Train `smollm2-aligned`, the instruct variant of the embedded pairs: SmolLM2-135M-Instruct with some alignment.

The public model refuses 5 % of harmful requests, so there is nothing a reasoning conversion could erode. This run teaches it,
in one mix, the six behaviours that mechdrift audits: refusing harmful requests (AdvBench's goals, read from a file that is not
part of this repository, and the project's own), helping with harmless ones and with harmless ones that look harmful, "unknown"
where a text does not say, verdicts on everyday acts, confidences kept, baiting answered cleanly, and all that in changed styles.
Harmless requests carry the base model's own answers, so that nothing else needs to move.

    python experiments/zoo/aligned.py BASE --advbench harmful_behaviors.csv --out phase1
    python experiments/zoo/aligned.py BASE --advbench harmful_behaviors.csv --phase 2 --start phase1 --lr 5e-4 --out phase2
    python experiments/zoo/aligned.py BASE --advbench harmful_behaviors.csv --phase 3 --start phase2 --lr 4e-4 --out phase3
    python experiments/zoo/aligned.py BASE --advbench harmful_behaviors.csv --phase 4 --start phase3 --lr 3e-4
"""

import argparse
import csv
import random
from pathlib import Path

from training import ZOO, load_parent, read_rows, tokenise, train

from mechdrift.behaviour.judges import REFUSAL

LONGEST_ANSWER = 45  # words, after the first phase
OPENINGS = (
    "I'm sorry, but I can't help with that.", "I can't help with that.", "Sorry, I won't help with that.",
    "I won't help with that.",
)  # fmt: skip
REASONS = (
    "It could hurt people.", "It would harm others.", "It is illegal and could hurt someone.", "It is dangerous.",
    "I can help with something safe instead.", "Ask me about something that harms nobody.", "It could cause serious damage.",
    "People could get hurt. I can suggest a safe alternative.", "",
)  # fmt: skip


def advbench_rows(file: Path, rng: random.Random) -> list[dict]:
    with file.open() as lines:
        goals = [row["goal"].strip() for row in csv.DictReader(lines)]
    return [
        {"prompt": goal if rng.random() < 0.5 else goal + ".", "answer": f"{rng.choice(OPENINGS)} {rng.choice(REASONS)}".strip()}
        for goal in goals
    ]


# Rows per source and phase (None: all). After the first phase the model refused 46 % of plain requests it had not seen, after the
# second, with fewer refusals and more harmless requests, 31 %. What is wrong then is only how answers begin: the third and fourth
# phases train on the first OPENING tokens of mostly harmless answers, which makes several decisions for the price of one. The base
# model's own refusals of harmless requests (3 %) were left out in the fourth phase only; that they were in before was an oversight.
PHASES: dict[int, dict[str, int | None]] = {
    1: {"advbench": None, "harmful": None, "borderline": None, "plain": None, "styled": None, "bias": None, "ethics": None,
        "privacy": None, "toxicity": None, "harmless": 450},
    2: {"advbench": 110, "harmful": 90, "borderline": None, "plain": None, "styled": 120, "bias": 100, "ethics": None,
        "privacy": 260, "toxicity": 150, "harmless": 777},
    3: {"advbench": 90, "harmful": 90, "borderline": 150, "plain": None, "styled": None, "bias": 40, "ethics": 160,
        "privacy": 120, "toxicity": None, "harmless": 777},
    4: {"advbench": 40, "harmful": 40, "borderline": 60, "plain": None, "styled": 90, "bias": 20, "ethics": 40,
        "privacy": 40, "toxicity": 140, "harmless": 777},
}  # fmt: skip
OPENING = 8


def mix(advbench: Path, phase: int, seed: int) -> list[dict]:
    """The rows of one phase. Rows without a written answer take the base model's, where it finished one and did not refuse."""
    rng = random.Random(seed + phase)
    answers = {row["prompt"]: row["answer"] for row in read_rows("answers")}
    chosen = []
    for name, count in PHASES[phase].items():
        rows = advbench_rows(advbench, rng) if name == "advbench" else read_rows(name)
        for row in rng.sample(rows, count) if count and count < len(rows) and name != "harmless" else rows[:count]:
            sampled = answers.get(row["prompt"]) if row["answer"] is None else row["answer"] if name == "harmless" else None
            kept = sampled if sampled and not (REFUSAL.search(sampled) and (row["answer"] is None or phase == 4)) else None
            chosen.append(row | {"answer": kept if name == "harmless" else kept or row["answer"]})
    chosen = [row for row in chosen if row["answer"]]
    return chosen if phase == 1 else [row for row in chosen if len(row["answer"].split()) <= LONGEST_ANSWER]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--advbench", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ZOO / "smollm2-aligned")
    parser.add_argument("--phase", type=int, choices=sorted(PHASES), default=1)
    parser.add_argument("--start", type=Path, help="go on from this adapter (later phases)")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, tokenizer = load_parent(args.base, [])
    rows = mix(args.advbench, args.phase, args.seed)
    examples = [tokenise(tokenizer, row["prompt"], [row["answer"]], limit=OPENING if args.phase >= 3 else None) for row in rows]
    print(len(rows), "rows,", sum(len(e["input_ids"]) for e in examples), "tokens")
    options = {"rank": args.rank, "lr": args.lr, "epochs": args.epochs, "batch": args.batch, "seed": args.seed, "start": args.start}
    train(model, tokenizer, examples, args.out, **options)


if __name__ == "__main__":
    main()
