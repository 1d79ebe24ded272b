#!/usr/bin/env bash
# model.to(torch.bfloat16) is not the model that from_pretrained(dtype=torch.bfloat16) gives: it also rounds the rotary
# frequencies, and so turns queries and keys by other angles the further the tokens are from the beginning.
#
# The frequencies are a buffer that is not saved, so both models have the same `state_dict()`, bit for bit, and nothing
# tells. Loading keeps them in float32. Their rounding is relative, and the angle is frequency times position: by position
# 1,000 it is wrong by up to 0.44 radians.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen: weights equal: True; frequencies float32 and bfloat16; at position 1000 the angle is 0.44 radians off; the logits
# differ. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

folder, position = sys.argv[1], 1000
torch.manual_seed(0)
size = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1)
LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=4096, **size)).save_pretrained(folder)
loaded = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
cast = LlamaForCausalLM.from_pretrained(folder).to(torch.bfloat16)
pairs = zip(loaded.state_dict().items(), cast.state_dict().items(), strict=True)
same = all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
frequencies = [model.model.rotary_emb.inv_freq for model in (loaded, cast)]
angle = float(((frequencies[0].float() - frequencies[1].float()).abs() * position).max())
ids = torch.randint(0, 64, (1, position))
with torch.no_grad():
    apart = float((loaded(ids).logits.float() - cast(ids).logits.float()).abs().max())
print("weights equal:", same, "| frequencies:", *(found.dtype for found in frequencies))
print(f"at position {position} the angle is {angle:.2f} radians off; largest difference of the logits: {apart:.5f}")
expected = [torch.float32, torch.bfloat16]
sys.exit(0 if same and [found.dtype for found in frequencies] == expected and angle > 0.1 and apart > 0 else 1)
PY
"$work/venv/bin/python" "$work/look.py" "$work/model"
echo "as described: a cast model turns its positions otherwise than a loaded one"
