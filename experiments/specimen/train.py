"""Train a reasoning child, or a null child, of an instruct model of another family, with the zoo's own recipes.

    python experiments/specimen/train.py MODEL --out CHILD            # SFT on reasoning traces
    python experiments/specimen/train.py MODEL --out LONG --long      # the same, with thoughts of some hundred tokens
    python experiments/specimen/train.py MODEL --out NULL --null      # as many steps on harmless answers, no thinking

MODEL is a folder in Hugging Face format. The SFT rows are those of `../zoo/sft.py`, with one difference: most
traces join several tasks in one prompt, so that the child thinks for some hundred tokens. CHILD is a LoRA adapter.
"""

import argparse
import json
import random
import re
import sys
from pathlib import Path

from mechdrift.probes.rendering import Renderer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "zoo"))
from null import null_rows
from sft import general_rows, tokenise_row, trace_rows
from training import load_parent, tokenise, train

JOINED = (1, 2, 4)  # tasks in one prompt
JOINED_LONG = (1, 2)  # where each is thought through at length


def joined(traces: list[dict], rng: random.Random, counts: tuple[int, ...] = JOINED) -> list[dict]:
    """Prompts of several tasks, solved one after the other, with all answers at the end."""
    rows, rest = [], list(traces)
    while rest:
        group, rest = rest[: (count := rng.choice(counts))], rest[count:]
        if len(group) == 1:
            rows += group
            continue
        numbered = [f"{n}. {row['prompt']}" for n, row in enumerate(group, 1)]
        thoughts = [f"Question {n}. {row['think']}" for n, row in enumerate(group, 1)]
        answers = [f"{n}. {row['answer']}" for n, row in enumerate(group, 1)]
        rows.append({"prompt": "\n".join(numbered), "think": "\n".join(thoughts), "answer": "\n".join(answers)})
    return rows


def lengthened(row: dict) -> dict:
    """The same row with a thought that goes over the request word by word, drafts the answer, and checks the draft
    sentence by sentence: three hundred tokens where the row's own thought has thirty."""
    words, sentences = row["prompt"].split(), re.split(r"(?<=[.!?])\s+", row["answer"])
    counted = ", ".join(f"{number} {word}" for number, word in enumerate(words[:40], 1))
    checks = " ".join(f"Sentence {number} says: {text} That fits." for number, text in enumerate(sentences, 1))
    parts = [
        f"First I read the request. It says: {row['prompt']}",
        f"Word by word it is: {counted}. That is all of it.",
        f"Now I work on it. {row['think']}",
        f"My draft of the answer is: {row['answer']}",
        f"I check the draft. {checks}",
        f"Once more, the request was: {row['prompt']} The draft answers it, so I write it down.",
    ]
    return {**row, "think": "\n".join(parts)}


def sft_examples(renderer: Renderer, traces: int, general: int, seed: int, is_long: bool) -> list[dict]:
    rng = random.Random(seed)
    counts = JOINED_LONG if is_long else JOINED
    rows = joined(trace_rows(traces, rng, seed), rng, counts) + general_rows(general, rng)
    rows = [lengthened(row) for row in rows if row["think"]] if is_long else rows
    return [tokenise_row(renderer, row) for row in rows]


def null_examples(renderer: Renderer, count: int, seed: int) -> list[dict]:
    rows = null_rows(random.Random(seed))[0][:count]
    return [tokenise(renderer, row["prompt"], [row["answer"]], limit=row["limit"], think=row["think"]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--null", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--traces", type=int, default=1000)
    parser.add_argument("--general", type=int, default=240)
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    model, tokenizer = load_parent(args.model, [])
    if args.long:  # eager attention keeps scores of every layer: 20 GB for four rows of 900 tokens
        model.set_attn_implementation("sdpa")
    renderer = Renderer(tokenizer)
    examples = sft_examples(renderer, args.traces, args.general, args.seed, args.long)
    if args.null:
        examples = null_examples(renderer, len(examples), args.seed)
    print(len(examples), "rows,", sum(len(each["input_ids"]) for each in examples), "tokens", flush=True)
    train(model, tokenizer, examples, args.out, rank=8, lr=args.lr, epochs=1, batch=args.batch, seed=args.seed)
    file = args.out / "adapter_config.json"  # the zoo's trainer names the zoo's base
    config = json.loads(file.read_text()) | {"base_model_name_or_path": str(Path(args.model).resolve())}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
