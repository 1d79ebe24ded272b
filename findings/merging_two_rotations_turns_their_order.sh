#!/usr/bin/env bash
# Merging two active OFT adapters of peft gives another model than the one that ran with both.
#
# OFT turns a layer's input, and rotations do not commute. With adapters "one" and "two" active the input is turned by
# "one" and then by "two". Merging in the same order multiplies the weights so that the input is turned by "two" first.
# `merge_adapter` and `merge_and_unload` do so without a word, and the merged model answers like a model. With one
# adapter merging is exact, and so it is with two that are named in reverse order. Two BOFT adapters merge exactly.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, largest difference of the logits before and after merging as a share of the largest: one OFT adapter, two BOFT
# adapters, and two OFT adapters in reverse order less than .0001; two OFT adapters in their own order more than .01. The
# merged weight is W times the product of the rotations in the wrong order. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "peft==0.21.2" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from peft import BOFTConfig, OFTConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

size = dict(vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
PLACES = ["q_proj", "v_proj", "down_proj"]
OFT = OFTConfig(oft_block_size=4, use_cayley_neumann=False, target_modules=PLACES)
BOFT = BOFTConfig(boft_block_size=4, target_modules=PLACES)


def adapted(made, names: list[str]):
    """A model with adapters of these names, all active in this order."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=2))
    model = get_peft_model(base, made, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, made)
    model.base_model.set_adapter(names)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5 * torch.randn_like(parameter))  # in place of training
    return model.eval()


@torch.no_grad()
def apart(made, names: list[str], order: list[str]) -> float:
    model = adapted(made, names)
    right = model(ids).logits
    merged = model.merge_and_unload(adapter_names=order).eval()(ids).logits
    return float((merged - right).abs().max() / right.abs().max())


BOTH = ["one", "two"]
one, boft = apart(OFT, BOTH[:1], BOTH[:1]), apart(BOFT, BOTH, BOTH)
two, reverse = apart(OFT, BOTH, BOTH), apart(OFT, BOTH, BOTH[::-1])
print(f"one OFT adapter: merging moves the logits by {one:.0e}, two BOFT adapters: {boft:.0e} (right: rounding)")
print(f"two OFT adapters: {two:.2f}, two named in reverse order: {reverse:.0e} (right: rounding for their own order)")

model = adapted(OFT, BOTH)
layer = model.base_model.model.model.layers[0].self_attn.q_proj
with torch.no_grad():
    first, second = (layer.oft_R[name](torch.eye(16)) for name in BOTH)  # row vectors times these are turned
    weight, x = layer.base_layer.weight.clone(), torch.randn(3, 16)
    ran = layer(x) - x @ first @ second @ weight.T
    model.merge_adapter()
    merged, turned = layer(x) - x @ first @ second @ weight.T, layer(x) - x @ second @ first @ weight.T
print("a layer less the input turned by one, then two: running", f"{float(ran.abs().max()):.0e}", end=", ")
print(f"merged {float(merged.abs().max()):.2f}; merged less by two, then one: {float(turned.abs().max()):.0e}")
exact = max(one, boft, reverse, float(ran.abs().max()), float(turned.abs().max()))
sys.exit(0 if exact < 1e-4 and min(two, float(merged.abs().max())) > 0.01 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: two rotations are merged in the wrong order"
