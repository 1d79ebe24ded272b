"""How a pair's models are asked, as the user sets it. What the user does not set is read off the tokenizer
(`conventions`).

`ChatSettings` are the settings of one model. `ChatOptions` are what a user can set for a pair: each setting for both
sides, or for one. They are fields of the audit's configuration and so options of the command line, and keys of a pair
file (`pair_files`). Importing this module loads neither transformers nor torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mechdrift.errors import MechdriftError

NO_MARKERS = "none"  # given as a marker: the model has none
SETTINGS = ("system", "template", "template_args", "think_open", "think_close")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """How one model is asked.

    `system` is a system message before every prompt, `template` names one of several chat templates of a tokenizer
    (None: its default), and `template_args` are arguments of the chat template. `think_open`
    and `think_close` name the markers (`"none"`: there are none). `thinks` sets the template's thinking switch for the
    mode in which the model is normally used (None: as published). `apart` is True where markers and texts were
    tokenised separately in training, as they were for the embedded children, and not as one text.
    """

    system: str | None = None
    template: str | None = None
    template_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    think_open: str | None = None
    think_close: str | None = None
    thinks: bool | None = None
    apart: bool = False

    @property
    def said(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        nothing = asdict(AS_PUBLISHED)
        return {name: value for name, value in asdict(self).items() if value != nothing[name]}

    def __str__(self) -> str:
        words = {"thinks": "thinking switched", "apart": "markers tokenised apart"}
        shown = {"thinks": "on" if self.thinks else "off", "apart": "yes"}
        parts = [
            f"{words.get(key, key.replace('_', ' '))}: {shown.get(key, value)}" for key, value in self.said.items()
        ]
        return "; ".join(parts) or "as published"


AS_PUBLISHED = ChatSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How the user wants the models to be asked. A setting of one side overrides the setting of both."""

    system: str | None = None
    """A system message before every prompt, such as "detailed thinking on"."""
    instruct_system: str | None = None
    """The instruct model's system message."""
    reasoning_system: str | None = None
    """The reasoning model's system message."""
    template: str | None = None
    """The name of one of the tokenizer's chat templates, where it has several. Default: the one named default."""
    instruct_template: str | None = None
    """The instruct model's chat template, by its name."""
    reasoning_template: str | None = None
    """The reasoning model's chat template, by its name."""
    template_args: str | None = None
    """Arguments of the chat template as a JSON object, such as '{"enable_thinking": true}'."""
    instruct_template_args: str | None = None
    """The instruct model's template arguments."""
    reasoning_template_args: str | None = None
    """The reasoning model's template arguments."""
    think_open: str | None = None
    """The marker that opens thinking, or the word none for models without markers. Default: read off the tokenizer."""
    instruct_think_open: str | None = None
    """The instruct model's opening marker."""
    reasoning_think_open: str | None = None
    """The reasoning model's opening marker."""
    think_close: str | None = None
    """The marker that closes thinking."""
    instruct_think_close: str | None = None
    """The instruct model's closing marker."""
    reasoning_think_close: str | None = None
    """The reasoning model's closing marker."""

    def of(self, side: str) -> dict[str, Any]:
        """The settings of one side, as keyword arguments of `ChatSettings`."""
        found = {}
        for name in SETTINGS:
            own = getattr(self, f"{side}_{name}")
            value = getattr(self, name) if own is None else own
            if value is not None:
                found[name] = parse_arguments(value) if name == "template_args" else value
        return found

    @property
    def said(self) -> dict[str, str]:
        """The options that were given."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def parse_arguments(text: str) -> dict[str, Any]:
    """Template arguments from JSON text; raises `MechdriftError` unless it is a JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MechdriftError(
            f"the template arguments {text!r:.80} are not JSON: write them as '{{\"enable_thinking\": true}}'."
        ) from error
    if not isinstance(found, dict):
        raise MechdriftError(
            f"the template arguments {text!r:.80} are not a JSON object: write names and values in {{}}."
        )
    return found
