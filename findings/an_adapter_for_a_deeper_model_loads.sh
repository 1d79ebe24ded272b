#!/usr/bin/env bash
# PeftModel.from_pretrained passes over an adapter's tensors that the base model has no place for, without a word.
#
# An adapter that was trained on a model of four layers loads onto one of two: half of what was trained is left out, and
# neither an error nor a warning says so. (The other way round, tensors that the adapter lacks, peft warns.) Loading the
# same adapter once more with `load_adapter` returns what was left over, in `unexpected_keys`.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen: 16 tensors in the adapter, 8 of them used, warnings about them: 0; load_adapter: 8 unexpected keys. Ends with 1 if
# that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "peft==0.21.2" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys
import warnings

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

folder = sys.argv[1]


def model(layers: int) -> LlamaForCausalLM:
    size = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2, num_key_value_heads=2)
    return LlamaForCausalLM(LlamaConfig(vocab_size=8, num_hidden_layers=layers, **size))


get_peft_model(model(4), LoraConfig(target_modules=["q_proj", "v_proj"])).save_pretrained(folder)
with safe_open(f"{folder}/adapter_model.safetensors", "pt") as file:
    stored = len(list(file.keys()))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    adapted = PeftModel.from_pretrained(model(2), folder)
told = [str(warning.message)[:80] for warning in said if "adapter" in str(warning.message).lower()]
used = sum("lora_" in name for name in adapted.state_dict())
left = len(adapted.load_adapter(folder, "default").unexpected_keys)
print(f"{stored} tensors in the adapter, {used} of them used, warnings about them: {len(told)}", *told)
print("load_adapter:", left, "unexpected keys")
sys.exit(0 if (stored, used, len(told), left) == (16, 8, 0, 8) else 1)
PY
"$work/venv/bin/python" "$work/look.py" "$work/adapter"
echo "as described: half of an adapter is left out without a word"
