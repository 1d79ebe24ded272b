"""How a model thinks: its markers, its switch and its system message, read off its tokenizer and chat template.

Models differ in how thinking begins and ends, and in how it is switched on and off. Nothing of that is a constant here.
A `ThinkConvention` says it for one model, and is read in this order:

    given       the user named the markers (`--think-open`, `--think-close`, or a pair file)
    template    the template writes them: at the end of its generation prompt, round the reasoning of an earlier
                assistant message (which is rendered to see it), or as words of its source
    tokenizer   the vocabulary has added tokens of that form
    assumed     nothing was found: `<think>` and `</think>` are tried, and given up when no answer closes its block
    none        the model has no markers: all that it writes is its answer

Markers are recognised by form, not by name: a pair of bracketed words about thinking of which one closes the other
(`<x>` and `</x>`, `[X]` and `[/X]`, `begin` and `end`, `<|x>` and `<x|>`). Only channels (`<|channel|>analysis`) and
plain sentences have no such form and are listed in `FORMLESS`.

A switch is a template variable that renders differently when it is true and when it is false, and that has to do with
thinking, or a pair of words in the system message that the template's source names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from typing import Any, Literal
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from mechdrift.errors import MechdriftError
from mechdrift.pairs.chat import AS_PUBLISHED, NO_MARKERS, ChatSettings

Source = Literal["given", "template", "tokenizer", "assumed", "none"]

ABOUT_THINKING = re.compile(r"think|thought|reason|analysis|scratchpad|cot\b", re.IGNORECASE)
# One bracketed word, or a channel with its name (`<|channel>thought`).
MARKER = r"(?:<[^<>\s'\"{}]{1,40}>|\[[^\[\]\s'\"{}]{1,40}\]|◁[^◁▷\s'\"{}]{1,40}▷)"
NAMED = rf"(?:<\|\w+>[a-z]+|{MARKER})"
CLOSES = re.compile(r"[<\[◁]\|?/|[<\[◁|_▁:](?:end|close)[|_▁:>\]▷]|^<\w+\|>", re.IGNORECASE)
BEGINNINGS = (
    ("begin", "end"),
    ("start", "end"),
    ("open", "close"),
    ("BEGIN", "END"),
    ("START", "END"),
    ("OPEN", "CLOSE"),
)
# Conventions without a pair of brackets: the words that template or vocabulary must hold, the opening, the closing.
FORMLESS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("<|channel|>", "<|message|>", "<|start|>", "<|end|>"),
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    (
        ("Here is my thought process:", "Here is my response:"),
        "Here is my thought process:",
        "Here is my response:",
    ),
)
# Words of the system message that switch thinking on and off.
SYSTEM_SWITCHES = (("detailed thinking on", "detailed thinking off"), ("/think", "/no_think"), ("/think", "/nothink"))
NEGATIVE = re.compile(r"(?:^|_)(?:no|non|not|without|disable|skip|hide)(?:_|$|d_)", re.IGNORECASE)
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
ASKED = "Which of the rivers is the longest?"
THOUGHT, ANSWER = "Zebras were counted.", "Quartz it is."


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What turns thinking on and off: arguments of the template, or a system message."""

    name: str
    on: Mapping[str, Any] = field(hash=False)
    off: Mapping[str, Any] = field(hash=False)
    in_system: bool = False

    def __str__(self) -> str:
        word = {True: "true", False: "false"}
        if self.in_system:
            return f"the system message ({self.on['system']!r} or {self.off['system']!r})"
        return f"{self.name} ({word[self.on[self.name]]} thinks, {word[self.off[self.name]]} does not)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkConvention:
    """How one model thinks. `opening` and `closing` are the texts round a thought, line breaks included; `open` and
    `close` the markers in them. Empty where the model has no markers."""

    opening: str
    closing: str
    source: Source
    switch: Switch | None = None

    @property
    def open(self) -> str:
        return self.opening.strip()

    @property
    def close(self) -> str:
        return self.closing.strip()

    @property
    def lead(self) -> str:
        """What stands between a thought and its close marker."""
        return self.closing[: self.closing.find(self.close)]

    def __str__(self) -> str:
        found = {
            "given": "as given",
            "template": "read off the chat template",
            "tokenizer": "read off the vocabulary",
            "assumed": "assumed, as the tokenizer says nothing about thinking",
        }
        markers = (
            "no think markers: all that it writes is its answer"
            if self.source == "none"
            else f"thinks between {self.opening!r} and {self.closing!r} ({found[self.source]})"
        )
        return f"{markers}; switched by {self.switch}" if self.switch else f"{markers}; no switch"


