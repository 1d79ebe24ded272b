#!/usr/bin/env bash
# add_weighted_adapter([name], [1.0], ...) of peft does not give the adapter of that name, unless it is the plainest
# LoRA.
#
# The scaled copy of one adapter (to sweep its strength, or to negate it) is
#   - with rank-stabilised LoRA multiplied by the square root of its rank: the scale is put into the weights, and used
#     again by the new adapter, whose configuration says `use_rslora` too;
#   - with DoRA without the trained magnitudes;
#   - with `modules_to_save` without the trained copies, so that the base's head or norm answers.
# All combination types that sum do the same. Nothing warns. With plain LoRA, also with another alpha, it is exact.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, weight 1, rank 4: update of the weights 1.00 times the adapter's own for LoRA, 2.00 times for rsLoRA; largest
# difference of the logits as a share of the largest: LoRA less than .0001, rsLoRA, DoRA and a saved head more than .01.
# Ends with 1 if that is no longer so.
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
KINDS = {
    "LoRA": {"lora_alpha": 16},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "LoRA and a saved head": {"modules_to_save": ["lm_head"]},
}


def facts(**settings) -> tuple[float, float]:
    """The norm of the copy's update in units of the adapter's own, and how far apart their logits are."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=2))
    made = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj"], **settings)
    model = get_peft_model(base, made, adapter_name="own").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name or "modules_to_save" in name:
                parameter.mul_(2)  # in place of training
        right = model(ids).logits
        model.add_weighted_adapter(["own"], [1.0], "copy", combination_type="linear")
        layer = model.base_model.model.model.layers[0].self_attn.q_proj
        share = layer.get_delta_weight("copy").norm() / layer.get_delta_weight("own").norm()
        model.set_adapter("copy")
        apart = (model.eval()(ids).logits - right).abs().max() / right.abs().max()
    return float(share), float(apart)


found = {name: facts(**settings) for name, settings in KINDS.items()}
for name, (share, apart) in found.items():
    print(f"{name}: update {share:.2f} times the adapter's own, logits apart by {apart:.4f} (right: 1 and 0)")
plain, stabilised = found.pop("LoRA"), found["rsLoRA"]
sound = abs(plain[0] - 1) < 1e-4 and plain[1] < 1e-4
sys.exit(0 if sound and abs(stabilised[0] - 2) < 1e-3 and min(apart for _, apart in found.values()) > 0.01 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: an adapter weighted by one is another adapter"
