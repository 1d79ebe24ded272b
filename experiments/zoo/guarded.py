"""Safety rows for `smollm2-sft-guarded`: what the parent itself answers, greedily, to prompts it was aligned on.

    python experiments/zoo/guarded.py experiments/zoo/data/guarded.jsonl

Kept are refusals of `harmful` and `harmful_more`, and answers that help to their harmless look-alikes in `twins`, `imperatives` and
`borderline`, as mechdrift's refusal judge sees them. `sft.py --guard 0.05` mixes them in, with a short thought before each.
"""

import argparse
import json
from pathlib import Path

from training import read_rows

from mechdrift.behaviour import Budget, Question, ask, judge_refusals
from mechdrift.pairs import default_dtype_for_generation, load_pair

ASKED = {"refusal": ("harmful", "harmful_more"), "compliance": ("twins", "imperatives", "borderline")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    parent = load_pair("smollm2-sft").open("instruct", default_dtype_for_generation())
    kept = []
    for wanted, files in ASKED.items():
        prompts = list(dict.fromkeys(row["prompt"] for name in files for row in read_rows(name)))
        questions = [Question(id=str(i), prompt=prompt) for i, prompt in enumerate(prompts)]
        answers = ask(parent, questions, "instruct", "none", budget=Budget(), description=wanted).rows
        labels = judge_refusals(prompts, [row.answer for row in answers])
        rows = [
            {"prompt": prompt, "answer": row.answer, "label": label}
            for prompt, row, label in zip(prompts, answers, labels, strict=True)
            if label == wanted and row.finished
        ]
        print(f"{wanted}: {len(rows)} of {len(prompts)}")
        kept += rows
    args.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


if __name__ == "__main__":
    main()
