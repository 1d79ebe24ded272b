"""What turns a model's thinking on and off: a template variable, or words of the system message.

A variable is a switch where the template renders differently for true and false, and the difference has to do with
thinking: one of the two prompts opens or closes a think block, or the variable's name or the changed lines speak of
thinking. A variable that is compared with words (`thinking_mode == 'off'`) is one where a word closes the block and
another does not. Words of the system message are listed here, and count where the template's source holds them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from mechdrift.errors import MechdriftError
from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.markers import ABOUT_THINKING, injected
from mechdrift.pairs.templates import (
    compared_words,
    day_of,
    rendered,
    template_arguments,
    template_of,
    template_variables,
)

# Words of the system message that switch thinking on and off.
SYSTEM_SWITCHES = (("detailed thinking on", "detailed thinking off"), ("/think", "/no_think"), ("/think", "/nothink"))
# Of a variable that is compared with a word, what the other one is called.
OPPOSITES = {"off": "on", "disabled": "enabled", "false": "true", "no": "yes", "none": "high"}
OPPOSITES |= {on: off for off, on in OPPOSITES.items()}
NEGATIVE = re.compile(r"(?:^|_)(?:no|non|not|without|disable|skip|hide)(?:_|$|d_)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What turns thinking on and off: arguments of the template, or a system message."""

    name: str
    on: Mapping[str, Any] = field(hash=False)
    off: Mapping[str, Any] = field(hash=False)
    in_system: bool = False

    def __str__(self) -> str:
        if self.in_system:
            return f"the system message ({self.on['system']!r} or {self.off['system']!r})"
        on, off = (str(value).lower() if isinstance(value, bool) else repr(value) for value in self._values)
        return f"{self.name} ({on} thinks, {off} does not)"

    @property
    def _values(self) -> tuple[Any, Any]:
        return self.on[self.name], self.off[self.name]


def options_of(settings: ChatSettings, switch: Switch | None, thinks: bool | None) -> dict[str, Any]:
    """Options for `apply_template` that set the switch. The user's own settings stay, unless a think mode requires
    others.

    `thinks=None` means the model as it is used: the switch is set as `settings.thinks` says, and the user's own
    settings override it.
    """
    if switch is None:
        return {}
    if thinks is not None:
        return _setting(settings, switch, thinks)
    if settings.thinks is None or is_set_by(settings, switch):
        return {}
    return _setting(settings, switch, settings.thinks) | dict(settings.template_args)


def _setting(settings: ChatSettings, switch: Switch, thinks: bool) -> dict[str, Any]:
    """The options that set the switch. Words of a system message are put before the user's own, or replace the opposite
    words in it."""
    options, others = (switch.on, switch.off) if thinks else (switch.off, switch.on)
    if not switch.in_system or settings.system is None:
        return dict(options)
    word, other, said = options["system"], others["system"], settings.system
    if word in said:
        return {"system": said}
    return {"system": said.replace(other, word) if other in said else f"{word}\n\n{said}"}


def is_set_by(settings: ChatSettings, switch: Switch) -> bool:
    """Whether the user's own settings already set the switch."""
    if not switch.in_system:
        return switch.name in settings.template_args
    return any(words["system"] in (settings.system or "") for words in (switch.on, switch.off))


def check_settings(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, name: str) -> None:
    """Raise `MechdriftError` for a template argument that the template ignores, and for a system message that it cannot
    take."""
    for argument in settings.template_args:
        if argument not in template_arguments(tokenizer):
            known = ", ".join(sorted(template_arguments(tokenizer))) or "none"
            raise MechdriftError(
                f"the chat template of {name} ignores the argument {argument!r}: every prompt renders the same with "
                f"it; the arguments that it reads are: {known}."
            )
    day_of(tokenizer, settings)  # raises where a day is given that is none
    if settings.system is None:
        return
    plain, prompt = (rendered(tokenizer, replace(settings, system=said), {}) for said in (None, settings.system))
    if prompt is None or (prompt == plain and settings.system.strip() not in prompt):
        raise MechdriftError(
            f"the chat template of {name} takes no system message: leave --system out for it, or put the words into "
            "its template."
        )


def find_switch(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings) -> Switch | None:
    """The template variable, or the words in the system message, by which this model's thinking is switched."""
    found: list[tuple[bool, Switch]] = []
    for name in sorted(template_variables(tokenizer)):
        texts = {value: rendered(tokenizer, settings, {name: value}) for value in (True, False)}
        if None in texts.values() or texts[True] == texts[False] or _prints(texts):
            continue
        states = {value: _state(text) for value, text in texts.items()}
        if states[True] == states[False] and not ABOUT_THINKING.search(name + _difference(texts)):
            continue
        thinks = states[True] > states[False] if states[True] != states[False] else not NEGATIVE.search(name)
        found.append((states[True] != states[False], Switch(name=name, on={name: thinks}, off={name: not thinks})))
    found += [
        (True, switch)
        for name in sorted(template_variables(tokenizer))
        if (switch := _by_word(tokenizer, settings, name))
    ]
    if found:
        return max(found, key=lambda pair: (pair[0], bool(ABOUT_THINKING.search(pair[1].name))))[1]
    template = template_of(tokenizer)
    for on, off in SYSTEM_SWITCHES:
        if off in template and all(rendered(tokenizer, settings, {"system": word}) for word in (on, off)):
            return Switch(name="system", on={"system": on}, off={"system": off}, in_system=True)
    return None


def _by_word(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, name: str) -> Switch | None:
    """A variable that the template compares with words, such as `thinking_mode == 'off'`. It is a switch where one word
    makes the prompt open a think block, or leave it open, and another closes one."""
    words = compared_words(tokenizer, name)
    opposites = tuple(OPPOSITES[word] for word in words if word in OPPOSITES)
    if not words:
        return None
    states = {word: _state(rendered(tokenizer, settings, {name: word})) for word in (*words, *opposites, "")}
    off = next((word for word, state in states.items() if state == -1), None)
    on = next((word for word in sorted(states, key=states.__getitem__, reverse=True) if states[word] >= 0), None)
    return None if off is None or on is None else Switch(name=name, on={name: on}, off={name: off})


def _prints(texts: Mapping[bool, str | None]) -> bool:
    """Whether the value itself is written into the prompt. Then the variable is not a switch, but a setting such as
    the reasoning effort."""
    return any(str(value) in str(text) and str(value) not in str(texts[not value]) for value, text in texts.items())


def _difference(texts: Mapping[bool, str | None]) -> str:
    """The lines that only one of the two renderings has."""
    lines = [set(str(text).splitlines()) for text in texts.values()]
    return "\n".join(lines[0] ^ lines[1])


def _state(prompt: str | None) -> int:
    """1 where a generation prompt opens a think block, -1 where it closes one, 0 where it does neither."""
    end = injected(str(prompt))
    return -1 if end.closing else 1 if end.opening else 0
