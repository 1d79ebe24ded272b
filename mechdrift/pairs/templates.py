"""A tokenizer's chat template as a program: rendered for one question, its source, and the variables that it reads.

How a model is asked (`chat.ChatSettings`) is kept with its tokenizer, so that every prompt is rendered with the same
settings.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from mechdrift.errors import MechdriftError, time_limit
from mechdrift.pairs.chat import AS_PUBLISHED, ChatSettings
from mechdrift.records.foreign import check_characters

# Variables that transformers fills in itself, or that say nothing about thinking.
OTHER_VARIABLES = {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"} | {
    "raise_exception",
    "strftime_now",
    "date_string",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
}
SECONDS = 30.0  # limit for rendering one prompt, which takes milliseconds
ASKED, ANSWERED = "Which of the rivers is the longest?", "Quartz it is."

_SETTINGS: WeakKeyDictionary[PreTrainedTokenizerBase, ChatSettings] = WeakKeyDictionary()


def with_settings(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings) -> PreTrainedTokenizerBase:
    """The tokenizer; from now on these settings are used wherever a prompt is rendered through it."""
    _SETTINGS[tokenizer] = settings
    return tokenizer


def settings_of(tokenizer: PreTrainedTokenizerBase) -> ChatSettings:
    """The settings that `with_settings` gave this tokenizer; empty where it was not called."""
    return _SETTINGS.get(tokenizer, AS_PUBLISHED)


def template_limit(tokenizer: PreTrainedTokenizerBase) -> AbstractContextManager[None]:
    """Raise inside the block where rendering takes longer than SECONDS."""
    return time_limit(SECONDS, f"the chat template of {tokenizer.name_or_path}")


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    content: str,
    settings: ChatSettings = AS_PUBLISHED,
    *,
    tokenize: bool = False,
    turns: Sequence[tuple[str, str]] = (),
    speaker: str = "user",
    is_prompt: bool = True,
    **options: Any,
) -> Any:
    """The prompt for one message: text, or token ids with `tokenize`. Raises what the template raises.

    `turns` are the messages before it, as (role, text); `speaker` is the role of the message itself. Without
    `is_prompt`, what begins an answer is left out.
    """
    system = options.pop("system", settings.system)
    said = [*([] if system is None else [("system", system)]), *turns, (speaker, content)]
    check_characters("".join(text for _, text in said), "a message to the model")
    with template_limit(tokenizer):
        return tokenizer.apply_chat_template(
            [{"role": who, "content": text} for who, text in said],
            tokenize=tokenize,
            add_generation_prompt=is_prompt,
            return_dict=False,
            **{**settings.template_args, **options},
        )


def rendered(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, options: Mapping[str, Any]) -> str | None:
    """The generation prompt of a trial question; None where the template refuses the options."""
    try:
        return str(apply_template(tokenizer, ASKED, settings, **options))
    except MechdriftError:  # the template does not end
        raise
    except Exception:  # noqa: BLE001 - a template is a program and may raise anything
        return None


def missing_header(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, **options: Any) -> str:
    """What the template writes between a question and its answer, but not at the end of a prompt, because it ignores
    `add_generation_prompt`; empty where a prompt ends as it should."""
    options = {**settings.template_args, **options}
    system = options.pop("system", settings.system)
    asked = [{"role": "system", "content": system}] * (system is not None) + [{"role": "user", "content": ASKED}]

    def text_of(messages: list[dict[str, str]], is_prompt: bool) -> str:
        with template_limit(tokenizer):
            return str(
                tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_prompt, **options)
            )

    try:
        prompt = text_of(asked, True)
        if prompt != text_of(asked, False):
            return ""
        whole = text_of([*asked, {"role": "assistant", "content": ANSWERED}], False)
    except MechdriftError:  # the template does not end
        raise
    except Exception:  # noqa: BLE001 - a template is a program and may raise anything
        return ""
    before, answered, _ = whole.partition(ANSWERED)
    return before.removeprefix(prompt).strip() if answered and before.startswith(prompt) else ""


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The source of the chat template; of several, the one that is used without tools."""
    template = tokenizer.chat_template
    return str(template.get("default", "")) if isinstance(template, dict) else str(template or "")


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> str:
    """The added tokens of the vocabulary, with spaces between them."""
    return " ".join(str(token) for token in tokenizer.added_tokens_decoder.values())


def template_variables(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Names that the template reads and does not set itself, without those that transformers provides."""
    return _variables(template_of(tokenizer))


def compared_words(tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[str, ...]:
    """The words that the template compares a variable with, in their order."""
    return _compared(template_of(tokenizer), name)


@cache
def _compared(template: str, name: str) -> tuple[str, ...]:
    from jinja2 import nodes

    tree = _tree(template)
    compared = [] if tree is None else [found for found in tree.find_all(nodes.Compare) if _is_name(found.expr, name)]
    words = (const.value for found in compared for const in found.find_all(nodes.Const))
    return tuple(dict.fromkeys(word for word in words if isinstance(word, str)))


def _is_name(node: Any, name: str) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Name) and node.name == name


@cache
def _variables(template: str) -> frozenset[str]:
    from jinja2 import meta

    tree = _tree(template)
    return frozenset() if tree is None else frozenset(meta.find_undeclared_variables(tree)) - OTHER_VARIABLES


def _tree(template: str) -> Any:
    """The template, parsed anew, as jinja2 changes a tree that it reads; None where it cannot be parsed."""
    from jinja2 import Environment, TemplateError

    plain = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)  # transformers' own tag
    try:
        return Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).parse(plain)
    except TemplateError:
        return None
