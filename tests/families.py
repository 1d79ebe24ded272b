"""Chat templates of model families, as small as shows how each begins, ends and switches thinking; and what should be
read off each. Written for these tests: none is a copy, and system prompts are shortened to the words that matter.

`tail` is what stands after the user's words in each think mode, as the model reads it: in mode `none` the template's
own prompt, in `off` up to where the answer begins, in `own` up to where the thinking begins.
"""

from dataclasses import dataclass, field

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Family:
    """One template: what it is of, the tokens that its vocabulary adds, and what should be read off it.

    `variant` says which sides it is of: an `instruct` model, a `reasoning` model, or `both` by a switch.
    `falls_back` says, in words for the documentation, what is done where something cannot be read off.
    """

    name: str
    models: str
    variant: str
    template: str
    tokens: tuple[str, ...] = ()
    opening: str
    closing: str
    source: str
    switch: str = ""
    tail: dict[str, str] = field(default_factory=dict)
    falls_back: str = ""


def chatml(end: str, middle: str = "", default_system: str = "") -> str:
    """Turns as most families write them; `end` is the generation prompt after the header."""
    system = (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + default_system + "<|im_end|>\n{% endif %}"
        if default_system
        else ""
    )
    return (
        system + "{% for m in messages %}" + middle + "<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and m['reasoning_content'] is defined %}"
        "<think>\n{{ m['reasoning_content'] }}\n</think>\n\n{% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + end + "{% endif %}"
    )


PLAIN_CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINK = ("<think>", "</think>")
HEAD = "<|im_end|>\n<|im_start|>assistant\n"
BLOCK = "<think>\n\n</think>\n\n"

