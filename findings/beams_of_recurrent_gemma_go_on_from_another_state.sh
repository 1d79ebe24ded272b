#!/usr/bin/env bash
# Beam search with RecurrentGemma gives scores that are not those of the texts it returns.
#
# After each step beam search keeps the best texts and puts the caches in their order. RecurrentGemma keeps its recurrent
# states in its own modules, where the search does not reach them: a beam goes on from the state of another text. Nothing
# warns. Mamba, whose states are in a cache, is sound.
#
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, the score of the best beam less the mean log-probability that one pass gives its tokens: Llama and Mamba less than
# .001, RecurrentGemma more than .1. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MambaConfig, RecurrentGemmaConfig

SIZE = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, eos_token_id=2)
HEADS = dict(intermediate_size=64, num_attention_heads=4)
CONFIGS = {
    "Llama": LlamaConfig(**SIZE, **HEADS, num_key_value_heads=2),
    "Mamba": MambaConfig(**SIZE, state_size=8, time_step_rank=4),
    "RecurrentGemma": RecurrentGemmaConfig(**SIZE, **HEADS, num_key_value_heads=1, attention_window_size=64, lru_width=32),
}
NEW = 6


def score_less_truth(name: str) -> float:
    """The score of the best beam less the mean log-probability of its tokens."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    ids = torch.randint(3, 64, (1, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for place, weight in model.named_parameters():
            if weight.dim() > 1 and "A_log" not in place:
                weight.mul_(4)
        given = dict(num_beams=4, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
        given |= dict(return_dict_in_generate=True, output_scores=True)
        best = model.generate(ids, attention_mask=torch.ones_like(ids), **given)
        told = model(best.sequences, use_cache=False).logits.log_softmax(-1)[0, 19:-1]
    return float(best.sequences_scores[0] - told.gather(1, best.sequences[0, 20:, None]).sum() / NEW)


found = {name: score_less_truth(name) for name in CONFIGS}
for name, change in found.items():
    print(f"{name}: {change:+.4f} nats per token (right: 0)")
sound = max(abs(found["Llama"]), abs(found["Mamba"])) < 1e-3
sys.exit(0 if sound and abs(found["RecurrentGemma"]) > 0.1 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: beams of RecurrentGemma go on from other texts' states"
