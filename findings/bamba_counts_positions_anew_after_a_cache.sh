#!/usr/bin/env bash
# Bamba counts positions from 0 again when it is called with a cache and without `position_ids`.
#
# Other models take the number of cached tokens into account, so that `model(next_tokens, cache=cache)` continues a
# text. Bamba's default positions are 0, 1, ... at each call: its rotary attention layers place the new tokens at the
# beginning, while its recurrent layers go on. The logits are wrong by some per cent, and generate, which passes
# positions, is right: a hand-written loop (steering, forced continuation, scoring of a suffix) and generate disagree
# without an error.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, 12 tokens and then 8 more one at a time, largest difference to one pass over all 20 as a share of the largest
# logit: more than .005 without positions, less than .0001 with them; for FalconH1, also a hybrid, less than .0001 in
# both. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import AutoModelForCausalLM, BambaConfig, FalconH1Config

size = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4)
size |= dict(num_attention_heads=4, num_key_value_heads=2)
size |= dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8)
CONFIGS = {
    "Bamba": BambaConfig(**size, attn_layer_indices=[1, 3]),
    "FalconH1": FalconH1Config(**size, head_dim=8, mamba_d_ssm=64),
}
PREFIX, WHOLE = 12, 20


def apart(model, ids: torch.Tensor, positions: bool) -> float:
    """The continued logits against those of one pass, as a share of the largest."""
    right = model(ids).logits[:, PREFIX:]
    cache = model(ids[:, :PREFIX], use_cache=True).cache
    found = []
    for place in range(PREFIX, WHOLE):
        given = {"position_ids": torch.tensor([[place]])} if positions else {}
        found.append(model(ids[:, place : place + 1], cache=cache, use_cache=True, **given).logits)
    return float((torch.cat(found, 1) - right).abs().max() / right.abs().max())


seen = {}
for name, config in CONFIGS.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(1, 64, (1, WHOLE))
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            if parameter.dim() > 1 and "A_log" not in label:
                parameter.mul_(4)  # livelier than the initial weights
        seen[name] = apart(model, ids, False), apart(model, ids, True)
    print("{}: without positions {:.0e}, with them {:.0e} (right: rounding)".format(name, *seen[name]))
sys.exit(0 if seen["Bamba"][0] > 0.005 and max(seen["Bamba"][1], *seen["FalconH1"]) < 1e-4 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: Bamba's positions begin anew after a cache"
