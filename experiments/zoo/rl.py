r"""Train `smollm2-rl`: reinforcement learning of `smollm2-aligned` with verifiable rewards, on the tasks of the SFT
child.

A format warm-up on reasoning traces and a few general requests comes first (as in `sft.py`): without it no completion
closes its think block, and there is no reward to learn from. Then, at every step, one new task of each kind is drawn,
SAMPLES completions of each are sampled at temperature 1, and each is rewarded:

    r = 1     the think block is closed, the answer ended, and its result is exact
    r = 0.1   only its form is right
    r = 0     otherwise

The gradient is REINFORCE with a leave-one-out baseline (RLOO, Ahmadian et al. 2024,
https://arxiv.org/abs/2402.14740), on-policy, with a constant in place of each completion's length (Liu et al. 2025,
https://arxiv.org/abs/2503.20783), and without a KL penalty:

    loss = - 1 / (N c) · Σ_i (r_i - mean_{j ≠ i} r_j) · Σ_t log π(token_t of completion i)
    with N completions and c = TOKENS_EXPECTED

The loop is this script's own and not trl's RLOOTrainer. On one core, under the same load, RLOOTrainer had not finished
one such step (12 prompts, 8 samples each) when this loop had made eleven; `sampling` and `packed_logits` say where the
time goes.

Held-out tasks, also under other names of their people, are left out. No safety data is used, and after the warm-up no
general request. Groups whose rewards are all the same have no gradient and are skipped. With so few samples a step,
the steps must be small: at a learning rate of 5e-4, after 360 traces, exact answers fell from 22 % (mean of the first
ten steps) to 1 % at step 22 (`curves/tried-rl-lr5e-4.csv`).

The warm-up decides what RL is left to do. After 720 traces greedy answers gain nothing more, only sampled ones (41 to
52 %, `curves/smollm2-rl.csv`). After 360 (`--traces 360 --lr 2e-4 --steps 220`, `curves/smollm2-rl-360.csv`) greedy
ones rise from 31 to 46 % and sampled ones from 21 to 44 %, but general requests are then answered like tasks; that
child is not embedded.

    python experiments/zoo/rl.py BASE --out mechdrift/pairs/zoo/smollm2-rl --curve experiments/zoo/curves/smollm2-rl.csv
"""

import argparse
import random
from dataclasses import replace
from pathlib import Path

import torch
from history import CONFIG, History
from sampling import Sampler
from sft import general_rows, tokenise_row, trace_rows
from training import ZOO, load_parent, optimise, plan_batches, shared_prefix, target_tokens, train, with_adapter

from mechdrift.behaviour.tasks import KIND_FUNCTIONS, Task, draw_tasks, held_out, is_correct, signature
from mechdrift.probes.in_place import find
from mechdrift.probes.rendering import Renderer

GENERAL = 1 / 6  # general requests of the warm-up, per reasoning trace
WARM_EPOCHS, WARM_BATCH = 2.0, 8
SAMPLES = 8
BUDGET = 120  # tokens of a completion: thinking and answer
TOKENS_EXPECTED = 50
FORMAT = 0.1
FIRST_SEED = 1_000_000  # of the tasks, one a step


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Each reward less the mean of the others in its row `[prompt, sample]`: (r_i - mean r) · k / (k - 1)."""
    k = rewards.shape[1]
    return (rewards - rewards.mean(dim=1, keepdim=True)) * k / (k - 1)


def reward(task: Task, ids: list[int], renderer: Renderer) -> float:
    """1 for an exact result in the right form, FORMAT for the form alone, 0 without it; `ids` follow an opened think
    block."""
    close = find(ids, renderer.close_marker)
    if close is None or ids[-1] != renderer.tokenizer.eos_token_id:
        return 0.0
    answer = renderer.tokenizer.decode(ids[close + len(renderer.close_marker) : -1])
    return 1.0 if is_correct(task, answer) else FORMAT


def draw_step(step: int, taken: set[str]) -> list[Task]:
    """One task of each kind, new at each step and none of the held-out ones."""
    found: dict[str, Task] = {}
    for task in draw_tasks(4 * len(KIND_FUNCTIONS), FIRST_SEED + step):
        if signature(task.question) not in taken:
            found.setdefault(task.kind, task)
    return list(found.values())


def warm_up(
    model, tokenizer, folder: Path, traces: int, rank: int, seed: int, history: History | None
) -> tuple[int, ...]:
    """Makes the adapter after the format warm-up, if it is not there; returns the target tokens of each of its
    steps."""
    rng = random.Random(seed)
    rows = trace_rows(traces, rng, seed) + general_rows(round(GENERAL * traces), rng)
    examples = [tokenise_row(Renderer(tokenizer), row) for row in rows]
    if not (folder / CONFIG).exists():
        train(
            model,
            tokenizer,
            examples,
            folder,
            rank=rank,
            lr=8e-4,
            epochs=WARM_EPOCHS,
            batch=WARM_BATCH,
            seed=seed,
            history=history,
        )
    return tuple(
        target_tokens([examples[i] for i in batch]) for batch in plan_batches(examples, WARM_BATCH, WARM_EPOCHS, seed)
    )


def packed_logits(model, rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of the rows' target tokens, as `training.target_logits`, with all rows in one sequence without
    padding.

    What the rows share comes once, then every row's rest, which sees the shared part and itself. Samples of one prompt
    share a lot and differ in length, so that this computes about half as many positions.
    """
    shared = shared_prefix(rows)
    rests = [range(shared, len(row["input_ids"])) for row in rows]
    ids = rows[0]["input_ids"][:shared] + [
        row["input_ids"][i] for row, rest in zip(rows, rests, strict=True) for i in rest
    ]
    labels = [-100] * shared + [i for row in rows for i in (*row["labels"][shared + 1 :], -100)]
    positions = torch.tensor([*range(shared), *(i for rest in rests for i in rest)])
    owner = torch.tensor([-1] * shared + [r for r, rest in enumerate(rests) for _ in rest])
    seen = ((owner[None] == -1) | (owner[None] == owner[:, None])) & (positions[None] <= positions[:, None])
    mask = torch.zeros(seen.shape).masked_fill(~seen, -1e9)[None, None].to(model.dtype)
    chosen = torch.tensor(labels)
    with torch.autocast("cpu", torch.bfloat16):
        inputs = {"attention_mask": mask, "position_ids": positions[None], "use_cache": False}
        hidden = model.model(torch.tensor([ids]), **inputs).last_hidden_state[0]
        return model.lm_head(hidden[chosen != -100]), chosen[chosen != -100]