@dataclass(frozen=True, slots=True)
class Injected:
    """What a generation prompt itself ends with: an opened think block, a closed one, or neither."""

    opening: str = ""
    closing: str = ""

    @property
    def text(self) -> str:
        return self.opening + self.closing


ASSUMED = ThinkConvention(opening="<think>\n", closing="\n</think>\n\n", source="assumed")
WITHOUT = ThinkConvention(opening="", closing="", source="none")

_SETTINGS: WeakKeyDictionary[PreTrainedTokenizerBase, ChatSettings] = WeakKeyDictionary()


def with_settings(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings) -> PreTrainedTokenizerBase:
    """The tokenizer, from now on used with these settings wherever a prompt is rendered through it."""
    _SETTINGS[tokenizer] = settings
    return tokenizer


def settings_of(tokenizer: PreTrainedTokenizerBase) -> ChatSettings:
    """What `with_settings` said of this tokenizer; nothing, where it was not called."""
    return _SETTINGS.get(tokenizer, AS_PUBLISHED)


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    content: str,
    settings: ChatSettings = AS_PUBLISHED,
    *,
    tokenize: bool = False,
    **options: Any,
) -> Any:
    """The generation prompt for one message of the user: text, or token ids with `tokenize`. Raises what the template
    raises."""
    system = options.pop("system", settings.system)
    messages = [] if system is None else [{"role": "system", "content": system}]
    return tokenizer.apply_chat_template(
        [*messages, {"role": "user", "content": content}],
        tokenize=tokenize,
        add_generation_prompt=True,
        return_dict=False,
        **{**settings.template_args, **options},
    )


def options_of(settings: ChatSettings, switch: Switch | None, thinks: bool | None) -> dict[str, Any]:
    """Options for `apply_template` that set the switch; what the user said stands, unless a think mode asks for more.

    `thinks` None means the model as it is used: the switch where `settings.thinks` has it, under the user's own words.
    """
    if switch is None:
        return {}
    if thinks is not None:
        return dict(switch.on if thinks else switch.off)
    if settings.thinks is None or (switch.in_system and settings.system is not None):
        return {}
    return dict(switch.on if settings.thinks else switch.off) | dict(settings.template_args)


def read_convention(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings | None = None) -> ThinkConvention:
    """The model's think convention; see the module's text for where it is read, and in which order.

    Raises `MechdriftError` where one marker is given and the other cannot be told from it.
    """
    settings = settings_of(tokenizer) if settings is None else settings
    switch = find_switch(tokenizer, settings)
    opening, closing, source = _markers(tokenizer, settings, switch)
    return ThinkConvention(opening=opening, closing=closing, source=source, switch=switch)


def _markers(
    tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, switch: Switch | None
) -> tuple[str, str, Source]:
    if settings.think_open or settings.think_close:
        return _given_markers(settings)
    on = options_of(settings, switch, True)
    found = _echoed(tokenizer, settings, on) or _injected_pair(tokenizer, settings, switch)
    if found:
        return (*found, "template")
    template, vocabulary = template_of(tokenizer), added_tokens(tokenizer)
    if found := _written(template) or _formless(template + vocabulary):
        return (*found, "template")
    if found := _written(vocabulary):
        return (*found, "tokenizer")
    return (ASSUMED.opening, ASSUMED.closing, "assumed")


def _given_markers(settings: ChatSettings) -> tuple[str, str, Source]:
    opening, closing = settings.think_open, settings.think_close
    if NO_MARKERS in (opening, closing):
        return "", "", "none"
    opening = _breaks(opening or next(iter(_openings(closing or "")), ""))
    closing = _breaks(closing or next(iter(_closings(opening.strip())), ""))
    if not opening.strip() or not closing.strip():
        lacking = "--think-close" if settings.think_open else "--think-open"
        raise MechdriftError(
            f"the marker {settings.think_open or settings.think_close!r} does not say which other one belongs to it: "
            f"give {lacking} as well."
        )
    return opening, closing, "given"


def _echoed(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, on: Mapping) -> tuple[str, str] | None:
    """Opening and closing, as the template writes them round the reasoning of an assistant's message."""
    options = {**settings.template_args, **on}
    system = options.pop("system", settings.system)
    asked = [{"role": "system", "content": system}] * (system is not None) + [{"role": "user", "content": ASKED}]
    prompt = _rendered(tokenizer, settings, on) or ""
    for answer in (
        {"content": ANSWER, "reasoning_content": THOUGHT, "thinking": THOUGHT, "reasoning": THOUGHT},
        {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]},
    ):
        try:
            text = tokenizer.apply_chat_template([*asked, {"role": "assistant", **answer}], tokenize=False, **options)
        except Exception:  # noqa: BLE001 - most templates know only some of these fields
            continue
        before, thought, after = str(text).partition(THOUGHT)
        between, answered, _ = after.partition(ANSWER)
        opening = _after_header(before, prompt)
        if thought and answered and between.strip() and re.search(MARKER, opening) and "'type'" not in before:
            return opening, between
    return None


