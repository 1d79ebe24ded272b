"""A tokenizer's chat template as a program: rendered for one question, its source, and the variables that it reads.

How a model is asked (`chat.ChatSettings`) is kept with its tokenizer, so that every prompt is rendered with the same
settings.

Some templates write the day on which they are rendered (`strftime_now`). Here it is always the same day, noon of `DAY`:
an audit that goes on tomorrow, or one of another child next year, asks what it asked today. The template argument
`strftime_now` names another one, such as `{"strftime_now": "2025-06-30"}`.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
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
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
}
CLOCK = "strftime_now"  # the function of a template that writes what day it is
DATES = {CLOCK, "date_string"}  # variables that say what day it is, and nothing about thinking
DATE_CODES = tuple(f"%{letter}" for letter in "aAbBcdDeFHIjmMpSTuUwWxXyYZ")
DAY = "2026-01-01"  # what day it is for every template that asks
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


def with_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer with the chat template of this name; as it is where none is named and it has one, or a default.

    Raises `MechdriftError` where there is no such template, or none is named and there is no default.
    """
    saved = tokenizer.chat_template
    if template is None and not (isinstance(saved, dict) and saved and "default" not in saved):
        return tokenizer
    named = saved if isinstance(saved, dict) else {"default": saved} if saved else {}
    if template not in named:
        lacking = "no default" if template is None else f"none named {template!r:.60}"
        raise MechdriftError(
            f"the tokenizer {tokenizer.name_or_path} has the chat templates {', '.join(map(repr, named)) or 'none'}, "
            f"and {lacking}: choose one of them with template= (--template)."
        )
    chosen = copy.copy(tokenizer)
    chosen.chat_template = named[template]
    return chosen


def day_of(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings | None = None) -> str:
    """The day that a template writes into prompts, as 2026-01-01; empty where it writes none.

    Raises `MechdriftError` where the settings name something else than a day.
    """
    settings = settings_of(tokenizer) if settings is None else settings
    if CLOCK not in _undeclared(template_of(tokenizer)):
        return ""
    day = settings.template_args.get(CLOCK, DAY)
    try:
        return datetime.fromisoformat(day).date().isoformat()
    except (TypeError, ValueError) as error:
        raise MechdriftError(
            f"the template argument {CLOCK} should be a day, such as {DAY!r}; it is {day!r:.60}."
        ) from error


@cache
def _clock(day: str) -> str:
    """A macro that stands before a template, in place of transformers' function of the same name: transformers hands
    a template plain data only. The line break after it is trimmed, as all are that follow a block."""
    now = datetime.fromisoformat(day).replace(hour=12)
    codes = {code: now.strftime(code) for code in DATE_CODES} | {f"%-{c}": str(n) for c, n in _unpadded(now).items()}
    steps = "".join(f"|replace({code!r}, {text!r})" for code, text in codes.items())
    return f"{{%- macro {CLOCK}(format) -%}}{{{{ format{steps}|replace('%%', '%') }}}}{{%- endmacro %}}\n"


def _unpadded(now: datetime) -> dict[str, int]:
    """Numbers that some systems write without zeros before them."""
    return {"d": now.day, "m": now.month, "H": now.hour, "I": now.hour % 12 or 12, "M": now.minute, "S": now.second}


def chat_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], settings: ChatSettings, **options: Any
) -> Any:
    """What the tokenizer's template makes of messages with the settings' arguments, on the day that is always today:
    every prompt of the package is made here. `options` override the settings. Raises what the template raises."""
    options = {**settings.template_args, **options}
    if day := day_of(tokenizer, settings):
        options |= {"chat_template": _clock(day) + template_of(tokenizer)}
        options.pop(CLOCK, None)
    with template_limit(tokenizer):
        return tokenizer.apply_chat_template(list(messages), return_dict=False, **options)


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
    messages = [{"role": who, "content": text} for who, text in said]
    return chat_text(tokenizer, messages, settings, tokenize=tokenize, add_generation_prompt=is_prompt, **options)


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
    system = options.pop("system", settings.system)
    asked = [{"role": "system", "content": system}] * (system is not None) + [{"role": "user", "content": ASKED}]

    def text_of(messages: list[dict[str, str]], is_prompt: bool) -> str:
        return str(chat_text(tokenizer, messages, settings, tokenize=False, add_generation_prompt=is_prompt, **options))

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
    """Names that the template reads and does not set itself, without those that transformers provides and those that
    say what day it is."""
    return template_arguments(tokenizer) - DATES


def template_arguments(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """What a user may give the template: its variables, and what day it is."""
    return _undeclared(template_of(tokenizer)) - OTHER_VARIABLES


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
def _undeclared(template: str) -> frozenset[str]:
    from jinja2 import meta

    tree = _tree(template)
    return frozenset() if tree is None else frozenset(meta.find_undeclared_variables(tree))


def _tree(template: str) -> Any:
    """The template, parsed anew, as jinja2 changes a tree that it reads; None where it cannot be parsed."""
    from jinja2 import Environment, TemplateError

    plain = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)  # transformers' own tag
    try:
        return Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).parse(plain)
    except TemplateError:
        return None