def policy_loss(model, rows: list[dict], weights: list[float]) -> torch.Tensor:
    """- Σ over completions of the weight times the sum of their tokens' log-probabilities."""
    logits, labels = packed_logits(model, rows)
    log_probabilities = -torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    lengths = torch.tensor([sum(label != -100 for label in row["labels"]) for row in rows])
    return -(log_probabilities * torch.tensor(weights).repeat_interleave(lengths)).sum()


def one_step(model, sampler: Sampler, renderer: Renderer, tasks: list[Task], generator: torch.Generator) -> dict:
    """Samples, rewards and the gradient of one step; returns its row of the curve."""
    sampler.refresh()
    end = renderer.tokenizer.eos_token_id
    prompts = [[*renderer.render("", task.question, "none").ids, *renderer.open_ids] for task in tasks]
    sampled = sampler.sample(prompts, samples=SAMPLES, budget=BUDGET, temperature=1.0, end=end, generator=generator)
    rewards = torch.tensor(
        [[reward(task, ids, renderer) for ids in group] for task, group in zip(tasks, sampled, strict=True)]
    )
    weights = advantages(rewards) / (rewards.numel() * TOKENS_EXPECTED)
    mixed = [i for i, group in enumerate(rewards.tolist()) if len(set(group)) > 1]
    for i in mixed:
        rows = [{"input_ids": prompts[i] + ids, "labels": [-100] * len(prompts[i]) + ids} for ids in sampled[i]]
        policy_loss(model.get_base_model(), rows, weights[i].tolist()).backward()
    return {
        "reward": round(rewards.mean().item(), 4),
        "exact": round((rewards == 1).float().mean().item(), 4),
        "well_formed": round((rewards > 0).float().mean().item(), 4),
        "mixed_groups": len(mixed),
        "tokens": round(sum(len(ids) for group in sampled for ids in group) / rewards.numel(), 2),
        "trained_tokens": sum(len(ids) for i in mixed for ids in sampled[i]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--parent", type=Path, default=ZOO / "smollm2-aligned")
    parser.add_argument("--out", type=Path, default=ZOO / "smollm2-rl")
    parser.add_argument("--curve", type=Path, default=Path(__file__).parent / "curves" / "smollm2-rl.csv")
    parser.add_argument(
        "--traces", type=int, default=720, help="of the warm-up, whose adapter (OUT.warm-up) is kept and taken again"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--snapshots", type=Path, help="keep adapters on the way in this folder, for `mechdrift trajectory`"
    )
    args = parser.parse_args()
    history = args.snapshots and History(
        folder=args.snapshots,
        name=args.out.name,
        route="rl",
        parent=args.parent,
        seed=args.seed,
        snapshots=6,
        to_come=args.steps,
    )
    model, tokenizer = load_parent(args.base, [args.parent])
    warm_folder = args.out.with_name(f"{args.out.name}.warm-up")
    warm = warm_up(model, tokenizer, warm_folder, args.traces, args.rank, args.seed, history)
    history = history and replace(history, to_come=0, warm_up=warm)
    model = with_adapter(load_parent(args.base, [args.parent])[0], args.rank, args.seed, start=warm_folder)
    sampler, renderer = Sampler(model), Renderer(tokenizer)
    taken = {signature(task.question) for task in held_out()}

    def gradient(step: int) -> dict:
        generator = torch.Generator().manual_seed(args.seed * FIRST_SEED + step)
        return one_step(model, sampler, renderer, draw_step(step, taken), generator)

    options = {
        "lr": args.lr,
        "warm_up": 5,
        "beta": 0.95,
        "history": history,
        "curve": args.curve,
        "checkpoint_every": 10,
    }
    optimise(model, args.out, args.steps, gradient, **options)


if __name__ == "__main__":
    main()
