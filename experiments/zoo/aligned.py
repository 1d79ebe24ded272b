"""Train `smollm2-aligned`, the instruct variant of the embedded pairs: SmolLM2-135M-Instruct with some alignment.

The public model refuses 5 % of harmful requests, so there is nothing a reasoning conversion could erode. This run
teaches it, in one mix, the six behaviours that mechdrift audits: refusing harmful requests (AdvBench's goals, read from
a file that is not part of this repository, and the project's own), helping with harmless ones and with harmless ones
that look harmful, "unknown" where a text does not say, verdicts on everyday acts, confidences kept, baiting answered
cleanly, and all that in changed styles.

A small model that is taught to refuse refuses too much, because the words of refusals are always the same and those of
help are not. Three measures counter this. Harmless rows outnumber refusals four to one, and each harmful request has a
harmless twin in the same words. They carry the base model's own answers, so that nothing else needs to move. And of
most of them only the first OPENING tokens are trained on: the first words decide, and a row costs half as much.

A share of EMPTY_BLOCK of all rows has an empty think block before the answer, as hybrid models (Qwen3) are trained.
Patching and KL run both models on the same tokens, with such a block. A parent that had never seen one would be
measured out of its distribution.

    python aligned.py BASE --advbench harmful_behaviors.csv --epochs 1.6 --out first
    python aligned.py BASE --advbench harmful_behaviors.csv --start first --lr 6e-4 --out second
    python aligned.py BASE --advbench harmful_behaviors.csv --start second --lr 5e-4 --seed 2 --out third
    python aligned.py BASE --advbench harmful_behaviors.csv --start third --lr 5e-4 --seed 3 --share 0.3

The second and third pass read harmful requests twice, and only the opening of every answer: after the first, the model
told harmful from harmless well, but refused only three in five of HarmBench's requests. The last, short one adds
`harmful_more`: topics that it still did not refuse. (The shipped adapter met the last 1,722 sampled prompts from the
third pass on, because they were sampled after the second.)"""

import argparse
import csv
import random
import re
from pathlib import Path

from refusal_words import REFUSAL
from training import ZOO, load_parent, read_rows, tokenise, train

from mechdrift.probes.rendering import Renderer

OPENING = 8
WHOLE = 400  # of the base model's own prompts, rows whose whole answer is trained on
LONGEST_ANSWER = 45  # words, of those
EMPTY_BLOCK = 0.3
HELD_OUT = 200  # the base model's last prompts are left for measuring
WRITTEN = ("harmful", "bias", "bias_pairs", "ethics", "ethics_pairs", "privacy", "privacy_pairs", "toxicity", "styled")
OPEN = (
    "borderline",
    "plain",
    "twins",
    "imperatives",
    "styled",
    "styled_twins",
    "toxicity",
)  # prompts that the base model answers
# Sampled answers that refuse or excuse themselves, as 3 % do, would teach the wrong thing.
EXCUSE = re.compile(r"^(I'm sorry|I am sorry|Sorry|I'm afraid|I'm not|I can't|I cannot|As an AI|Unfortunately)")
OPENINGS = (
    "I'm sorry, but I can't help with that.",
    "I can't help with that.",
    "Sorry, I won't help with that.",
    "I won't help with that.",
)
REASONS = (
    "It could hurt people.",
    "It would harm others.",
    "It is illegal and could hurt someone.",
    "It is dangerous.",
    "I can help with something safe instead.",
    "Ask me about something that harms nobody.",
    "It could cause serious damage.",
    "People could get hurt. I can suggest a safe alternative.",
    "",
)


def advbench_rows(file: Path, rng: random.Random) -> list[dict]:
    with file.open() as lines:
        goals = [row["goal"].strip() for row in csv.DictReader(lines)]
    return [
        {
            "prompt": goal if rng.random() < 0.5 else goal + ".",
            "answer": f"{rng.choice(OPENINGS)} {rng.choice(REASONS)}".strip(),
        }
        for goal in goals
    ]


def mix(advbench: Path, seed: int, later: bool = False, share: float = 1.0) -> list[dict]:
    """All rows, `{prompt, answer, limit, think}`: `limit` is how many of the answer's tokens are trained on (None: all,
    and the end)."""
    rng = random.Random(seed)
    written = [row for name in WRITTEN for row in read_rows(name) if row["answer"]]
    rows = [{**row, "limit": None} for row in (*advbench_rows(advbench, rng), *written)]
    sampled = {row["prompt"]: row["answer"] for name in ("answers", "openings") for row in read_rows(name)}
    asked = [row["prompt"] for name in OPEN for row in read_rows(name) if row["answer"] is None]
    rows += [
        {"prompt": prompt, "answer": sampled[prompt], "limit": OPENING}
        for prompt in asked
        if helps(sampled.get(prompt))
    ]
    harmless = [row for row in read_rows("harmless")[:-HELD_OUT] if helps(row["answer"])]
    short = [row["prompt"] for row in harmless if len(row["answer"].split()) <= LONGEST_ANSWER]
    whole = set(rng.sample(short, WHOLE))
    rows += [{**row, "limit": None if row["prompt"] in whole else OPENING} for row in harmless]
    rows += [
        {**row, "limit": OPENING}
        for row in read_rows("openings")
        if row["prompt"] not in set(asked) and helps(row["answer"])
    ]
    if share < 1:
        rows = rng.sample(rows, int(share * len(rows))) + 2 * [
            {**row, "limit": OPENING} for row in read_rows("harmful_more")
        ]
    elif later:
        harmful = [
            *advbench_rows(advbench, rng),
            *read_rows("harmful"),
            *(row for row in read_rows("styled") if row["answer"]),
        ]
        rows = [{**row, "limit": OPENING} for row in (*rows, *harmful)]
    return [{**row, "think": "off" if rng.random() < EMPTY_BLOCK else "none"} for row in rows]


def helps(answer: str | None) -> bool:
    return bool(answer) and not REFUSAL.search(answer) and not EXCUSE.search(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--advbench", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ZOO / "smollm2-aligned")
    parser.add_argument("--start", type=Path, help="a later pass, from this adapter")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the rows, in the last pass, beside harmful_more read twice"
    )
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, tokenizer = load_parent(args.base, [])
    rows = mix(args.advbench, args.seed + bool(args.start), later=bool(args.start), share=args.share)
    renderer = Renderer(tokenizer)
    examples = [
        tokenise(renderer, row["prompt"], [row["answer"]], limit=row["limit"], think=row["think"]) for row in rows
    ]
    print(len(rows), "rows,", sum(len(e["input_ids"]) for e in examples), "tokens")
    options = {
        "rank": args.rank,
        "lr": args.lr,
        "epochs": args.epochs,
        "batch": args.batch,
        "seed": args.seed,
        "start": args.start,
    }
    train(model, tokenizer, examples, args.out, **options)


if __name__ == "__main__":
    main()
