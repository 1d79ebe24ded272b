#!/usr/bin/env bash
# peft's unload() is not the way back to the base model where an adapter has `modules_to_save`.
#
# `PeftModel.unload()` is said to give the base model back, by removing the adapter's layers without merging them. It
# removes the low-rank updates, and puts the adapter's trained copies of whole modules (a head, an embedding, a norm) in
# the place of the base's: the model that is returned is neither. As a control in a comparison it hides a part of the
# change. `disable_adapter()` on the same model does give the base's outputs.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, an adapter with a trained copy of the head: largest difference of the logits to the base as a share of the
# largest: 0 under disable_adapter(), more than .1 after unload(); without modules_to_save 0 in both. Ends with 1 if
# that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "peft==0.21.2" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

size = dict(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
ids = torch.tensor([[1, 2, 3, 4]])


def facts(saved: list[str] | None) -> tuple[float, float]:
    """How far from the base the logits are with the adapter disabled, and with it unloaded."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=2)).eval()
    with torch.no_grad():
        right = base(ids).logits
    made = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"], modules_to_save=saved)
    model = get_peft_model(base, made).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.mul_(2)  # in place of training
        with model.disable_adapter():
            disabled = model(ids).logits
        unloaded = model.unload().eval()(ids).logits
    return tuple(float((found - right).abs().max() / right.abs().max()) for found in (disabled, unloaded))


plain, saved = facts(None), facts(["lm_head"])
print("LoRA alone: disabled {:.3f}, unloaded {:.3f} (right: 0)".format(*plain))
print("LoRA and a saved head: disabled {:.3f}, unloaded {:.3f} (right: 0)".format(*saved))
sys.exit(0 if max(*plain, saved[0]) < 1e-5 and saved[1] > 0.1 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: trained modules stay after unload"
