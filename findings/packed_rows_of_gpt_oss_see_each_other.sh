#!/usr/bin/env bash
# Texts that are packed into one row see each other in gpt-oss, and in no other of the models that are tried here.
#
# transformers documents that texts may be packed into one row, with positions that begin at 0 again: without an attention
# mask it reads off the positions where a text begins, and keeps the texts apart. gpt-oss and AFMoE give their positions to
# the rotary embedding and not to the function that makes the mask. So the second text attends to the first, without a
# word: packed training (collators "without padding") mixes examples, and packed scoring gives other log-probabilities.
# Of gpt-oss it is reported as pull request 39997 of transformers.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, largest difference of the second text's logits to those of the text alone, as a share of the largest: Llama,
# Mistral, Mixtral, Gemma 2 and Qwen3-MoE less than .0001 (also where layers have a sliding window), gpt-oss and AFMoE more
# than .2. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2
)
SIZE |= dict(head_dim=8, max_position_embeddings=128, pad_token_id=0, sliding_window=6)
EXPERTS = dict(num_experts=4, num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
SOUND = {"llama": {}, "mistral": {}, "gemma2": {}, "mixtral": EXPERTS, "qwen3_moe": EXPERTS}
MIXED = {"gpt_oss": EXPERTS, "afmoe": EXPERTS | dict(n_group=1, topk_group=1)}


def apart(kind: str, more: dict) -> float:
    """How far the logits of a text that stands second in a row are from those of the text alone."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE, **more)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(4)  # random weights attend to everything alike
        first, second = torch.randint(3, 64, (2, 1, 20), generator=torch.Generator().manual_seed(1))
        positions = torch.arange(20).repeat(2)[None]
        packed = model(torch.cat([first, second], 1), position_ids=positions, use_cache=False).logits[:, 20:]
        alone = model(second, use_cache=False).logits
    return float((packed - alone).abs().max() / alone.abs().max())


found = {kind: apart(kind, more) for kind, more in (SOUND | MIXED).items()}
for kind, change in found.items():
    print(f"{kind}: {change:.4f} (right: 0)")
sys.exit(0 if all((found[kind] < 1e-4) if kind in SOUND else (found[kind] > 0.2) for kind in found) else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: packed texts see each other in gpt-oss and AFMoE"
