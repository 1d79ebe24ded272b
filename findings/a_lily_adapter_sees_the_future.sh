#!/usr/bin/env bash
# A language model with a Lily adapter of peft answers by what comes later in the text, and by the other texts of the
# batch.
#
# Lily mixes several B matrices by a router. The router reads every token, and then its shares are averaged over all
# tokens of all rows of the call, padding included, before they are used for each token. So in a causal model the first
# position's logits change with the last token, a text's loss depends on what it is batched with, and `generate`, which
# hands one token at a time to a cache, mixes other matrices than the pass over the whole text that was trained. LoRA
# in the same place does none of this. Nothing warns.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, largest difference of the logits as a share of the largest, LoRA less than .0001 in all, Lily more than .01 in
# all: first position after another last token; a row alone and beside another; beside padding that is masked; token by
# token with a cache and at once. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "peft==0.21.2" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from peft import LilyConfig, LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

size = dict(vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
PLACES = ["q_proj", "v_proj", "down_proj"]
CASES = ("another last token", "another row beside it", "padding on the left, masked", "one token at a time, cached")
ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
LENGTH = ids.shape[1]


def facts(made) -> list[float]:
    """How far the logits move in each case, of the positions that should stay as they are."""
    torch.manual_seed(0)
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=2)), made).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter))  # in place of training
        right = model(ids).logits
        changed = ids.clone()
        changed[0, -1] = 9
        later = model(changed).logits[:, :-1]
        beside = model(torch.cat([ids, ids + 8])).logits[:1]
        padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], 1)
        mask = (torch.arange(4 + LENGTH) >= 4).long()[None]
        places = (mask.cumsum(1) - 1).clamp(min=0)
        behind = model(padded, attention_mask=mask, position_ids=places).logits[:, 4:]
        cache, parts = None, []
        for place in range(LENGTH):
            step = model(ids[:, place : place + 1], cache=cache, use_cache=True)
            cache = step.cache
            parts.append(step.logits)
    found = (later, beside, behind, torch.cat(parts, 1))
    return [float((one - right[:, : one.shape[1]]).abs().max() / right.abs().max()) for one in found]


lora = facts(LoraConfig(r=4, target_modules=PLACES))
lily = facts(LilyConfig(r=4, stride_A=1, num_B=2, target_modules=PLACES))
for case, plain, mixed in zip(CASES, lora, lily, strict=True):
    print(f"{case}: LoRA {plain:.0e}, Lily {mixed:.0e} (right: rounding)")
sys.exit(0 if max(lora) < 1e-4 and min(lily) > 0.01 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: an update at one token depends on later tokens and other rows"