FAMILIES = (
    Family(
        name="plain ChatML",
        models="Qwen2.5-Instruct, SmolLM2-Instruct",
        variant="instruct",
        template=PLAIN_CHATML,
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="assumed",
        tail={"none": HEAD, "off": HEAD + BLOCK, "own": HEAD + "<think>\n"},
        falls_back="nothing says how it thinks: `<think>` is tried, and given up where no answer closes its block",
    ),
    Family(
        name="Qwen3",
        models="Qwen3 (hybrid)",
        variant="both",
        template=chatml("{% if enable_thinking is defined and enable_thinking is false %}" + BLOCK + "{% endif %}"),
        tokens=THINK,
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        switch="enable_thinking",
        tail={"none": HEAD, "off": HEAD + BLOCK, "own": HEAD + "<think>\n"},
    ),
    Family(
        name="Qwen3-Thinking",
        models="Qwen3-Thinking-2507, Qwen3-VL-Thinking, QwQ-32B",
        variant="reasoning",
        template=chatml("<think>\n"),
        tokens=THINK,
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        tail={"none": HEAD + "<think>\n", "off": HEAD + BLOCK, "own": HEAD + "<think>\n"},
    ),
    Family(
        name="Qwen3.5, off by default",
        models="Qwen3.5 (small)",
        variant="both",
        template=chatml(
            "{% if enable_thinking is defined and enable_thinking is true %}<think>\n{% else %}" + BLOCK + "{% endif %}"
        ),
        tokens=THINK,
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        switch="enable_thinking",
        tail={"none": HEAD + BLOCK, "off": HEAD + BLOCK, "own": HEAD + "<think>\n"},
    ),
    Family(
        name="DeepSeek-R1",
        models="DeepSeek-R1 and its distillations",
        variant="reasoning",
        template=(
            "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == 'user' %}"
            "<｜User｜>{{ m['content'] }}{% else %}<｜Assistant｜>{{ m['content'].split('</think>')[-1] }}"
            "<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
        ),
        tokens=("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", *THINK),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        tail={
            "none": "<｜Assistant｜><think>\n",
            "off": "<｜Assistant｜>" + BLOCK,
            "own": "<｜Assistant｜><think>\n",
        },
    ),
    Family(
        name="DeepSeek-V3.1",
        models="DeepSeek-V3.1 and later",
        variant="both",
        template=(
            "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
            "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == 'user' %}"
            "<｜User｜>{{ m['content'] }}{% else %}<｜Assistant｜></think>{{ m['content'] }}<｜end▁of▁sentence｜>"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>"
            "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
        ),
        tokens=("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", *THINK),
        opening="<think>",
        closing="</think>",
        source="template",
        switch="thinking",
        tail={"none": "<｜Assistant｜></think>", "off": "<｜Assistant｜></think>", "own": "<｜Assistant｜><think>"},
    ),
    Family(
        name="SmolLM3",
        models="SmolLM3",
        variant="both",
        template=(
            "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
            "{% set said = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
            "{% if '/no_think' in said %}{% set enable_thinking = false %}"
            "{% elif '/think' in said %}{% set enable_thinking = true %}{% endif %}"
            "<|im_start|>system\nReasoning Mode: {{ '/think' if enable_thinking else '/no_think' }}\n"
            "{{ said.replace('/no_think', '').replace('/think', '') }}<|im_end|>\n"
            "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
            "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
            "{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}{% endif %}"
        ),
        tokens=THINK,
        opening="<think>\n",
        closing="\n</think>\n",
        source="template",
        switch="enable_thinking",
        tail={"none": HEAD, "off": HEAD + "<think>\n\n</think>\n", "own": HEAD + "<think>\n"},
    ),
    Family(
        name="Nemotron, switched in the system message",
        models="Llama-3.1 and 3.3 Nemotron (Nano, Super, Ultra)",
        variant="both",
        template=(
            "{% set said = messages[0]['content'] if messages[0]['role'] == 'system' else 'detailed thinking off' %}"
            "<|start_header_id|>system<|end_header_id|>\n\n{{ said }}<|eot_id|>"
            "{% for m in messages %}{% if m['role'] != 'system' %}"
            "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
            "{{ m['content'].split('</think>')[-1] }}<|eot_id|>{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
        ),
        tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        switch="system",
        tail={
            mode: "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" + opened
            for mode, opened in (("none", ""), ("off", ""), ("own", "<think>\n"))
        },
    ),
    Family(
        name="Nemotron Nano 2",
        models="Nemotron Nano 9B and 12B v2",
        variant="both",
        template=(
            "{% set ns = namespace(on=true) %}{% for m in messages %}"
            "{% if '/no_think' in m['content'] %}{% set ns.on = false %}"
            "{% elif '/think' in m['content'] %}{% set ns.on = true %}{% endif %}{% endfor %}"
            "<SPECIAL_10>System\n{% if messages[0]['role'] == 'system' %}"
            "{{ messages[0]['content'].replace('/no_think', '').replace('/think', '') }}{% endif %}\n"
            "{% for m in messages %}{% if m['role'] == 'user' %}<SPECIAL_11>User\n{{ m['content'] }}\n"
            "{% elif m['role'] == 'assistant' %}<SPECIAL_11>Assistant\n{{ m['content'].split('</think>')[-1] }}\n"
            "<SPECIAL_12>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<SPECIAL_11>Assistant\n"
            "{% if ns.on %}<think>\n{% else %}<think></think>{% endif %}{% endif %}"
        ),
        tokens=("<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        switch="system",
        tail={
            "none": "\n<SPECIAL_11>Assistant\n<think>\n",
            "off": "\n<SPECIAL_11>Assistant\n<think></think>",
            "own": "\n<SPECIAL_11>Assistant\n<think>\n",
        },
    ),
    Family(
        name="OpenThinker",
        models="OpenThinker, Bespoke-Stratos, Sky-T1",
        variant="reasoning",
        template=PLAIN_CHATML.replace(
            "You help.",
            "Write your thoughts as <|begin_of_thought|> thoughts <|end_of_thought|>, then the solution as "
            "<|begin_of_solution|> solution <|end_of_solution|>.",
        ),
        opening="<|begin_of_thought|>\n",
        closing="\n<|end_of_thought|>\n\n",
        source="template",
        tail={
            "none": HEAD,
            "off": HEAD + "<|begin_of_thought|>\n\n<|end_of_thought|>\n\n",
            "own": HEAD + "<|begin_of_thought|>\n",
        },
    ),
    Family(
        name="Magistral",
        models="Magistral, Ministral 3 Reasoning",
        variant="reasoning",
        template=(
            "{% if messages[0]['role'] != 'system' %}[SYSTEM_PROMPT]First think: [THINK]thoughts[/THINK]"
            "[/SYSTEM_PROMPT]{% endif %}{% for m in messages %}{% if m['role'] == 'system' %}[SYSTEM_PROMPT]"
            "{{ m['content'] }}[/SYSTEM_PROMPT]{% elif m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
            "{% elif m['content'] is string %}{{ m['content'] }}</s>{% else %}{% for part in m['content'] %}"
            "{% if part['type'] == 'thinking' %}[THINK]{{ part['thinking'] }}[/THINK]{% else %}{{ part['text'] }}"
            "{% endif %}{% endfor %}</s>{% endif %}{% endfor %}"
        ),
        tokens=("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "[THINK]", "[/THINK]", "</s>"),
        opening="[THINK]",
        closing="[/THINK]",
        source="template",
        tail={"none": "[/INST]", "off": "[/INST][THINK][/THINK]", "own": "[/INST][THINK]"},
    ),
    Family(
        name="Mistral instruct",
        models="Mistral Small, Ministral 3 Instruct",
        variant="instruct",
        template=(
            "{% for m in messages %}{% if m['role'] == 'system' %}[SYSTEM_PROMPT]{{ m['content'] }}[/SYSTEM_PROMPT]"
            "{% elif m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]{% else %}{{ m['content'] }}</s>{% endif %}"
            "{% endfor %}"
        ),
        tokens=("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "[THINK]", "[/THINK]", "</s>"),
        opening="[THINK]",
        closing="[/THINK]",
        source="tokenizer",
        tail={"none": "[/INST]", "off": "[/INST][THINK][/THINK]", "own": "[/INST][THINK]"},
    ),
    Family(
        name="harmony",
        models="gpt-oss",
        variant="reasoning",
        template=(
            "<|start|>system<|message|>Reasoning: "
            "{{ reasoning_effort if reasoning_effort is defined else 'medium' }}\n"
            "Valid channels: analysis, commentary, final.<|end|>{% for m in messages %}{% if m['role'] == 'system' %}"
            "<|start|>developer<|message|>{{ m['content'] }}<|end|>{% elif m['role'] == 'user' %}<|start|>user"
            "<|message|>{{ m['content'] }}<|end|>{% else %}{% if m['thinking'] is defined %}<|start|>assistant"
            "<|channel|>analysis<|message|>{{ m['thinking'] }}<|end|>{% endif %}<|start|>assistant<|channel|>final"
            "<|message|>{{ m['content'] }}<|return|>{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
        ),
        tokens=("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
        opening="<|channel|>analysis<|message|>",
        closing="<|end|><|start|>assistant<|channel|>final<|message|>",
        source="template",
        tail={
            "none": "<|end|><|start|>assistant",
            "off": "<|end|><|start|>assistant<|channel|>analysis<|message|>"
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            "own": "<|end|><|start|>assistant<|channel|>analysis<|message|>",
        },
    ),
    Family(
        name="Gemma 4",
        models="Gemma 4",
        variant="both",
        template=(
            "{% set on = enable_thinking is defined and enable_thinking %}"
            "{% if on or messages[0]['role'] == 'system' %}<|turn>system\n{% if on %}<|think|>{% endif %}"
            "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}<turn|>\n{% endif %}"
            "{% for m in messages %}{% if m['role'] != 'system' %}<|turn>{{ 'model' if m['role'] == 'assistant' else "
            "m['role'] }}\n{{ m['content'] }}<turn|>\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|turn>model\n{% if not on %}<|channel>thought\n<channel|>"
            "{% endif %}{% endif %}"
        ),
        tokens=("<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>"),
        opening="<|channel>thought\n",
        closing="<channel|>",
        source="template",
        switch="enable_thinking",
        tail={
            "none": "<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
            "off": "<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
            "own": "<turn|>\n<|turn>model\n<|channel>thought\n",
        },
    ),
    Family(
        name="Seed-OSS",
        models="Seed-OSS",
        variant="both",
        template=(
            "{% if thinking_budget is defined %}<seed:bos>system\nYou may think for "
            "{{ thinking_budget }} tokens.<seed:eos>"
            "{% endif %}{% for m in messages %}<seed:bos>{{ m['role'] }}\n"
            "{% if m['reasoning_content'] is defined %}<seed:think>{{ m['reasoning_content'] }}"
            "</seed:think>{% endif %}{{ m['content'] }}<seed:eos>{% endfor %}{% if add_generation_prompt %}<seed:bos>"
            "assistant\n{% endif %}"
        ),
        tokens=("<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>"),
        opening="<seed:think>",
        closing="</seed:think>",
        source="template",
        falls_back="a number is no switch: off is an empty block; `--template-args` sets the number",
        tail={
            "none": "<seed:eos><seed:bos>assistant\n",
            "off": "<seed:eos><seed:bos>assistant\n<seed:think></seed:think>",
            "own": "<seed:eos><seed:bos>assistant\n<seed:think>",
        },
    ),
    Family(
        name="EXAONE Deep",
        models="EXAONE-Deep",
        variant="reasoning",
        template=(
            "{% for m in messages %}[|{{ m['role'] }}|]{{ m['content'].split('</thought>')[-1] }}[|endofturn|]\n"
            "{% endfor %}{% if add_generation_prompt %}[|assistant|]<thought>\n{% endif %}"
        ),
        tokens=("[|user|]", "[|assistant|]", "[|endofturn|]", "<thought>", "</thought>"),
        opening="<thought>\n",
        closing="\n</thought>\n\n",
        source="template",
        tail={
            "none": "[|endofturn|]\n[|assistant|]<thought>\n",
            "off": "[|endofturn|]\n[|assistant|]<thought>\n\n</thought>\n\n",
            "own": "[|endofturn|]\n[|assistant|]<thought>\n",
        },
    ),
    Family(
        name="EXAONE 4",
        models="EXAONE 4",
        variant="both",
        template=(
            "{% for m in messages %}[|{{ m['role'] }}|]\n{{ m['content'] }}[|endofturn|]\n{% endfor %}"
            "{% if add_generation_prompt %}[|assistant|]\n"
            "{% if enable_thinking is defined and enable_thinking is true %}<think>\n"
            "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
        ),
        tokens=("[|user|]", "[|assistant|]", "[|endofturn|]", *THINK),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        switch="enable_thinking",
        tail={
            "none": "[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\n",
            "off": "[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\n",
            "own": "[|endofturn|]\n[|assistant|]\n<think>\n",
        },
    ),
    Family(
        name="Granite 3.2",
        models="Granite 3.2",
        variant="both",
        template=(
            "<|start_of_role|>system<|end_of_role|>You are Granite.{% if thinking is defined and thinking %} Write "
            "your thoughts after 'Here is my thought process:' and your answer after 'Here is my response:'."
            "{% endif %}"
            "<|end_of_text|>\n{% for m in messages %}<|start_of_role|>{{ m['role'] }}<|end_of_role|>"
            "{{ m['content'] }}"
            "<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>"
            "{% endif %}"
        ),
        tokens=("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        opening="Here is my thought process:",
        closing="Here is my response:",
        source="template",
        switch="thinking",
        tail={
            mode: "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>" + opened
            for mode, opened in (("none", ""), ("off", ""), ("own", "Here is my thought process:"))
        },
    ),
    Family(
        name="Granite 3.3",
        models="Granite 3.3",
        variant="both",
        template=(
            "<|start_of_role|>system<|end_of_role|>You are Granite.{% if thinking is defined and thinking %} Write "
            "your thoughts between <think></think> and your answer between <response></response>.{% endif %}"
            "<|end_of_text|>\n{% for m in messages %}<|start_of_role|>{{ m['role'] }}<|end_of_role|>"
            "{{ m['content'] }}"
            "<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>"
            "{% endif %}"
        ),
        tokens=("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        switch="thinking",
        tail={
            mode: "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>" + opened
            for mode, opened in (("none", ""), ("off", ""), ("own", "<think>\n"))
        },
    ),
    Family(
        name="Kimi thinking",
        models="Kimi-VL-Thinking",
        variant="reasoning",
        template=(
            "{% for m in messages %}<|im_{{ m['role'] }}|>{{ m['role'] }}<|im_middle|>"
            "{{ m['content'].split('◁/think▷')[-1] }}<|im_end|>{% endfor %}"
            "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}"
        ),
        tokens=("<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "◁think▷", "◁/think▷"),
        opening="◁think▷",
        closing="◁/think▷",
        source="template",
        tail={
            "none": "<|im_end|><|im_assistant|>assistant<|im_middle|>",
            "off": "<|im_end|><|im_assistant|>assistant<|im_middle|>◁think▷◁/think▷",
            "own": "<|im_end|><|im_assistant|>assistant<|im_middle|>◁think▷",
        },
    ),
    Family(
        name="GLM-4.5",
        models="GLM-4.5 and later",
        variant="both",
        template=(
            "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>\n{{ m['content'] }}"
            "{{ '/nothink' if enable_thinking is defined and not enable_thinking else '' }}{% elif m['role'] == "
            "'assistant' %}<|assistant|>{{ '\n' }}<think>{{ m['reasoning_content'] }}</think>\n{{ m['content'] }}"
            "{% else %}"
            "<|system|>\n{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>"
            "{% if enable_thinking is defined and not enable_thinking %}{{ '\n<think></think>' }}{% endif %}"
            "{% endif %}"
        ),
        tokens=("<|user|>", "<|assistant|>", "<|system|>", *THINK, "/nothink"),
        opening="\n<think>",
        closing="</think>\n",
        source="template",
        switch="enable_thinking",
        tail={
            "none": "<|assistant|>",
            "off": "/nothink<|assistant|>\n<think></think>",
            "own": "<|assistant|>\n<think>",
        },
    ),
    Family(
        name="Olmo 3 Think",
        models="Olmo 3 Think",
        variant="reasoning",
        template=PLAIN_CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}"),
        opening="<think>",
        closing="</think>\n\n",
        source="template",
        tail={"none": HEAD + "<think>", "off": HEAD + "<think></think>\n\n", "own": HEAD + "<think>"},
    ),
    Family(
        name="Phi-4 reasoning",
        models="Phi-4-reasoning",
        variant="reasoning",
        template=(
            "<|im_start|>system<|im_sep|>First thoughts, then the solution: <think> {Thought} </think> {Solution}."
            "<|im_end|>{% for m in messages %}<|im_start|>{{ m['role'] }}<|im_sep|>{{ m['content'] }}<|im_end|>"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
        ),
        tokens=("<|im_sep|>", *THINK),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        tail={
            "none": "<|im_end|><|im_start|>assistant<|im_sep|>",
            "off": "<|im_end|><|im_start|>assistant<|im_sep|>" + BLOCK,
            "own": "<|im_end|><|im_start|>assistant<|im_sep|><think>\n",
        },
    ),
    Family(
        name="MiniMax-M2",
        models="MiniMax-M2",
        variant="reasoning",
        template=(
            "]~b]system\n{{ messages[0]['content'] if messages[0]['role'] == 'system' else 'You help.' }}[e~[\n"
            "{% for m in messages %}{% if m['role'] == 'user' %}]~b]user\n{{ m['content'] }}[e~[\n"
            "{% elif m['role'] == 'assistant' %}]~b]ai\n{% if m['reasoning_content'] %}<think>\n"
            "{{ m['reasoning_content'] }}\n</think>\n\n{% endif %}{{ m['content'] }}[e~[\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}]~b]ai\n<think>\n{% endif %}"
        ),
        tokens=("]~b]", "[e~[", *THINK),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        tail={
            "none": "[e~[\n]~b]ai\n<think>\n",
            "off": "[e~[\n]~b]ai\n" + BLOCK,
            "own": "[e~[\n]~b]ai\n<think>\n",
        },
    ),
    Family(
        name="Hunyuan",
        models="Hunyuan (dense, A13B)",
        variant="both",
        template=(
            "{% for m in messages %}{% if m['role'] == 'user' %}<｜hy_User｜>{{ m['content'] }}{% elif m['role'] == "
            "'assistant' %}<｜hy_Assistant｜>{{ m['content'].split('</think>')[-1] }}<｜hy_EOT｜>{% else %}"
            "{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<｜hy_Assistant｜>"
            "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n{% endif %}{% endif %}"
        ),
        tokens=("<｜hy_User｜>", "<｜hy_Assistant｜>", "<｜hy_EOT｜>"),
        opening="<think>\n",
        closing="\n</think>\n",
        source="template",
        switch="enable_thinking",
        tail={
            "none": "<｜hy_Assistant｜>",
            "off": "<｜hy_Assistant｜><think>\n\n</think>\n",
            "own": "<｜hy_Assistant｜><think>\n",
        },
    ),
    Family(
        name="instruction behind the question",
        models="children of public R1-style recipes",
        variant="reasoning",
        template=PLAIN_CHATML.replace(
            "{{ m['content'] }}", "{{ m['content'] }}\nReason within <think> and </think>, then answer."
        ),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        tail={
            mode: "\nReason within <think> and </think>, then answer." + HEAD + opened
            for mode, opened in (("none", ""), ("off", BLOCK), ("own", "<think>\n"))
        },
    ),
    Family(
        name="begun thought",
        models="templates that begin the thought with words of their own",
        variant="reasoning",
        template=chatml("<think>\nOkay, so"),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="template",
        tail={
            mode: HEAD + "<think>\nOkay, so" + closed
            for mode, closed in (("none", ""), ("off", "\n</think>\n\n"), ("own", ""))
        },
    ),
    Family(
        name="Llama 3",
        models="Llama 3 Instruct",
        variant="instruct",
        template=(
            "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}"
            "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
            "{% endif %}"
        ),
        tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|reserved_special_token_0|>"),
        opening="<think>\n",
        closing="\n</think>\n\n",
        source="assumed",
        tail={
            mode: "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" + opened
            for mode, opened in (("none", ""), ("off", BLOCK), ("own", "<think>\n"))
        },
        falls_back="nothing says how it thinks: `<think>` is tried, and given up where no answer closes its block",
    ),
)


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """Byte-level, with the family's own tokens and those of ChatML."""
    words = ["<|im_end|>", "<|im_start|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", bos_token="<|im_start|>")
    fast.add_tokens([AddedToken(word, normalized=False, special=True) for word in family.tokens])
    fast.chat_template = family.template
    return fast


SOURCES = {
    "template": "the template",
    "tokenizer": "the vocabulary",
    "assumed": "nothing: assumed",
}


def table() -> str:
    """The families as a table of the documentation."""
    rows = ["| Family | Sides | Markers | Read off | Switch | Outcome |", "|---|---|---|---|---|---|"]
    for family in FAMILIES:
        markers = " ".join(f"`{text.strip()}`" for text in (family.opening, family.closing))
        switch = {"": "none", "system": "words in the system message"}.get(family.switch, f"`{family.switch}`")
        sides = "both, by its switch" if family.variant == "both" else family.variant
        outcome = f"falls back: {family.falls_back}" if family.falls_back else "exact"
        cells = (family.models, sides, markers, SOURCES[family.source], switch, outcome)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"
