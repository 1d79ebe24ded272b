"""Train `smollm2-null`, the null model: what does training as such do to `smollm2-aligned`?

It has as many optimizer steps and as many tokens as `sft.py`, at its learning rate, on harmless general requests
without thinking: whole answers of the base model (or, in a fifth of the rows, after an empty think block, as there),
read REPEATS times, and then openings of more answers until as many tokens were read as in SFT. No refusals, no safety
data, no reasoning tasks.

    python experiments/zoo/null.py BASE --out mechdrift/pairs/zoo/smollm2-null
"""

import argparse
import random
from pathlib import Path

from history import History
from refusal_words import REFUSAL
from sft import EMPTY_BLOCK
from training import ZOO, load_parent, read_rows, tokenise, train

from mechdrift.probes.rendering import Renderer

STEPS, TOKENS = 204, 338_000  # of sft.py
REPEATS = 3
OPENING = 8  # tokens, of openings that were cut off after 12


def null_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Rows with whole answers, and rows of which only the answer's opening is known; nothing that sounds like a
    refusal."""
    answered = {row["prompt"]: row["answer"] for row in read_rows("answers")}
    plain = [{"prompt": row["prompt"], "answer": answered.get(row["prompt"])} for row in read_rows("plain")]
    kinds = []
    for rows, limit in (((*read_rows("harmless")[:-200], *plain), None), (read_rows("openings"), OPENING)):
        kept = [{**row, "limit": limit} for row in rows if row["answer"] and not REFUSAL.search(row["answer"])]
        rng.shuffle(kept)
        kinds.append([{**row, "think": "off" if rng.random() < EMPTY_BLOCK else "none"} for row in kept])
    return kinds[0], kinds[1]


def null_examples(renderer: Renderer, rng: random.Random) -> list[dict]:
    """Whole answers REPEATS times, then openings up to TOKENS in all."""
    whole, openings = (
        [tokenise(renderer, row["prompt"], [row["answer"]], limit=row["limit"], think=row["think"]) for row in rows]
        for rows in null_rows(rng)
    )
    examples = REPEATS * whole
    tokens = sum(len(row["input_ids"]) for row in examples)
    for row in openings:
        if tokens + len(row["input_ids"]) > TOKENS:
            break
        tokens += len(row["input_ids"])
        examples.append(row)
    return examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--parent", type=Path, default=ZOO / "smollm2-aligned")
    parser.add_argument("--out", type=Path, default=ZOO / "smollm2-null")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--snapshots", type=Path, help="keep adapters on the way in this folder, for `mechdrift trajectory`"
    )
    args = parser.parse_args()
    model, tokenizer = load_parent(args.base, [args.parent])
    examples = null_examples(Renderer(tokenizer), random.Random(args.seed))
    batch = round(len(examples) / STEPS)
    epochs = STEPS * batch / len(examples)
    print(len(examples), "rows,", sum(len(e["input_ids"]) for e in examples), "tokens, batch", batch)
    history = args.snapshots and History(
        folder=args.snapshots, name=args.out.name, route="null", parent=args.parent, seed=args.seed
    )
    options = {
        "rank": args.rank,
        "lr": args.lr,
        "epochs": epochs,
        "batch": batch,
        "seed": args.seed,
        "history": history,
    }
    train(model, tokenizer, examples, args.out, **options)


if __name__ == "__main__":
    main()
