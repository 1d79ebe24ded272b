#!/usr/bin/env bash
# A Falcon model that is asked for its attention weights computes other logits: every position attends to later ones.
#
# `output_attentions=True` takes Falcon's attention off the fused kernel. The mask that was prepared for the kernel is
# boolean (True: may be seen), and the other path adds it to the scores: a position that may be seen gets 1, one that
# may not gets 0, and nothing is hidden. So the weights that are returned are not those of the model that generates, and
# the logits of the same call are of a model without causality. No warning is given. With `attn_implementation="eager"`
# both are right.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, a prompt of 20 tokens, weights as loaded by default: share of attention that falls on later positions 0.30 or
# more (right: 0); the logits of the first position change when later tokens change; with eager attention 0 and no
# change. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import FalconConfig, FalconForCausalLM

torch.manual_seed(0)
size = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
config = FalconConfig(**size, new_decoder_architecture=True, num_kv_heads=2)
model = FalconForCausalLM(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(10)  # livelier than the initial weights
first = torch.randint(0, 64, (1, 20))
second = first.clone()
second[0, 1:] = (second[0, 1:] + 1) % 64


def facts(model: FalconForCausalLM) -> tuple[float, float, float]:
    """Attention on later positions; how far later tokens move the first position's logits, asked with and without."""
    with torch.no_grad():
        asked = [model(ids, output_attentions=True) for ids in (first, second)]
        plain = [model(ids).logits[0, 0] for ids in (first, second)]
    later = torch.stack([torch.triu(layer[0], 1).sum(-1).mean() for layer in asked[0].attentions]).mean()
    moved = (asked[0].logits[0, 0] - asked[1].logits[0, 0]).abs().max()
    return float(later), float(moved), float((plain[0] - plain[1]).abs().max())


name = model.config._attn_implementation
later, moved, plain = facts(model)
print(f"{name}: attention on later positions {later:.2f} (right: 0)")
print(f"{name}: later tokens move the first position's logits by {moved:.3f} (right: 0)", end=" ")
print(f"and by {plain:.0e} where attention is not asked for")
eager = FalconForCausalLM._from_config(config, attn_implementation="eager").eval()
eager.load_state_dict(model.state_dict())
right = facts(eager)
print("eager: {:.2f}, {:.0e}, {:.0e}".format(*right))
sys.exit(0 if name == "sdpa" and later > 0.2 and moved > 0.01 and plain < 1e-5 and max(right) < 1e-5 else 1)
PY
"$work/venv/bin/python" "$work/look.py"
echo "as described: asking Falcon for attention weights removes its causal mask"
