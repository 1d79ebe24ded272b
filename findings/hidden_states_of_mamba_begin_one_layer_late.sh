#!/usr/bin/env bash
# `output_hidden_states=True`: of Mamba, Mamba2, FalconMamba and RWKV the first entry is the first block's output.
#
# For attention models entry 0 is the embedding, entry i the input of block i, and the last one the final norm's output;
# the documentation of the outputs says so for all of them. The four recurrent models give as many entries, one more
# than there are blocks, but entry i is the *output* of block i: the embedding is missing, and the last block's output
# is there before the norm and after it. A probe, a lens or a direction "of layer i" is of the layer after it, and
# comparing such a model with an attention model layer by layer is off by one.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, models of 4 blocks: 5 entries each; entry 0 is the embedding: Llama yes, the others no; entry 0 is the output of
# block 0: Llama no, the others yes. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import AutoModelForCausalLM, FalconMambaConfig, LlamaConfig, Mamba2Config, MambaConfig, RwkvConfig

size = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4)
CONFIGS = {
    "Llama": LlamaConfig(**size, intermediate_size=64, num_attention_heads=4),
    "Mamba": MambaConfig(**size, state_size=8),
    "Mamba2": Mamba2Config(**size, num_heads=8, head_dim=8, n_groups=1, state_size=8),
    "FalconMamba": FalconMambaConfig(**size, state_size=8),
    "RWKV": RwkvConfig(**size, attention_hidden_size=32),
}
ids = torch.tensor([[3, 1, 4, 1, 5]])
as_described = True
for name, config in CONFIGS.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    body = model.base_model
    outputs = []

    def keep(module, given, output, outputs=outputs):
        outputs.append((output[0] if isinstance(output, tuple) else output).clone())

    for block in body.blocks if name == "RWKV" else body.layers:
        block.register_forward_hook(keep)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
        embedding = torch.equal(states[0], model.get_input_embeddings()(ids))
    block = torch.equal(states[0], outputs[0])
    print(f"{name}: {len(outputs)} blocks, {len(states)} entries; entry 0 is the embedding: {embedding}, ", end="")
    print(f"the output of block 0: {block}")
    as_described &= (len(outputs), len(states)) == (4, 5) and (embedding, block) == (name == "Llama", name != "Llama")
sys.exit(0 if as_described else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: hidden states of recurrent models lack the embedding and are one layer late"
