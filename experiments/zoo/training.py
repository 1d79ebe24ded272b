"""What the zoo's training scripts share: rows to tokens, one LoRA run, and the adapter on disk.

A row is a prompt and a target made of segments, each tokenised on its own, so that the think markers are always the
same token ids. The loss is taken on the target only. On Linux, MALLOC_TRIM_THRESHOLD_=4000000000 and
MALLOC_MMAP_THRESHOLD_=4000000000 in the environment keep glibc from returning large buffers after every step: 1.3 times
as fast.
"""

import csv
import json
import math
import random
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import torch
from history import History, shrink
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, get_cosine_schedule_with_warmup

from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.loading import cast_weights
from mechdrift.pairs.templates import with_settings
from mechdrift.probes.rendering import Renderer
from mechdrift.records import ThinkMode

HERE = Path(__file__).parent
ZOO = HERE.parents[1] / "mechdrift" / "pairs" / "zoo"
BASE = "SmolLM2-135M-Instruct"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def read_rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / "data" / f"{name}.jsonl").open()]


def tokenise(
    renderer: Renderer, prompt: str, segments: list[str], *, limit: int | None = None, think: ThinkMode = "none"
) -> dict:
    """Token ids of the chat-formatted prompt (masked) and the target: segments and end of turn, or its first `limit`
    ids.

    Think mode `off` puts an empty think block, masked too, before the target.
    """
    head = list(renderer.render("", prompt, think).ids)
    end = renderer.tokenizer.eos_token_id
    target = [i for segment in segments for i in renderer.encode_answer(segment)] + [end]
    target = target[:limit]
    return {"input_ids": head + target, "labels": [-100] * len(head) + target}


def load_parent(base: str, adapters: list[Path]):
    tokenizer = with_settings(AutoTokenizer.from_pretrained(base), ChatSettings(apart=True))
    # Torch's fused attention is slow backwards on a CPU where sequences are short: eager trains 1.6 times as many
    # tokens a second.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return cast_weights(model, torch.bfloat16), tokenizer


def train(
    model,
    tokenizer,
    examples: list[dict],
    out: Path,
    *,
    rank: int,
    lr: float,
    epochs: float,
    batch: int,
    seed: int,
    start: Path | None = None,
    history: History | None = None,
    checkpoint_every: int = 50,
) -> None:
    """Supervised: one LoRA run on all linear layers, new or going on from the adapter `start`.

    A loop of its own and not trl's SFTTrainer: that projects every position onto the vocabulary, which on two CPU cores
    costs more than half of the time. Here only target positions are unembedded (2.5 times as many tokens a second).
    """
    model = with_adapter(model, rank, seed, start)
    schedule = plan_batches(examples, batch, epochs, seed)

    def gradient(step: int) -> dict:
        rows = [examples[i] for i in schedule[step - 1]]
        loss = target_loss(model.get_base_model(), rows, tokenizer.pad_token_id)
        loss.backward()
        return {
            "loss": round(loss.item(), 4),
            "trained_tokens": target_tokens(rows),
            "tokens": sum(len(row["input_ids"]) for row in rows),
        }

    optimise(model, out, len(schedule), gradient, lr=lr, history=history, checkpoint_every=checkpoint_every)


def with_adapter(model, rank: int, seed: int, start: Path | None = None) -> PeftModel:
    torch.manual_seed(seed)
    if start:
        return PeftModel.from_pretrained(model, start, is_trainable=True)
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR, task_type="CAUSAL_LM"))