def _after_header(before: str, prompt: str) -> str:
    """What a template writes between the assistant's header and its reasoning."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, prompt, strict=False)))
    rest = before[shared:]
    if rest.strip():
        return rest
    at_end = re.search(rf"{NAMED}\s*$", before)
    return at_end[0] if at_end and ABOUT_THINKING.search(at_end[0]) else ""


def _injected_pair(
    tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, switch: Switch | None
) -> tuple[str, str] | None:
    """Opening and closing, from generation prompts that end with an opened or closed block."""
    prompts = [_rendered(tokenizer, settings, options_of(settings, switch, on)) or "" for on in (True, False, None)]
    ends = [injected(prompt) for prompt in prompts]
    opened = next((end.opening for end in ends if end.opening and not end.closing), "")
    block = next((end for end in ends if end.closing), Injected())
    if not opened and not block.text:
        return None
    space = block.opening.removeprefix(block.opening.strip())
    half = space[: (len(space) + 1) // 2]  # `<think>\n\n</think>`: the line breaks belong half to either marker
    known = template_of(tokenizer) + added_tokens(tokenizer)
    opening = opened or (block.opening.strip() + half if block.opening else _first_in(known, _openings(block.closing)))
    closing = space.removeprefix(half) + block.closing if block.closing else _closing_for(opening, known)
    return (opening, closing) if opening and closing else None


def injected(prompt: str, convention: ThinkConvention | None = None) -> Injected:
    """What a generation prompt ends with; nothing earlier in it counts.

    Markers are known by their form, or are those of a convention.
    """
    if convention is not None:
        if not convention.open:
            return Injected()
        opening, closing = (re.escape(marker) + r"\s*" for marker in (convention.open, convention.close))
        found = re.search(rf"(?:(?P<opening>{opening})?(?P<closing>{closing})|(?P<alone>{opening}))$", prompt)
        return Injected(found["opening"] or found["alone"] or "", found["closing"] or "") if found else Injected()
    if found := re.search(rf"(?P<opening>{NAMED}\s*)?(?P<closing>{MARKER}\s*)$", prompt):
        opening, closing = found["opening"] or "", found["closing"]
        if CLOSES.search(closing) and ABOUT_THINKING.search(opening + closing):
            return Injected(opening if ABOUT_THINKING.search(opening) else "", closing)
    found = re.search(rf"{NAMED}\s*$", prompt)
    is_opening = found and ABOUT_THINKING.search(found[0]) and not CLOSES.search(found[0])
    return Injected(found[0]) if found and is_opening else Injected()


def _written(text: str) -> tuple[str, str] | None:
    """The pair of markers that a template's source or a vocabulary names most often, with its line breaks."""
    counts: dict[tuple[str, str], int] = {}
    for marker in re.findall(NAMED, text):
        if pair := _pairs_with(marker, text):
            counts[pair] = counts.get(pair, 0) + 1
    if not counts:
        return None
    opening, closing = max(counts, key=lambda pair: counts[pair])
    breaks = max((_breaks(found) for found in re.findall(re.escape(opening) + r"((?:\\n|\n)*)", text)), default="")
    if not opening.startswith("<"):
        return opening + breaks, closing
    return opening + (breaks or "\n"), f"\n{closing}\n\n"  # tags are written on lines of their own


def _closing_for(opening: str, known: str) -> str:
    """The closing text of an opening that the template injects."""
    closing = _first_in(known, _closings(opening.strip()))
    lead = "\n" if opening.endswith("\n") else ""
    return f"{lead}{closing}\n\n" if closing else ""


def _breaks(written: str) -> str:
    """Line breaks that are written as `\\n`, in a template's source or on a command line."""
    return written.replace("\\n", "\n")


def _first_in(text: str, candidates: tuple[str, ...]) -> str:
    """The first candidate that a text holds; else the first."""
    return next((word for word in candidates if word in text), next(iter(candidates), ""))


def _pairs_with(marker: str, text: str) -> tuple[str, str] | None:
    """The opening and the closing marker of which one is `marker`; None where the text does not close it."""
    if not ABOUT_THINKING.search(marker):
        return None
    if CLOSES.search(marker):
        return (_first_in(text, _openings(marker)), marker) if _openings(marker) else None
    return next(((marker, closing) for closing in _closings(marker) if closing in text), None)


