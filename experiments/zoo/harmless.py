"""Sample harmless requests, with short answers, from the base model itself.

Starting a user turn and letting the instruct model write it gives prompts in the style the model was trained on
(Xu et al. 2024, "Magpie", https://arxiv.org/abs/2406.08464). Training on the model's own answers to them keeps
fine-tuning from drifting where nothing should change. The answers are asked for briefly, by a system prompt that
is dropped afterwards, so that the embedded models learn to finish within an audit's token budget.

    python experiments/zoo/harmless.py BASE data/harmless.jsonl --n 1200
    python experiments/zoo/harmless.py BASE data/openings.jsonl --n 1600 --openings 12 --seed 1
    python experiments/zoo/harmless.py BASE data/answers.jsonl --rows data/borderline.jsonl data/plain.jsonl ...

The second form keeps only the first tokens of each answer, finished or not: they decide between helping and refusing,
and cost a sixth. The third answers the rows whose answer is null instead of sampling prompts. All append and resume.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BRIEF = "You are a helpful AI assistant named SmolLM. Answer in one or two short sentences."
OPENINGS = (
    "",
    "",
    "",
    "",
    "How",
    "What",
    "Why",
    "Can you",
    "Write",
    "Explain",
    "Give me",
    "I",
    "Tell me",
    "List",
    "Who",
    "Where",
    "Should",
    "Please",
    "When",
    "Help me",
    "Describe",
    "Name",
    "Is it",
    "My",
    "Suggest",
    "Compare",
    "Translate",
    "Summarize",
)


def generate(model, tokenizer, prefixes, *, max_new_tokens, temperature, top_k, unfinished=False):
    """Continue token-id prefixes, left-padded; the new ids up to the end token. Where it never came: None, or all if
    `unfinished`."""
    width = max(map(len, prefixes))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prefixes])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prefixes])
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=temperature,
        top_k=top_k,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad,
    )[:, width:].tolist()
    end = tokenizer.eos_token_id
    return [row[: row.index(end)] if end in row else row if unfinished else None for row in out]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument(
        "--rows", type=Path, nargs="*", default=[], help="answer these files' open rows instead of sampling"
    )
    parser.add_argument("--openings", type=int, help="keep only that many tokens of each answer")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.bfloat16).eval()
    done = [json.loads(line) for line in args.out.open()] if args.out.exists() else []
    seen = {row["prompt"] for row in done}
    rows = [json.loads(line) for file in args.rows for line in file.open()]
    given = [row["prompt"] for row in rows if row["answer"] is None and row["prompt"] not in seen]
    torch.manual_seed(args.seed + len(done))
    rng = random.Random(args.seed + len(done))
    default = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    head = default[: default.rindex("x")]
    with args.out.open("a") as out:
        while given if args.rows else len(done) < args.n:
            if args.rows:
                prompts, given = given[: args.batch], given[args.batch :]
            else:
                openings = [rng.choice(OPENINGS) for _ in range(args.batch)]
                prefixes = [tokenizer.encode(head + o, add_special_tokens=False) for o in openings]
                new = generate(model, tokenizer, prefixes, max_new_tokens=40, temperature=1.0, top_k=400)
                prompts = [(o + tokenizer.decode(ids)).strip() for o, ids in zip(openings, new, strict=True) if ids]
                prompts = [p for p in dict.fromkeys(prompts) if p not in seen and 12 < len(p) < 220]
            if not prompts:
                continue
            chats = [[{"role": "system", "content": BRIEF}, {"role": "user", "content": p}] for p in prompts]
            prefixes = [
                tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for chat in chats
            ]
            answers = generate(
                model,
                tokenizer,
                prefixes,
                max_new_tokens=args.openings or 80,
                temperature=0.6,
                top_k=20,
                unfinished=bool(args.openings),
            )
            for prompt, ids in zip(prompts, answers, strict=True):
                if ids and len(ids) > 3:
                    row = {"prompt": prompt, "answer": tokenizer.decode(ids).strip()}
                    done.append(row)
                    seen.add(prompt)
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            print(len(done), flush=True)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
