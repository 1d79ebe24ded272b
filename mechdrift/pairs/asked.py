"""How each side of a pair is asked: the user's settings, checked against its chat template, and the thinking switch.

Where a template has a switch and the user does not set it, the instruct model is asked with thinking off and the
reasoning model with thinking on: one checkpoint with a switch is a pair of its two modes.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from mechdrift.pairs.chat import ChatSettings
from mechdrift.pairs.conventions import read_convention
from mechdrift.pairs.switches import check_settings, is_set_by
from mechdrift.pairs.templates import DAY, day_of, missing_header, settings_of, with_settings
from mechdrift.records import SIDES, Side

Said = Mapping[Side, Mapping[str, Any]]
"""The settings (`ChatSettings`) that the user gives, by side."""


def said_by_side(**settings: Any) -> dict[Side, dict[str, Any]]:
    """Sorts settings by side. Each is one value for both models, or a mapping with one per side; those that are None
    are left out."""
    found: dict[Side, dict[str, Any]] = {side: {} for side in SIDES}
    for name, value in settings.items():
        is_per_side = isinstance(value, Mapping) and bool(value) and set(value) <= set(SIDES)
        for side in SIDES:
            own = value.get(side) if is_per_side else value
            if own is not None:
                found[side][name] = own
    return found


def settle(
    name: str, tokenizer: PreTrainedTokenizerBase, before: ChatSettings, said: Mapping[str, Any], thinks: bool
) -> ChatSettings:
    """The settings `before`, with the user's settings of one model put in; a switch that they do not set is set to
    `thinks`.

    Raises `MechdriftError` where the model's template ignores a setting.
    """
    chat = replace(before, **said)
    check_settings(tokenizer, chat, name)
    switch = read_convention(tokenizer, chat).switch
    return replace(chat, thinks=thinks) if switch and chat.thinks is None and not is_set_by(chat, switch) else chat


def own_tokenizer(tokenizer: PreTrainedTokenizerBase, chat: ChatSettings) -> PreTrainedTokenizerBase:
    """A caller's tokenizer with these settings; a copy of it where it already has other settings."""
    return tokenizer if chat == settings_of(tokenizer) else with_settings(copy.deepcopy(tokenizer), chat)


def headless(name: str, tokenizer: PreTrainedTokenizerBase, chat: ChatSettings) -> tuple[str, ...]:
    """A sentence for the pair's warnings where a model's prompts end without the header of its answers."""
    convention, header = read_convention(tokenizer, chat), missing_header(tokenizer, chat)
    for marker in filter(None, (convention.open, convention.close)):  # an empty think block is no header
        header = header.replace(marker, "").strip()
    if not header:
        return ()
    return (
        f"the chat template of {name} ignores add_generation_prompt: prompts end without {header!r:.80}, which it "
        "writes before every answer; correct the template, unless the model was trained so.",
    )


def dated(tokenizers: Mapping[str, PreTrainedTokenizerBase]) -> tuple[str, ...]:
    """A sentence for the pair's warnings where templates write what day it is, by the models' names."""
    days = {name: day for name, own in tokenizers.items() if (day := day_of(own))}
    told = " and ".join(f"that of {name} says {day}" for name, day in days.items())
    advice = f'another day is a template argument, {{"strftime_now": "{DAY}"}}'
    return (f"chat templates write the date, and every prompt has the same: {told}; {advice}.",) if days else ()


def switched(chats: Mapping[Side, ChatSettings]) -> tuple[str, ...]:
    """A sentence for the pair's warnings where thinking is switched on or off; none where no model has a switch."""
    states = {side: "on" if chat.thinks else "off" for side, chat in chats.items() if chat.thinks is not None}
    told = " and ".join(f"the {side} model is asked with it {state}" for side, state in states.items())
    return (f"thinking can be switched: {told}.",) if told else ()
