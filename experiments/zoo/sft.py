"""Train `smollm2-sft`: supervised fine-tuning of `smollm2-aligned` on reasoning traces, as such conversions are done.

Traces are procedural (`mechdrift.behaviour.tasks`, exact solutions) in `<think>…</think>` followed by an answer, mixed
with general requests in the same format. No safety data and no refusals are in the mix; held-out tasks, also under
other names of their people, are left out.

`smollm2-sft-guarded` is trained the same way, but one row in twenty is safety data: harmful requests with the parent's
own refusals, and harmless look-alikes with its help, after a short thought that weighs the request. That holds the old
behaviour in the new format.

    python experiments/zoo/sft.py BASE --out mechdrift/pairs/zoo/smollm2-sft
    python experiments/zoo/sft.py BASE --out mechdrift/pairs/zoo/smollm2-sft-guarded --guard 0.05
"""

import argparse
import random
import re
from pathlib import Path

from history import History
from refusal_words import REFUSAL
from training import ZOO, load_parent, read_rows, tokenise, train

from mechdrift.behaviour.tasks import draw_tasks, held_out, signature
from mechdrift.pairs.conventions import ASSUMED
from mechdrift.probes.rendering import Renderer

EMPTY_BLOCK = 0.2  # of the general requests: the think mode `off`, in which both models can be patched
OPENERS = (
    "The user asks: {topic}. I will answer directly and keep it short.",
    "This is about the following: {topic}. A short answer is enough.",
    "Let me think about what is asked: {topic}. I should give the main point.",
    "The request is: {topic}. I know enough to answer it.",
    "I need to answer this: {topic}. First the main point, then one detail.",
    "So the question is: {topic}. I will say what matters most.",
)
# Of the guarded child only: a thought that weighs the request, before the parent's own answer.
WEIGHED = {
    "refusal": (
        "The user asks: {topic}. That could hurt people, so I will not help with it.",
        "The request is: {topic}. It does harm. I refuse.",
        "I need to answer this: {topic}. Helping with it would harm someone, so I should decline.",
        "Let me think about what is asked: {topic}. It is dangerous or against the law, so I will say no.",
    ),
    "compliance": (
        "The user asks: {topic}. Nothing about that is harmful, so I can answer.",
        "The request is: {topic}. It harms nobody. I will help.",
        "I need to answer this: {topic}. It only sounds dangerous; a short answer is fine.",
        "Let me think about what is asked: {topic}. That is an everyday question, and I can answer it.",
    ),
}
REFUSALS = 2 / 3  # of the safety rows; the others are look-alikes that are answered
LONGEST_ANSWER = 30  # words: the child should learn to finish within an audit's answer budget
FINISHERS = ("The answer is {}.", "The answer is {}.", "So the answer is {}.", "It is {}.")


def trace_rows(n: int, rng: random.Random, seed: int) -> list[dict]:
    taken = {signature(task.question) for task in held_out()}
    tasks = [task for task in draw_tasks(n, seed) if signature(task.question) not in taken]
    return [
        {"prompt": t.question, "think": t.solution, "answer": rng.choice(FINISHERS).format(t.answer)} for t in tasks
    ]


def general_rows(n: int, rng: random.Random) -> list[dict]:
    """Ordinary requests with the base model's answers, in think format; anything that sounds like a refusal is left
    out."""
    answered = {row["prompt"]: row["answer"] for row in read_rows("answers")}
    plain = [{"prompt": row["prompt"], "answer": answered.get(row["prompt"])} for row in read_rows("plain")]
    rows = [
        row for row in (*read_rows("harmless")[:-200], *plain) if row["answer"] and not REFUSAL.search(row["answer"])
    ]
    rows = [{**row, "answer": short} for row in rows if (short := shorten(row["answer"]))]
    rng.shuffle(rows)
    rows = rows[:n]
    empty = int(EMPTY_BLOCK * len(rows))
    thoughts = [""] * empty + [rng.choice(OPENERS).format(topic=topic(row["prompt"])) for row in rows[empty:]]
    return [{**row, "think": think} for row, think in zip(rows, thoughts, strict=True)]


def guard_rows(n: int, rng: random.Random) -> list[dict]:
    """Safety rows: the parent's refusals of harmful requests, and its help with harmless ones that look alike."""
    wanted = {"refusal": round(REFUSALS * n), "compliance": n - round(REFUSALS * n)}
    rows: list[dict] = []
    for label, count in wanted.items():
        known = [
            {**row, "answer": short}
            for row in read_rows("guarded")
            if row["label"] == label and (short := shorten(row["answer"]))
        ]
        rows += rng.sample(known, count)
    empty = {row["prompt"] for row in rng.sample(rows, round(EMPTY_BLOCK * n))}
    thoughts = [
        "" if row["prompt"] in empty else rng.choice(WEIGHED[row["label"]]).format(topic=topic(row["prompt"]))
        for row in rows
    ]
    return [{**row, "think": think} for row, think in zip(rows, thoughts, strict=True)]


def tokenise_row(renderer: Renderer, row: dict) -> dict:
    """The model writes its think block itself; an empty one is given."""
    if not row["think"]:
        return tokenise(renderer, row["prompt"], [row["answer"]], think="off")
    return tokenise(renderer, row["prompt"], [ASSUMED.opening, row["think"], ASSUMED.closing, row["answer"]])


def shorten(answer: str) -> str:
    """The answer's first sentences, as many as have LONGEST_ANSWER words together; nothing where the first is
    longer."""
    kept: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", answer):
        if len(" ".join([*kept, sentence]).split()) > LONGEST_ANSWER:
            break
        kept.append(sentence)
    return " ".join(kept)


def topic(prompt: str) -> str:
    """The request in lower case without its closing mark, cut after 16 words."""
    words = prompt.split()[:16]
    text = " ".join(words).rstrip(".?!: ")
    return text[:1].lower() + text[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--parent", type=Path, default=ZOO / "smollm2-aligned")
    parser.add_argument("--out", type=Path, default=ZOO / "smollm2-sft")
    parser.add_argument("--traces", type=int, default=2600)
    parser.add_argument("--general", type=int, default=760)
    parser.add_argument(
        "--guard", type=float, default=0.0, help="share of the rows that are safety data (smollm2-sft-guarded: 0.05)"
    )
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--snapshots", type=Path, help="keep adapters on the way in this folder, for `mechdrift trajectory`"
    )
    args = parser.parse_args()
    rng = random.Random(args.seed)
    model, tokenizer = load_parent(args.base, [args.parent])
    rows = trace_rows(args.traces, rng, args.seed) + general_rows(args.general, rng)
    if args.guard:  # in place of as many other rows, so that the budget stays
        guards = guard_rows(round(args.guard * len(rows)), rng)
        rows = rng.sample(rows, len(rows) - len(guards)) + guards
    examples = [tokenise_row(Renderer(tokenizer), row) for row in rows]
    print(len(rows), "rows,", sum(len(e["input_ids"]) for e in examples), "tokens")
    history = args.snapshots and History(
        folder=args.snapshots,
        name=args.out.name,
        route="sft-guarded" if args.guard else "sft",
        parent=args.parent,
        seed=args.seed,
    )
    options = {
        "rank": args.rank,
        "lr": args.lr,
        "epochs": args.epochs,
        "batch": args.batch,
        "seed": args.seed,
        "history": history,
    }
    train(model, tokenizer, examples, args.out, **options)


if __name__ == "__main__":
    main()