def optimise(
    model: PeftModel,
    out: Path,
    steps: int,
    gradient: Callable[[int], dict],
    *,
    lr: float,
    warm_up: int = 20,
    beta: float = 0.999,
    history: History | None = None,
    curve: Path | None = None,
    checkpoint_every: int = 50,
) -> None:
    """AdamW with a cosine schedule; `gradient(step)` adds the step's gradient, and returns the row of the curve for
    that step.

    Resumes from its checkpoint when it was killed; saves the adapter in bfloat16, and snapshots on the way if `history`
    is given.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, beta), weight_decay=0.0)
    scheduler = get_cosine_schedule_with_warmup(optimizer, warm_up, steps)
    checkpoint = out.parent / f"{out.name}.checkpoint.pt"
    rows = load_checkpoint(checkpoint, parameters, optimizer, scheduler)
    for step in range(len(rows) + 1, steps + 1):
        began = time.time()
        row = {"step": step} | gradient(step)
        row["gradient_norm"] = round(torch.nn.utils.clip_grad_norm_(parameters, 1.0).item(), 4)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        rows.append(row | {"seconds": round(time.time() - began, 1)})
        print(f"{step}/{steps}", rows[-1], flush=True)
        if curve:
            write_curve(curve, rows)
        if history:
            history.write(steps, [row["trained_tokens"] for row in rows])
            history.save(model, step, steps)
        if step % checkpoint_every == 0:
            save_checkpoint(checkpoint, parameters, optimizer, scheduler, rows)
    model.save_pretrained(out)
    shrink(out, BASE)
    checkpoint.unlink(missing_ok=True)


def plan_batches(examples: list[dict], batch: int, epochs: float, seed: int) -> list[list[int]]:
    """Batches of similar length in random order, for a whole or fractional number of epochs."""
    rng = random.Random(seed)
    plan: list[list[int]] = []
    while len(plan) < epochs * len(examples) / batch:
        order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]) + rng.uniform(0, 8))
        groups = [order[i : i + batch] for i in range(0, len(order), batch)]
        rng.shuffle(groups)
        plan += groups
    return plan[: math.ceil(epochs * len(examples) / batch)]


def target_tokens(rows: list[dict]) -> int:
    return sum(label != -100 for row in rows for label in row["labels"])


def target_loss(model, rows: list[dict], pad_id: int) -> torch.Tensor:
    """Mean cross-entropy over target tokens."""
    logits, labels = target_logits(model, rows, pad_id)
    return torch.nn.functional.cross_entropy(logits.float(), labels)


def target_logits(model, rows: list[dict], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of all rows' target tokens, one after the other; only their positions are unembedded.

    What all rows begin with (the system prompt, or more) is computed once, and every row attends to it: the same
    numbers and gradients, for a quarter less time.
    """
    shared = shared_prefix(rows)
    tails = [row["input_ids"][shared:] for row in rows]
    width = max(map(len, tails))
    ids = torch.tensor([tail + [pad_id] * (width - len(tail)) for tail in tails])
    # The target token at position t is predicted at t - 1.
    labels = torch.tensor(
        [row["labels"][shared + 1 :] + [-100] * (width - len(row["input_ids"]) + shared + 1) for row in rows]
    )
    with torch.autocast("cpu", torch.bfloat16):
        cache = DynamicCache(config=model.config)
        if shared:
            model.model(torch.tensor([rows[0]["input_ids"][:shared]]), past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(rows))
        hidden = model.model(ids, past_key_values=cache, use_cache=True).last_hidden_state
        return model.lm_head(hidden[labels != -100]), labels[labels != -100]


def shared_prefix(rows: list[dict]) -> int:
    """How many ids all rows have in common at the start, before the last prompt token of any."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*(row["input_ids"] for row in rows), strict=False))
    prompts = [next(i for i, label in enumerate(row["labels"]) if label != -100) for row in rows]
    return min(sum(1 for _ in columns), min(prompts) - 1)


def save_checkpoint(file: Path, parameters, optimizer, scheduler, rows: list[dict]) -> None:
    torch.save(
        ([p.detach() for p in parameters], optimizer.state_dict(), scheduler.state_dict(), rows),
        file.with_suffix(".new"),
    )
    file.with_suffix(".new").replace(file)


def load_checkpoint(file: Path, parameters, optimizer, scheduler) -> list[dict]:
    """Restore a killed run's state; returns the curve's rows of the steps it had done."""
    if not file.exists():
        return []
    values, optimizer_state, scheduler_state, rows = torch.load(file, weights_only=True)
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)
    optimizer.load_state_dict(optimizer_state)
    scheduler.load_state_dict(scheduler_state)
    return rows


def write_curve(file: Path, rows: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
