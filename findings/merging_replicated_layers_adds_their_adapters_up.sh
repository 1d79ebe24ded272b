#!/usr/bin/env bash
# Merging a LoRA that was trained with peft's `layer_replication` gives another model than the one that was trained.
#
# Replicated layers share the base's weights and have an adapter each: that is what makes the deeper model cheap.
# Merging adds each adapter to the weight of its layer, which is the same tensor for all copies, so that every copy gets
# the sum of their updates. Neither `merge_and_unload` nor `merge_adapter` says so, and the merged model answers like a
# model.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, 4 layers replicated to 6: largest difference of the logits before and after merging as a share of the largest
# more than .01; with the same LoRA without replication less than .0001. The merged weight of a layer that stands twice
# is the base's plus both updates. Ends with 1 if that is no longer so.
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

size = dict(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2)
ids = torch.tensor([[1, 2, 3, 4]])


def facts(replication: list[list[int]] | None) -> tuple[float, float]:
    """How far merging moves the logits, and the merged weight of layer 1 from the base's plus all updates to it."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=2)).eval()
    weight = base.model.layers[1].self_attn.q_proj.weight.detach().clone()
    made = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj"], layer_replication=replication)
    model = get_peft_model(base, made).eval()
    layers = model.base_model.model.model.layers
    copies = [1, 3] if replication else [1]  # where the base's layer 1 stands
    with torch.no_grad():
        right = model(ids).logits
        updates = sum(layers[place].self_attn.q_proj.get_delta_weight("default") for place in copies)
        merged = model.merge_and_unload().eval()
        apart = (merged(ids).logits - right).abs().max() / right.abs().max()
        rest = (merged.model.layers[1].self_attn.q_proj.weight - weight - updates).abs().max()
    return float(apart), float(rest)


plain, replicated = facts(None), facts([[0, 3], [1, 4]])
print(f"LoRA: merging moves the logits by {plain[0]:.0e} (right: rounding)")
print(f"layers 1 and 2 replicated: {replicated[0]:.2f}; merged weight minus base and both updates: {replicated[1]:.0e}")
sys.exit(0 if plain[0] < 1e-4 and replicated[0] > 0.01 and max(plain[1], replicated[1]) < 1e-5 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: every copy of a replicated layer gets the sum of their updates"
