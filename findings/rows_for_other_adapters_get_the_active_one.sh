#!/usr/bin/env bash
# peft takes `adapter_names`, one adapter for each row of a batch, with adapters that do not read it, and answers all
# rows with the active one.
#
# `model(ids, adapter_names=["one", "two", "__base__"])` compares two adapters and the base model in one pass. LoRA
# (and GLoRA and RoAd) run each row by its own. PeftModel takes the argument out of the call for all kinds of adapter,
# so that with the others it is lost: IA3, LoHa, VeRA, OFT and some twenty more compute every row, the base's too, by
# the adapter that is active. A difference of adapters is then exactly 0. Names that do not exist pass too. LoRA
# refuses them. There is no error and no warning. peft's guide describes the argument for LoRA only.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, rows by "one", "two" and the base, "one" active, largest difference to the same row by that adapter alone as a
# share of the largest logit: LoRA less than .0001 for all; IA3, LoHa, VeRA and OFT less than .0001 for "one", more
# than .1 for "two" and the base, and all rows are alike; a name that does not exist: LoRA refuses it, the others take
# it. Warnings: 0. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "peft==0.21.2" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys
import warnings

import torch
from peft import IA3Config, LoHaConfig, LoraConfig, OFTConfig, VeraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

size = dict(vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
PLACES = dict(target_modules=["q_proj", "v_proj"])
MADE = {
    "LoRA": LoraConfig(r=4, **PLACES),
    "IA3": IA3Config(feedforward_modules=[], **PLACES),
    "LoHa": LoHaConfig(r=4, **PLACES),
    "VeRA": VeraConfig(r=4, **PLACES),
    "OFT": OFTConfig(oft_block_size=4, **PLACES),
}
ROWS = ["one", "two", "__base__"]
ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
batch = ids.repeat(len(ROWS), 1)


@torch.no_grad()
def facts(made) -> tuple[list[float], float, int, str]:
    """Each row's error, how far rows are apart, the number of warnings, and what becomes of an unknown name."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=2))
    for parameter in base.parameters():
        if parameter.dim() > 1:
            parameter.mul_(8)  # livelier than the initial weights
    model = get_peft_model(base, made, adapter_name="one")
    model.add_adapter("two", made)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".one" in name or ".two" in name:
            parameter.add_(0.5 * torch.randn_like(parameter))  # in place of training
    model.eval()
    right = []
    for name in ROWS[:2]:
        model.set_adapter(name)
        right.append(model(ids).logits)
    with model.disable_adapter():
        right.append(model(ids).logits)
    model.set_adapter("one")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = model(batch, adapter_names=ROWS).logits
    wrong = [float((row - due[0]).abs().max() / due.abs().max()) for row, due in zip(found, right, strict=True)]
    try:
        model(batch, adapter_names=["nobody"] * len(ROWS))
        unknown = "taken"
    except ValueError:
        unknown = "refused"
    return wrong, float((found - found[:1]).abs().max()), len(said), unknown


as_described = True
for name, made in MADE.items():
    wrong, apart, said, unknown = facts(made)
    errors = ", ".join(f"{row} {value:.0e}" for row, value in zip(ROWS, wrong, strict=True))
    print(f"{name}: {errors} (right: rounding); rows apart {apart:.1g}; warnings {said}; unknown name {unknown}")
    if name == "LoRA":
        as_described &= max(wrong) < 1e-4 and apart > 0.1 and unknown == "refused"
    else:
        lost = wrong[0] < 1e-4 and min(wrong[1:]) > 0.1 and apart < 1e-4
        as_described &= lost and said == 0 and unknown == "taken"
sys.exit(0 if as_described else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: all rows are answered by the active adapter"
