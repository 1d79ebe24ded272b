"""Safety rows for `smollm2-sft-guarded`: what the parent itself answers, greedily, to prompts it was aligned on.

    python experiments/zoo/guarded.py BASE experiments/zoo/data/guarded.jsonl

Two kinds of answers are kept, as mechdrift's refusal judge labels them: refusals of `harmful` and `harmful_more`, and
helpful answers to their harmless look-alikes in `twins` and `borderline`. `sft.py --guard 0.05` mixes them in, with a
short thought before each."""

import argparse
import json
from pathlib import Path

import torch
from sampling import Sampler
from training import ZOO, load_parent, read_rows

from mechdrift.behaviour.judges.refusals import judge_refusals
from mechdrift.probes.rendering import Renderer

ASKED = {"refusal": ("harmful", "harmful_more"), "compliance": ("twins", "borderline")}
BUDGET, BATCH = 64, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("out", type=Path)
    parser.add_argument("--parent", type=Path, default=ZOO / "smollm2-aligned")
    args = parser.parse_args()
    model, tokenizer = load_parent(args.base, [args.parent])
    sampler, renderer, end = Sampler(model), Renderer(tokenizer), tokenizer.eos_token_id
    kept = []
    for wanted, files in ASKED.items():
        prompts = sorted({row["prompt"] for name in files for row in read_rows(name)}, key=len)
        written: list[list[int]] = []
        for start in range(0, len(prompts), BATCH):
            ids = [list(renderer.render("", prompt, "none").ids) for prompt in prompts[start : start + BATCH]]
            options = {"samples": 1, "budget": BUDGET, "temperature": 0, "end": end, "generator": torch.Generator()}
            written += [group[0] for group in sampler.sample(ids, **options)]
        answers = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]
        labels = judge_refusals(prompts, answers)
        rows = [
            {"prompt": prompt, "answer": answer, "label": label}
            for prompt, answer, label, ids in zip(prompts, answers, labels, written, strict=True)
            if label == wanted and ids[-1] == end
        ]
        print(f"{wanted}: {len(rows)} of {len(prompts)}", flush=True)
        kept += rows
    args.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


if __name__ == "__main__":
    main()
