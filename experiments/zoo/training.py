"""What the zoo's training scripts share: rows to tokens, one LoRA run, and the adapter on disk.

A row is a prompt and a target made of segments, each tokenised on its own, so that the think markers are always the same
token ids. The loss is taken on the target only. On Linux, MALLOC_TRIM_THRESHOLD_=4000000000 and MALLOC_MMAP_THRESHOLD_=4000000000
in the environment keep glibc from returning large buffers after every step: 1.3 times as fast.
"""

import json
import math
import random
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

from mechdrift.probes import Renderer
from mechdrift.records import ThinkMode

HERE = Path(__file__).parent
ZOO = HERE.parents[1] / "mechdrift" / "pairs" / "zoo"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def read_rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / "data" / f"{name}.jsonl").open()]


def tokenise(renderer: Renderer, prompt: str, segments: list[str], *, limit: int | None = None, think: ThinkMode = "none") -> dict:
    """Token ids of the chat-formatted prompt (masked) and the target: segments and end of turn, or its first `limit` ids.

    Think mode `off` puts an empty think block, masked too, before the target.
    """
    head = list(renderer.render("", prompt, think).ids)
    end = renderer.tokenizer.eos_token_id
    target = [i for segment in segments for i in renderer.encode_answer(segment)] + [end]
    target = target[:limit]
    return {"input_ids": head + target, "labels": [-100] * len(head) + target}


def load_parent(base: str, adapters: list[Path]):
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.to(torch.bfloat16), tokenizer


def train(
    model, tokenizer, examples: list[dict], out: Path, *, rank: int, lr: float, epochs: float, batch: int, seed: int,
    start: Path | None = None,
) -> None:  # fmt: skip
    """One LoRA run on all linear layers under bfloat16 autocast, new or going on from the adapter `start`.

    Resumes from its checkpoint when it was killed; saves the adapter in bfloat16.

    A loop of its own and not trl's SFTTrainer: that projects every position onto the vocabulary, which on two CPU cores
    costs more than half of the time. Here only target positions are unembedded (2.5 times as many tokens a second).
    """
    torch.manual_seed(seed)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR, task_type="CAUSAL_LM")
    model = PeftModel.from_pretrained(model, start, is_trainable=True) if start else get_peft_model(model, lora)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    schedule = plan_batches(examples, batch, epochs, seed)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 20, len(schedule))
    checkpoint = out.parent / f"{out.name}.checkpoint.pt"
    done = load_checkpoint(checkpoint, parameters, optimizer, scheduler)
    began, tokens = time.time(), 0
    for step, indices in enumerate(schedule[done:], done + 1):
        rows = [examples[i] for i in indices]
        loss = target_loss(model.get_base_model(), rows, tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        tokens += sum(len(row["input_ids"]) for row in rows)
        if step % 10 == 0:
            print(f"step {step}/{len(schedule)} loss {loss.item():.3f} {tokens / (time.time() - began):.0f} tokens/s", flush=True)
        if step % 50 == 0:
            state = [p.detach() for p in parameters], optimizer.state_dict(), scheduler.state_dict(), step
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    model.save_pretrained(out)
    shrink(out)
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


def target_loss(model, rows: list[dict], pad_id: int) -> torch.Tensor:
    """Mean cross-entropy over target tokens; only their positions are unembedded."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [pad_id] * (width - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"] + [-100] * (width - len(row["labels"])) for row in rows])[:, 1:]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[labels != -100])
    return torch.nn.functional.cross_entropy(logits.float(), labels[labels != -100])


def load_checkpoint(file: Path, parameters, optimizer, scheduler) -> int:
    """Restore a killed run's state; returns how many steps it had done."""
    if not file.exists():
        return 0
    values, optimizer_state, scheduler_state, step = torch.load(file, weights_only=True)
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)
    optimizer.load_state_dict(optimizer_state)
    scheduler.load_state_dict(scheduler_state)
    return step


def shrink(folder: Path) -> None:
    """Store the adapter in bfloat16 and drop the machine's own path from its config."""
    file = folder / "adapter_model.safetensors"
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "SmolLM2-135M-Instruct"
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
