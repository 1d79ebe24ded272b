#!/usr/bin/env bash
# RWKV of transformers, several texts in a batch: after the first token every row is written with the last row's
# memory.
#
# RWKV mixes each token with the one before, which a state keeps for every layer. Where one token is read with a state,
# the kept values, one a row, lack the axis of positions: added to the token's, they make a square of rows by rows
# instead of one vector a row. Nothing fails. The logits have as many positions as there are rows, and `generate` takes
# the last one: each row's next token is made with what the last row said before. So a batch of prompts, or
# `num_return_sequences` of one, is wrong from the second new token on (the prompts are of equal length, no padding). A
# single text is right, and several tokens at once with a state are right for a batch too.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11, CPU.
# Seen, three prompts of 8 tokens, 6 new ones, largest difference of each new token's logits to one pass over the text
# as a share of the largest: each alone less than .0001; as a batch less than .0001 for the first token, more than .01
# for the others. One token with a state gives logits of 3 x 3 positions; two tokens with a state less than .0001. Ends
# with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import RwkvConfig, RwkvForCausalLM

ROWS, PROMPT, NEW = 3, 8, 6
torch.manual_seed(0)
size = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4)
model = RwkvForCausalLM(RwkvConfig(**size, bos_token_id=1, eos_token_id=2, pad_token_id=0)).eval()
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "time" not in name:
            parameter.mul_(4)  # livelier than the initial weights
ids = torch.randint(3, 64, (ROWS, PROMPT))
settings = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
wanted = dict(return_dict_in_generate=True, output_logits=True)


def share(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


@torch.no_grad()
def apart(prompts: torch.Tensor) -> list[float]:
    """Each new token's logits against one pass over every text alone, the worst row."""
    written = model.generate(prompts, attention_mask=torch.ones_like(prompts), **settings, **wanted)
    right = [model(text[None]).logits[0, PROMPT - 1 : -1] for text in written.sequences]
    rows = range(len(prompts))
    return [max(share(step[row], right[row][at]) for row in rows) for at, step in enumerate(written.logits)]


alone = [max(values) for values in zip(*(apart(row[None]) for row in ids), strict=True)]
batch = apart(ids)
for name, values in (("alone", alone), ("as a batch", batch)):
    print(f"{name}, new tokens 1 to {NEW}:", *(f"{value:.0e}" for value in values), "(right: rounding)")
with torch.no_grad():
    right = torch.cat([model(row[None]).logits for row in ids])
    one = model(ids[:, -1:], state=model(ids[:, :-1], use_cache=True).state, use_cache=True).logits
    two = model(ids[:, -2:], state=model(ids[:, :-2], use_cache=True).state, use_cache=True).logits
    two = share(two, right[:, -2:])
print(f"one token with a state: logits of {one.shape[0]} rows x {one.shape[1]} positions (right: {ROWS} x 1)")
print(f"two tokens with a state: {two:.0e} (right: rounding)")
sound = max(*alone, batch[0], two) < 1e-4
sys.exit(0 if sound and min(batch[1:]) > 0.01 and one.shape[:2] == (ROWS, ROWS) else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: rows of a batch go on from the last one"
