#!/usr/bin/env bash
# TransformerBridge.boot_transformers(hf_model=model) does not read the model it is given: it rebuilds it in place.
#
# A caller who hands over a loaded Hugging Face model and goes on using it has another one afterwards:
#   - its attention is "eager" where it was "sdpa", which takes memory that grows with the square of the length;
#   - its modules are replaced, so that `state_dict()` has other names, and names that were not there (a bias of the head);
#   - `model.save_pretrained` raises, because the same tensor now stands under several names.
# Its outputs stay the same to rounding, so nothing tells.
#
# Versions: transformer-lens 4.3.0, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen: attention sdpa -> eager; LlamaAttention -> PositionEmbeddingsAttentionBridge; 12 names of weights before, none of
# them afterwards; save_pretrained: RuntimeError on shared tensors. Ends with 1 if any of that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "transformer-lens==4.3.0" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
words = Tokenizer(models.WordLevel({"<eos>": 0, "a": 1, "b": 2, "c": 3}, unk_token="<eos>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", unk_token="<eos>").save_pretrained(folder)
size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
LlamaForCausalLM(LlamaConfig(vocab_size=4, **size)).save_pretrained(folder)
model = LlamaForCausalLM.from_pretrained(folder)


def facts():
    attention = type(model.model.layers[0].self_attn).__name__
    return model.config._attn_implementation, attention, set(model.state_dict())


ids = torch.tensor([[1, 2, 3]])
before, logits = facts(), model(ids).logits
TransformerBridge.boot_transformers(
    str(folder), hf_model=model, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu"
)
after = facts()
print("attention:", before[0], "->", after[0], "|", before[1], "->", after[1])
print("names kept:", len(before[2] & after[2]), "of", len(before[2]))
print("largest difference of the logits:", float((model(ids).logits - logits).abs().max()))
try:
    model.save_pretrained(folder / "saved")
    saved = "saved"
except RuntimeError as error:
    saved = f"RuntimeError: {str(error)[:60]}"
print("save_pretrained:", saved)
expected = before[0] == "sdpa" and after[0] == "eager" and not before[2] & after[2] and saved.startswith("RuntimeError")
sys.exit(0 if expected else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" "$work"
echo "as described: the given model is rebuilt in place"
