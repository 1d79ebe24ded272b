#!/usr/bin/env bash
# Mamba and FalconMamba, one token at a time with a cache, go astray if they are given the usual mask of all tokens.
#
# With a cache the mask is as long as the text so far, for all models: it says which of the tokens before are padding.
# A loop that makes it longer by 1 at each step is right for Llama, and for Mamba2. In Mamba and FalconMamba the new
# token is multiplied by it, which makes as many copies of the token as the text is long. The answer is that of the
# first copy, so that the first step is right; the memory of the convolution is filled with the copies, and from the
# second step on every logit is of another text. The shape of the output stays the same, and nothing warns. `generate`
# is right, since it leaves the mask out after the prompt; so is a mask of the new token alone.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11, CPU (no mamba-ssm, no causal-conv1d).
# Seen, two texts of equal length without padding, 12 tokens and then 8 more, largest difference to one pass over all
# 20 as a share of the largest logit. Without a mask and with one of the new token: less than .0001 for all. With one
# of all tokens, which are all 1: less than .0001 for Llama and Mamba2; for Mamba and FalconMamba less than .0001 at
# the first step, more than .1 at all others. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import AutoModelForCausalLM, FalconMambaConfig, LlamaConfig, Mamba2Config, MambaConfig

PREFIX, WHOLE = 12, 20
size = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4)
CONFIGS = {
    "Llama": LlamaConfig(**size, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2),
    "Mamba2": Mamba2Config(**size, num_heads=8, head_dim=8, n_groups=1, state_size=8),
    "Mamba": MambaConfig(**size, state_size=8),
    "FalconMamba": FalconMambaConfig(**size, state_size=8),
}
MASKS = ("no mask", "mask of the new token", "mask of all tokens")


@torch.no_grad()
def apart(model, ids: torch.Tensor, kind: str) -> list[float]:
    """Each continued token's logits against those of one pass over the whole text."""
    right = model(ids).logits
    cache, found = model(ids[:, :PREFIX], use_cache=True).cache, []
    for place in range(PREFIX, WHOLE):
        length = {"no mask": None, "mask of the new token": 1, "mask of all tokens": place + 1}[kind]
        mask = None if length is None else torch.ones(len(ids), length, dtype=torch.long)
        step = model(ids[:, place : place + 1], attention_mask=mask, cache=cache, use_cache=True)
        cache = step.cache
        found.append(float((step.logits[:, 0] - right[:, place]).abs().max() / right.abs().max()))
    return found


sound, wrong = [], []
for name, config in CONFIGS.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(3, 64, (2, WHOLE))
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            if parameter.dim() > 1 and "A_log" not in label:
                parameter.mul_(4)  # livelier than the initial weights
    for kind in MASKS:
        if name == "Llama" and kind == "mask of the new token":
            continue  # says less than Llama needs
        values = apart(model, ids, kind)
        print(f"{name}, {kind}:", *(f"{value:.0e}" for value in values), "(right: rounding)")
        astray = name in ("Mamba", "FalconMamba") and kind == "mask of all tokens"
        sound += values[:1] if astray else values
        wrong += values[1:] if astray else []
sys.exit(0 if max(sound) < 1e-4 and min(wrong) > 0.1 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: a mask of the whole text fills the memory with copies"
