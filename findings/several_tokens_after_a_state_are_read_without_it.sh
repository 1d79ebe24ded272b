#!/usr/bin/env bash
# Mamba, FalconMamba and Jamba read several tokens that follow a cache as if the text began with them.
#
# A prefix is read once and its cache is kept; a suffix of more than one token is then read with that cache, as is done
# to ask several questions about one text, or to put a closing marker behind a thought. Fed one token at a time the
# logits are those of the whole text. Fed at once they are not: the recurrent layers begin again from nothing, without
# an error or a warning. Jamba's attention layers do go on, so that its logits look sound. Mamba2, Zamba and Granite's
# hybrid get both ways right.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11, CPU (no mamba-ssm, no causal-conv1d).
# Seen, 12 tokens and then 8 more, largest difference to one pass over all 20, as a share of the largest logit: one at a
# time less than .0001 for all; at once more than .5 for Mamba and FalconMamba, more than .005 for Jamba, and less than
# .0001 for Mamba2. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import AutoModelForCausalLM, FalconMambaConfig, JambaConfig, Mamba2Config, MambaConfig

size = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4)
attention = dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, attn_layer_period=2)
jamba = dict(attn_layer_offset=1, num_experts=2, num_experts_per_tok=1, mamba_d_state=8, use_mamba_kernels=False)
CONFIGS = {
    "Mamba": MambaConfig(**size, state_size=8),
    "FalconMamba": FalconMambaConfig(**size, state_size=8),
    "Jamba": JambaConfig(**size, **attention, **jamba, mamba_dt_rank=4, pad_token_id=0),
    "Mamba2": Mamba2Config(**size, num_heads=8, head_dim=8, n_groups=1, state_size=8),
}
LARGE = {"Mamba": 0.5, "FalconMamba": 0.5, "Jamba": 0.005}
PREFIX, WHOLE = 12, 20


def apart(model, ids: torch.Tensor, step: int) -> float:
    """The continued logits against those of one pass, as a share of the largest."""
    right = model(ids).logits[:, PREFIX:]
    cache = model(ids[:, :PREFIX], use_cache=True).cache
    parts = [ids[:, start : start + step] for start in range(PREFIX, WHOLE, step)]
    found = torch.cat([model(part, cache=cache, use_cache=True).logits for part in parts], 1)
    return float((found - right).abs().max() / right.abs().max())


as_described = True
for name, config in CONFIGS.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(1, 64, (1, WHOLE))
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            if parameter.dim() > 1 and "A_log" not in label:
                parameter.mul_(4)  # livelier than the initial weights
        one, several = apart(model, ids, 1), apart(model, ids, WHOLE - PREFIX)
    print(f"{name}: one token at a time {one:.0e}, all at once {several:.0e} (right: rounding)")
    as_described &= one < 1e-4 and (several > LARGE[name] if name in LARGE else several < 1e-4)
sys.exit(0 if as_described else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: the state before is dropped where several tokens follow"
