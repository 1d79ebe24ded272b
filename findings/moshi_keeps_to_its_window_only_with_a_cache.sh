#!/usr/bin/env bash
# Moshi's text decoder sees its whole text in one pass, and only a window of it with a cache.
#
# `sliding_window` of MoshiConfig is documented as the window of its attention, 3,000 tokens by default. The cache is made
# with it and drops what is older. The mask of a pass without a cache is the plain causal one, and knows no window. So
# training, scoring and patching, which take a text in one pass, run another model than generation, as soon as the text is
# longer than the window: the log-probabilities that a text gets are not those that it was written with. A prompt is read
# without the window, too, and its end is kept. Nothing warns. Mistral, whose window is in the mask, agrees in all of this.
# Pull request 39251 of transformers discusses a test of Moshi that its cache of a window broke.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, a window of 6 and a text of 20, largest difference of the logits as a share of the largest. First 6 tokens: less than
# .0001 everywhere. Later ones, one pass and token by token: Moshi more than .1, Mistral less than .0001. Token by token and
# one pass with the window written out as a mask: less than .0001 for both. Text that generate wrote and one pass over it:
# Moshi more than .1. Ends with 1 if that is no longer so.
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

LENGTH, WINDOW = 20, 6
SIZE = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4, head_dim=8)
SIZE |= dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=128, sliding_window=WINDOW)
KINDS = {"moshi": dict(ffn_dim=64), "mistral": dict(intermediate_size=64)}
ids = torch.randint(3, 64, (1, LENGTH), generator=torch.Generator().manual_seed(5))
places = torch.arange(LENGTH)
back = places[:, None] - places[None]
window = torch.zeros(1, 1, LENGTH, LENGTH).masked_fill((back < 0) | (back >= WINDOW), float("-inf"))
settings = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False, return_dict_in_generate=True, output_logits=True)


def share(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


@torch.no_grad()
def facts(kind: str) -> tuple[float, ...]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE, **KINDS[kind])).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.mul_(3)  # random weights attend to everything alike
    whole, masked = model(ids, use_cache=False).logits, model(ids, attention_mask=window, use_cache=False).logits
    cache, parts = None, []
    for place in range(LENGTH):
        step = model(ids[:, place : place + 1], cache=cache, use_cache=True)
        cache = step.cache
        parts.append(step.logits)
    steps = torch.cat(parts, 1)
    written = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    again = model(written.sequences, use_cache=False).logits[:, LENGTH - 1 : -1]
    early, late = slice(0, WINDOW), slice(WINDOW, LENGTH)
    first, rest = share(whole[:, early], steps[:, early]), share(whole[:, late], steps[:, late])
    return first, rest, share(masked, steps), share(torch.stack(written.logits, 1), again)


NAMES = ("first 6 tokens, one pass and token by token", "later tokens, the same")
NAMES += ("one pass with the window as a mask, and token by token", "while writing, and one pass over what was written")
found = {kind: facts(kind) for kind in KINDS}
for kind, values in found.items():
    for name, value in zip(NAMES, values, strict=True):
        print(f"{kind}, {name}: {value:.0e} (right: rounding)")
moshi, mistral = found["moshi"], found["mistral"]
sound = max(*mistral, moshi[0], moshi[2]) < 1e-4
sys.exit(0 if sound and min(moshi[1], moshi[3]) > 0.1 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: one pass of Moshi has no window"
