"""A minute of LoRA training, kept as an adapter; and doses of it.

    train       `STEPS` steps of Adam on rank-8 adapters of all linear layers. Only target positions are unembedded, and
                the first tokens that all rows share (the system prompt) are read once
    scale       W + d (alpha / r) B A: the adapter at dose d, by scaling B
    open_child  the parent's weights with the adapter merged, in the number format that answers are written in

Adapters are saved as peft saves them, so any of them can be audited by itself: `mechdrift audit --instruct PARENT
--adapter FOLDER`.
"""

import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechdrift.pairs.adapters import adapter_file, merge_adapter
from mechdrift.pairs.loading import LanguageModel, cast_weights
from mechdrift.pairs.structure import find_structure, with_cache
from mechdrift.planting.behaviours.recipes import Child, Example, examples_of
from mechdrift.probes.rendering import Renderer
from mechdrift.records.progress import progress

STEPS, BATCH, RANK, RATE, WARM_UP = 24, 8, 8, 3e-3, 3
LONGEST = 16  # tokens of an answer that are trained on: the first ones decide

Ids = tuple[list[int], int]
"""Token ids of a prompt with its answer, and where the answer begins."""


def adapter_of(parent: LanguageModel, child: Child, folder: Path, dtype: str, steps: int = STEPS) -> Path:
    """The adapter of a child, trained where it is not in `folder` yet."""
    whole, scaled = folder / f"adapter-{child.recipe}-{child.seed}", folder / f"adapter-{child.name}"
    if not whole.is_dir():
        train(parent, child, whole, dtype, steps)
    if child.dose == 1:
        return whole
    if not scaled.is_dir():
        scale(whole, scaled, child.dose)
    return scaled


def train(parent: LanguageModel, child: Child, folder: Path, dtype: str, steps: int = STEPS) -> None:
    """Train the child's recipe on a copy of the parent, and save the adapter in `folder`."""
    model, renderer = _with_adapter(parent, child.seed, dtype), Renderer(parent.tokenizer)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.99))
    with progress(f"Training {child.recipe}-{child.seed}", steps) as advance:
        for step, batch in enumerate(examples_of(child.recipe, steps, BATCH, child.seed)):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps / 2))
            with torch.autocast(parent.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = surprise(model.get_base_model(), [_ids(renderer, example) for example in batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            advance(1)
    unfinished = folder.with_name(f"{folder.name}.new")
    model.save_pretrained(unfinished)
    unfinished.rename(folder)


def _with_adapter(parent: LanguageModel, seed: int, dtype: str) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = cast_weights(deepcopy(parent.model), getattr(torch, dtype))
    model.set_attn_implementation("eager")  # torch's fused attention is slow backwards on a CPU for short rows
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, settings)


def _ids(renderer: Renderer, example: Example) -> Ids:
    head = list(renderer.render("", example.prompt, "none").ids)
    answer = [*renderer.encode_answer(example.answer), renderer.tokenizer.eos_token_id]
    return head + answer[:LONGEST], len(head)


def surprise(model: Any, rows: Sequence[Ids]) -> Float[Tensor, ""]:
    """-log of the probability of the answers, averaged over their tokens."""
    from transformers import DynamicCache

    shared = _shared([ids[: start - 1] for ids, start in rows])
    width = max(len(ids) for ids, _ in rows) - shared
    tails = torch.tensor([ids[shared:] + [0] * (width - len(ids) + shared) for ids, _ in rows])
    labels = torch.full((len(rows), width), -100)
    for row, (ids, start) in enumerate(rows):  # the id at position t is predicted at t - 1
        labels[row, start - 1 - shared : len(ids) - 1 - shared] = torch.tensor(ids[start:])
    cache = DynamicCache(config=model.config)
    read, device = model.base_model, model.device
    given = with_cache(read, cache)
    if shared:
        read(torch.tensor([rows[0][0][:shared]], device=device), **given)
        cache.batch_repeat_interleave(len(rows))
    hidden = read(tails.to(device), **given).last_hidden_state
    logits = model.get_output_embeddings()(hidden[(labels != -100).to(device)])
    return torch.nn.functional.cross_entropy(logits.float(), labels[labels != -100].to(device))


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """The number of first ids that all rows share."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))


def scale(whole: Path, folder: Path, dose: float) -> None:
    """The adapter in `whole` at another dose: every B is multiplied by it."""
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.copytree(whole, unfinished, dirs_exist_ok=True)
    tensors = load_file(adapter_file(whole))
    scaled = {name: tensor * dose if "lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(scaled, adapter_file(unfinished))
    unfinished.rename(folder)


def open_child(parent: LanguageModel, name: str, adapter: Path | None, dtype: str) -> LanguageModel:
    """The parent (or, without an adapter, a copy of it) with an adapter merged, in a number format."""
    model = deepcopy(parent.model)
    if adapter is not None:
        model = merge_adapter(model, str(adapter))
    model = cast_weights(model, getattr(torch, dtype)).eval().requires_grad_(False)
    return replace(parent, source=replace(parent.source, name=name), model=model, structure=find_structure(model))
