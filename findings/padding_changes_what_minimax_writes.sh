#!/usr/bin/env bash
# MiniMax models (MiniMax-Text-01, MiniMax-M1) write other tokens when a prompt is padded on the left, as in a batch.
#
# The first token is right and the rest are not. The length of the cache is read off the first layer, which is linear
# attention and keeps no keys, so it is always 0: at every later step the mask is made for one position and spread over
# all, and the attention layers see the padding. Without padding no mask is needed and nothing shows. A model whose
# first layer is full attention is right, which shows that the length is the cause.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, a prompt of 20 tokens behind 7 of padding, generate against a pass over the same text without padding, largest
# difference as a share of the largest logit: first token less than .0001, later tokens more than .01; with full
# attention first: less than .0001 throughout. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import MiniMaxConfig, MiniMaxForCausalLM

PADDING, PROMPT, NEW = 7, 20, 5
PUBLISHED, TURNED = ["linear_attention", "full_attention"], ["full_attention", "linear_attention"]
attention = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=2)
size = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, **attention)


def apart(layers: list[str], padding: int) -> list[float]:
    """Each new token's logits against one pass over the text without padding, as a share of the largest."""
    torch.manual_seed(0)
    config = MiniMaxConfig(**size, layer_types=layers * 2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    model = MiniMaxForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # livelier than the initial weights
    ids = torch.randint(3, 64, (1, PROMPT))
    padded = torch.cat([torch.zeros(1, padding, dtype=torch.long), ids], 1)
    mask = (torch.arange(padding + PROMPT) >= padding).long()[None]
    settings = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
    wanted = dict(return_dict_in_generate=True, output_logits=True)
    with torch.no_grad():
        written = model.generate(padded, attention_mask=mask, **settings, **wanted)
        right = model(written.sequences[:, padding:]).logits[0, PROMPT - 1 : -1]
    steps = zip(written.logits, right, strict=True)
    return [float((found[0] - due).abs().max() / due.abs().max()) for found, due in steps]


plain, padded, turned = apart(PUBLISHED, 0), apart(PUBLISHED, PADDING), apart(TURNED, PADDING)
for name, values in (("no padding", plain), ("padded", padded), ("padded, full attention first", turned)):
    print(f"{name}, new tokens 1 to {NEW}:", *(f"{value:.0e}" for value in values), "(right: rounding)")
sound = max(*plain, *turned, padded[0]) < 1e-4
sys.exit(0 if sound and min(padded[1:]) > 0.01 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: padding changes every token after the first"
