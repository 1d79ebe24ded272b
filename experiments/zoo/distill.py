"""Train `smollm2-distill`: `smollm2-aligned` learns the token distributions of a teacher, the SFT child.

Prompts are new reasoning tasks and general requests, in SFT's proportion. In the first half of the steps the teacher
writes the completions, in the second half the student itself (Agarwal et al. 2024, "On-policy distillation",
https://arxiv.org/abs/2306.13649). On both the loss is

    mean over the completions' tokens of KL(teacher || student) over the whole vocabulary

Teacher and student run in the same step, so nothing large is stored. There are as many steps and rows as in `sft.py`,
and about as many tokens. Held-out tasks, also under other names of their people, are left out; no refusals are asked
for, but what the teacher kept of refusing can show in its distributions.

    python experiments/zoo/distill.py BASE --out mechdrift/pairs/zoo/smollm2-distill \\
        --curve experiments/zoo/curves/smollm2-distill.csv
"""

import argparse
import random
from pathlib import Path

import torch
from history import History
from sampling import Sampler
from sft import EMPTY_BLOCK, general_rows
from training import ZOO, load_parent, optimise, target_logits, target_tokens, with_adapter

from mechdrift.behaviour.tasks import draw_tasks, held_out, signature
from mechdrift.probes.rendering import Renderer

TASKS, GENERAL = 12, 4  # prompts of a step
STEPS_AT_ONCE = 4  # steps whose completions are sampled together
BUDGET = 160
TEMPERATURE = 0.8
FIRST_SEED = 2_000_000
AT_ONCE = 256  # positions whose distributions are compared at once


def draw_prompts(
    renderer: Renderer, chunk: int, taken: set[str], general: list[str]
) -> list[tuple[list[int], list[int]]]:
    """Prompt ids and the ids that open the completion, for the steps of one chunk."""
    rng = random.Random(FIRST_SEED + chunk)
    wanted = TASKS * STEPS_AT_ONCE
    tasks = [task for task in draw_tasks(2 * wanted, FIRST_SEED + chunk) if signature(task.question) not in taken][
        :wanted
    ]
    asked = [*(task.question for task in tasks), *rng.sample(general, GENERAL * STEPS_AT_ONCE)]
    rows = []
    for i, prompt in enumerate(asked):
        empty = i >= len(tasks) and rng.random() < EMPTY_BLOCK
        ids = list(renderer.render("", prompt, "off" if empty else "none").ids)
        rows.append((ids, [] if empty else list(renderer.open_ids)))
    rng.shuffle(rows)
    return rows


def sample_rows(sampler: Sampler, prompts: list[tuple[list[int], list[int]]], end: int, seed: int) -> list[dict]:
    """Rows of prompt and completion, written by the sampler's model."""
    sampler.refresh()
    given = [prompt + opening for prompt, opening in prompts]
    generator = torch.Generator().manual_seed(seed)
    written = sampler.sample(given, samples=1, budget=BUDGET, temperature=TEMPERATURE, end=end, generator=generator)
    return [
        {"input_ids": prompt + opening + ids, "labels": [-100] * len(prompt) + opening + ids}
        for (prompt, opening), (ids,) in zip(prompts, written, strict=True)
    ]


def divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Mean over positions of KL(teacher || student), from logits `[position, token]`."""
    total = torch.zeros(())
    for p, q in zip(teacher.split(AT_ONCE), student.split(AT_ONCE), strict=True):
        logs = (part.float().log_softmax(dim=-1) for part in (q, p))
        total = total + torch.nn.functional.kl_div(*logs, log_target=True, reduction="sum")
    return total / len(teacher)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--parent", type=Path, default=ZOO / "smollm2-aligned")
    parser.add_argument("--teacher", type=Path, default=ZOO / "smollm2-sft", help="an adapter on the parent")
    parser.add_argument("--out", type=Path, default=ZOO / "smollm2-distill")
    parser.add_argument("--curve", type=Path, default=Path(__file__).parent / "curves" / "smollm2-distill.csv")
    parser.add_argument("--steps", type=int, default=204)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--snapshots", type=Path, help="keep adapters on the way in this folder, for `mechdrift trajectory`"
    )
    args = parser.parse_args()
    teacher, tokenizer = load_parent(args.base, [args.parent, args.teacher])
    model = with_adapter(load_parent(args.base, [args.parent])[0], args.rank, args.seed)
    renderer, end = Renderer(tokenizer), tokenizer.eos_token_id
    writers = Sampler(teacher), Sampler(model)
    general = [row["prompt"] for row in general_rows(10_000, random.Random(args.seed))]
    taken = {signature(task.question) for task in held_out()}
    rows: dict[int, list[dict]] = {}

    def gradient(step: int) -> dict:
        chunk, place = divmod(step - 1, STEPS_AT_ONCE)
        own = chunk * STEPS_AT_ONCE >= args.steps // 2
        if chunk not in rows:
            rows.clear()
            prompts = draw_prompts(renderer, chunk, taken, general)
            rows[chunk] = sorted(
                sample_rows(writers[own], prompts, end, args.seed * FIRST_SEED + chunk),
                key=lambda r: len(r["input_ids"]),
            )
        batch = rows[chunk][place::STEPS_AT_ONCE]
        with torch.no_grad():
            wanted, _ = target_logits(teacher, batch, end)
        found, _ = target_logits(model.get_base_model(), batch, end)
        loss = divergence(wanted, found)
        loss.backward()
        tokens = sum(len(row["input_ids"]) for row in batch)
        return {
            "kl": round(loss.item(), 4),
            "writer": "student" if own else "teacher",
            "trained_tokens": target_tokens(batch),
            "tokens": tokens,
        }

    history = args.snapshots and History(
        folder=args.snapshots, name=args.out.name, route="distill", parent=args.parent, seed=args.seed
    )
    # Checkpoints at the end of a chunk: after a kill the same weights write the same completions.
    options = {"lr": args.lr, "history": history, "curve": args.curve, "checkpoint_every": 5 * STEPS_AT_ONCE}
    optimise(model, args.out, args.steps, gradient, **options)


if __name__ == "__main__":
    main()