@cache
def _closings(opening: str) -> tuple[str, ...]:
    """The markers that can close an opening one, by their form."""
    if channel := re.fullmatch(r"<\|(\w+)>(\w*)", opening):
        return (f"<{channel[1]}|>",)
    bracket = re.match(r"[<\[◁]\|?", opening)
    if not bracket:
        return ()
    changed = [opening.replace(begin, end) for begin, end in BEGINNINGS if begin in opening]
    return (*changed, opening[0] + "/" + opening[1:], bracket[0] + "/" + opening[len(bracket[0]) :])


@cache
def _openings(closing: str) -> tuple[str, ...]:
    """The markers that a closing one can close, by its form."""
    closing = closing.strip()
    if "/" in closing:
        return (closing.replace("/", "", 1),)
    return tuple(closing.replace(end, begin) for begin, end in BEGINNINGS if end in closing)


def _formless(text: str) -> tuple[str, str] | None:
    """A convention of the list, where the text has all that belongs to it."""
    return next(((opening, closing) for words, opening, closing in FORMLESS if all(w in text for w in words)), None)


def find_switch(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings) -> Switch | None:
    """The template variable, or the words in the system message, by which this model's thinking is switched."""
    found: list[tuple[bool, Switch]] = []
    for name in sorted(template_variables(tokenizer)):
        texts = {value: _rendered(tokenizer, settings, {name: value}) for value in (True, False)}
        if None in texts.values() or texts[True] == texts[False] or _prints(texts):
            continue
        states = {value: _state(text) for value, text in texts.items()}
        if states[True] == states[False] and not ABOUT_THINKING.search(name + _difference(texts)):
            continue
        thinks = states[True] > states[False] if states[True] != states[False] else not NEGATIVE.search(name)
        found.append((states[True] != states[False], Switch(name=name, on={name: thinks}, off={name: not thinks})))
    if found:
        return max(found, key=lambda pair: (pair[0], bool(ABOUT_THINKING.search(pair[1].name))))[1]
    template = template_of(tokenizer)
    for on, off in SYSTEM_SWITCHES:
        if off in template and all(_rendered(tokenizer, settings, {"system": word}) for word in (on, off)):
            return Switch(name="system", on={"system": on}, off={"system": off}, in_system=True)
    return None


def _prints(texts: Mapping[bool, str | None]) -> bool:
    """Whether the value itself is written into the prompt: a variable that is no switch, such as an effort."""
    return any(str(value) in str(text) and str(value) not in str(texts[not value]) for value, text in texts.items())


def _difference(texts: Mapping[bool, str | None]) -> str:
    """The lines that only one of the two renderings has."""
    lines = [set(str(text).splitlines()) for text in texts.values()]
    return "\n".join(lines[0] ^ lines[1])


def _state(prompt: str | None) -> int:
    """1 where a generation prompt opens a think block, -1 where it closes one, 0 where it does neither."""
    end = injected(str(prompt))
    return -1 if end.closing else 1 if end.opening else 0


def _rendered(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings, options: Mapping[str, Any]) -> str | None:
    """The generation prompt of a trial question; None where the template refuses the options."""
    try:
        return str(apply_template(tokenizer, ASKED, settings, **options))
    except Exception:  # noqa: BLE001 - a template is a program, and fails in any way it likes
        return None


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The source of the chat template; of several, the one that is used without tools."""
    template = tokenizer.chat_template
    return str(template.get("default", "")) if isinstance(template, dict) else str(template or "")


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> str:
    """The added tokens of the vocabulary, a line each."""
    return "\n".join(str(token) for token in tokenizer.added_tokens_decoder.values())


def template_variables(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Names that the template reads and does not set itself, without those that transformers provides."""
    return _variables(template_of(tokenizer))


@cache
def _variables(template: str) -> frozenset[str]:
    from jinja2 import Environment, TemplateError, meta

    plain = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)  # transformers' own tag
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).parse(plain)
    except TemplateError:
        return frozenset()
    return frozenset(meta.find_undeclared_variables(tree)) - OTHER_VARIABLES


def after_thinking(text: str) -> str | None:
    """What follows the last think block of a text, in whatever markers; None where a block is opened and not closed.

    For texts that came without token ids. A text without markers is returned as it is.
    """
    last = 0
    for found in re.finditer(NAMED, text):
        if ABOUT_THINKING.search(found[0]) and CLOSES.search(found[0]):
            last = found.end()
    for _, opening, closing in FORMLESS:
        if closing in text:
            last = max(last, text.rfind(closing) + len(closing))
        elif opening in text[last:]:
            return None
    if last:
        return text[last:]
    return None if any(ABOUT_THINKING.search(found) for found in re.findall(MARKER, text)) else text
