#!/usr/bin/env bash
# An activated LoRA (aLoRA of peft) generates other tokens with use_cache=False than with a cache.
#
# The adapter is on from its invocation tokens to the end of the text. In `generate` their place is found once, in the
# prompt, as a distance from the end, and is not counted on as the text grows. With a cache each step hands over one
# token, which is within that distance. Without one (`use_cache=False`, or `model.config.use_cache = False` as set for
# checkpointed training) the whole text is handed over, and the adapted part is a window as long as the first step's
# that moves on with the text: the invocation and the prompt's end are read by the base model again. The first token is
# right, the rest are not. In a plain pass that goes on after a cache the adapter is off altogether, since the
# invocation is not among the new tokens. Nothing warns. LoRA is right in all of this.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, 8 new tokens, largest difference of each one's logits to one pass over the whole text, as a share of the largest:
# LoRA less than .0001; aLoRA with a cache less than .0001, without one less than .0001 for the first token and more than
# .01 for the others; the two write other tokens. A pass after a cache: LoRA less than .0001, aLoRA more than .01, and
# its first layer's update is 0. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "peft==0.21.2" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

size = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
special = dict(bos_token_id=None, eos_token_id=None, pad_token_id=0)
NEW, PROMPT = 8, torch.tensor([[9, 8, 7, 5, 6, 11, 12]])
INVOCATION = [5, 6]
settings = dict(max_new_tokens=NEW, do_sample=False, return_dict_in_generate=True, output_logits=True)


def share(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


@torch.no_grad()
def facts(invocation: list[int] | None) -> dict:
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**size, **special, num_key_value_heads=2))
    for parameter in base.parameters():
        if parameter.dim() > 1:
            parameter.mul_(8)  # livelier than the initial weights
    places = dict(target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    made = LoraConfig(r=4, init_lora_weights=False, alora_invocation_tokens=invocation, **places)
    model = get_peft_model(base, made).eval()
    found, written = {}, {}
    for name, cached in (("cache", True), ("no cache", False)):
        out = model.generate(input_ids=PROMPT, use_cache=cached, **settings)
        right = model(input_ids=out.sequences).logits[0, PROMPT.shape[1] - 1 : -1]
        found[name] = [share(step[0], due) for step, due in zip(out.logits, right, strict=True)]
        written[name] = out.sequences[0, PROMPT.shape[1] :].tolist()
    text = torch.cat([PROMPT, torch.tensor([written["cache"]])], 1)
    kept = model(input_ids=PROMPT, use_cache=True).cache
    update = []
    layer = model.base_model.model.model.layers[0].self_attn.v_proj
    handle = layer.register_forward_hook(lambda layer, x, y: update.append((y - layer.base_layer(x[0])).abs().max()))
    after = model(input_ids=text[:, PROMPT.shape[1] :], cache=kept).logits
    handle.remove()
    found["after a cache"] = [share(after, model(input_ids=text).logits[:, PROMPT.shape[1] :])]
    return {"found": found, "written": written, "update": float(update[0])}


lora, alora = facts(None), facts(INVOCATION)
for kind, fact in (("LoRA", lora), ("aLoRA", alora)):
    for name, values in fact["found"].items():
        print(f"{kind}, {name}:", *(f"{value:.0e}" for value in values), "(right: rounding)")
    for name, tokens in fact["written"].items():
        print(f"{kind}, {name}, writes", *tokens)
    print(f"{kind}, update of the first layer in a pass after a cache: {fact['update']:.2f}")
plain, activated = lora["found"], alora["found"]
sound = max(*plain["cache"], *plain["no cache"], *plain["after a cache"], *activated["cache"], activated["no cache"][0])
wrong = min(*activated["no cache"][1:], *activated["after a cache"])
sound = sound < 1e-4 and lora["written"]["cache"] == lora["written"]["no cache"] and lora["update"] > 0
other = alora["written"]["cache"] != alora["written"]["no cache"] and alora["update"] == 0
sys.exit(0 if sound and wrong > 0.01 and other else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: without a cache an activated adapter slides away from its invocation"
