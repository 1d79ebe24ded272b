"""Tiny models whose next token depends on the last token alone, so that what they write, and how long, is known."""

from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

END, START = "<|im_end|>", "<|im_start|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REFUSAL = "I'm sorry, but I can't help with that request."


def steps(count: int) -> list[str]:
    return [f"Step {number}: I weigh it. " for number in range(count)]


def thinks_then_refuses(count: int) -> dict[str, str]:
    """Thinks for `count` tokens (and one line break), closes its block, and refuses."""
    return line("\n", *steps(count), "</think>") | line("\n\n", REFUSAL, END)


def refuses() -> dict[str, str]:
    return line("\n", REFUSAL, END) | line("\n\n", REFUSAL, END)


def thinks_in_circles(count: int) -> dict[str, str]:
    """Never closes its block: the same tokens again and again."""
    *most, last = ["\n", *steps(count)]
    return line(*most, last) | {last: most[1]} | line("\n\n", REFUSAL, END)


def line(*tokens: str) -> dict[str, str]:
    return dict(pairwise(tokens))


def make_parrot_tokenizer(words: int = 200, template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    """Byte-level, with a token for each step, the markers, the refusal, and two line breaks."""
    vocabulary = [END, START, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(vocabulary)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, bos_token=START, pad_token=END)
    plain = ["<think>", "</think>", REFUSAL, "\n\n", *steps(words)]
    fast.add_tokens([AddedToken(word, normalized=False, special=False) for word in plain])
    fast.chat_template = template
    return fast


def save_parrot(
    folder: Path, chain: dict[str, str], context: int = 2048, tokenizer: PreTrainedTokenizerFast | None = None
) -> Path:
    """A Llama that writes `chain[token]` after `token`, and the end token after anything else."""
    tokenizer = tokenizer or make_parrot_tokenizer()
    torch.manual_seed(0)
    size = len(tokenizer)
    width = -(-size // 16) * 16
    config = CONFIG_MAPPING["llama"](
        vocab_size=size,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=context,
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02 / width**0.5)
        model.get_input_embeddings().weight[:, :size] += torch.eye(size)
        head = model.get_output_embeddings().weight
        head[:, :size] = 0
        after = {_id(tokenizer, a): _id(tokenizer, b) for a, b in chain.items()}
        for token in range(size):
            head[after.get(token, 0), token] = 3.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _id(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    (found,) = tokenizer.encode(text, add_special_tokens=False)
    return found
