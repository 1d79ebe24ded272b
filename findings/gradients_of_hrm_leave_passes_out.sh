#!/usr/bin/env bash
# Gradients of HRM-Text are not those of what it computes, in eval mode either.
#
# The model runs one stack of layers several times in each cycle. `L_bp_cycles` says in how many of these passes gradients
# flow, which saves memory in training; the documentation calls it "training-time" and without effect at inference. But all
# other passes are under `torch.no_grad()` whenever the model runs, and not only in training mode. Whoever takes a gradient of
# the finished model (saliency, gradient times input, integrated gradients, attribution patching, a search for a prompt or a
# steering vector) gets one that leaves paths out: the logits are right, and the change that the gradient predicts for a small
# step is not the change that the step makes. With as many gradient passes as passes in every cycle the logits are the same to
# the bit, and the gradients are right: set `model.config.L_bp_cycles` accordingly before the model is built. Nothing warns.
# Nothing was found on it upstream.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, eval mode, 8 random directions of the embeddings, gradient against the difference of two forward passes, as a share of
# the largest: Llama and HRM-Text with all passes less than .01; HRM-Text as it is by default more than .05. Logits of the two:
# equal. Ends with 1 if that is no longer so.
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

SIZE = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=8)
SIZE |= dict(num_key_value_heads=4, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2)
CYCLES = dict(H_cycles=2, L_cycles=3)
CASES = {"Llama": ("llama", {}), "HRM-Text": ("hrm_text", CYCLES)}
CASES["HRM-Text, all passes"] = ("hrm_text", CYCLES | dict(L_bp_cycles=[3, 3]))
ids = torch.randint(3, 64, (1, 12), generator=torch.Generator().manual_seed(5))
STEP = 1e-3


def facts(kind: str, more: dict) -> tuple[float, torch.Tensor]:
    """How far the gradient's predictions are from the changes, and the logits."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE, **more)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(3)
        given = model.get_input_embeddings()(ids)

    def score(embedded: torch.Tensor) -> torch.Tensor:
        return model(inputs_embeds=embedded, use_cache=False).logits[0, -1, 7]

    point = given.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(point), point)
    made = torch.Generator().manual_seed(1)
    said, seen = [], []
    with torch.no_grad():
        for _ in range(8):
            way = torch.randn(given.shape, dtype=given.dtype, generator=made) * given.std()
            said.append(float((gradient * way).sum()))
            seen.append(float(score(given + STEP * way) - score(given - STEP * way)) / (2 * STEP))
        logits = model(ids, use_cache=False).logits
    largest = max(abs(value) for value in seen)
    return max(abs(one - other) for one, other in zip(said, seen, strict=True)) / largest, logits


found = {name: facts(*case) for name, case in CASES.items()}
for name, (off, _) in found.items():
    print(f"{name}: gradient against differences {off:.4f} (right: 0)")
same = torch.equal(found["HRM-Text"][1], found["HRM-Text, all passes"][1])
print("HRM-Text, logits of the two equal:", same)
sound = max(found["Llama"][0], found["HRM-Text, all passes"][0]) < 0.01
sys.exit(0 if sound and same and found["HRM-Text"][0] > 0.05 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: gradients of HRM-Text leave passes out"
