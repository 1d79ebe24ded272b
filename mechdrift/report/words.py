"""The words and number formats that figures, sentences and tables share.

Shares are in per cent and their differences in points, everything else has two decimals, the minus sign is a true one,
and a p-value has at most three decimals.
"""

import math
import re
from collections.abc import Iterable

from mechdrift.behaviour.dimensions.registry import REGISTRY, all_metrics
from mechdrift.records import ROLES, Side

MINUS, DASH = "\u2212", "\u2014"

ROUTE_NAMES = {
    "SFT": "supervised fine-tuning (SFT)",
    "guarded SFT": "supervised fine-tuning with some safety data (guarded SFT)",
    "RL": "reinforcement learning (RL)",
    "distillation": "distillation from a reasoning model",
    "null": "training on harmless requests without thinking (a null model)",
    "unknown": "an unknown route",
}
SIDE_NAMES: dict[Side, str] = {"instruct": "instruct model", "reasoning": "reasoning model"}
THINK_NAMES = {
    "none": "no think block",
    "off": "empty think block",
    "own": "own thinking",
    "donor": "the other model's thinking",
}
BETTER = {
    "higher": ("↑", "higher is better"),
    "lower": ("↓", "lower is better"),
    "zero": ("→ 0", "zero is best"),
    "half": ("→ ½", "one half is best"),
}
PAGE_WORDS = (
    ("aligned answer", "an answer that does what alignment asks for on its prompt, such as refusing a harmful request"),
    (
        "trigger, neutral twin",
        "a prompt that calls for special behaviour (such as refusing), and one that looks alike but calls for plain "
        "help",
    ),
    (
        "family",
        "prompts that share a topic or a template; since they are not independent, whole families are resampled",
    ),
    ("95% interval", "the range of values that fit the answers; where it holds 0, there may be no change"),
    (
        "p, adjusted p",
        "the chance of so large a difference if nothing had changed; it is adjusted (made larger) where several "
        "differences are tested, because one of them may be large by chance",
    ),
    ("token", "a word or a part of a word, which models read and write one at a time"),
    ("layer, token role", "a step of the model's computation, and a place in the prompt, such as its last token"),
    ("activation", "the numbers that a layer writes at a token"),
    ("direction", "the difference between a model's mean activations on triggers and on neutral twins"),
    ("AUROC", "the area under the ROC curve: how well a number ranks cases; 0.5 is chance, 1 is perfect"),
    ("readout", "how strongly a model leans to opening its answer as a trigger calls for, in log-odds; 0 is undecided"),
    ("log-odds", "the logarithm of how much likelier one side is: +1 means 2.7 times as likely, +2 means 7.4 times"),
    ("KL, nats", "how far apart two models' predictions of the next token are, and its unit; 0 means identical"),
    ("patching", "copying one activation of one model into the other, to see what it carries"),
    ("gap, recovery", "how far the two models' readouts lie apart, and the share of that gap that a copy brings back"),
    ("graft", "giving one model the weights of the other in some layers, to see what originates there"),
    ("placebo", "a patch that should do nothing, such as an activation from another prompt"),
    ("null model", "a model that was trained for as long, but not to reason; it shows what training as such does"),
    ("think block", "the text that a reasoning model writes before its answer; it can be left empty"),
    ("donor, recipient", "the model that an activation or weight is taken from, and the one that it is put into"),
)
ROLE_NAMES = {
    "system": "the system prompt",
    "user": "the question",
    "template_tail": "what the chat template adds after the question",
    "think_open": "the marker that opens the thinking",
    "think": "the thinking",
    "think_close": "the marker that closes the thinking",
    "answer": "the answer",
}


def dimension_name(dimension: str) -> str:
    """A dimension, or "reasoning", in words. A name that is not registered, as in an old run, stands for itself."""
    return REGISTRY[dimension].title if dimension in REGISTRY else dimension.replace("_", " ").capitalize()


def dimension_questions() -> dict[str, str]:
    """What an aligned model does, by dimension."""
    return {name: dimension.question for name, dimension in REGISTRY.items()}


def metric_name(metric: str) -> str:
    """A metric in words. A name that is not registered, as in an old run, stands for itself."""
    return next((known.words for known in all_metrics() if known.name == metric), metric.replace("_", " "))


def variant_name(variant: str) -> str:
    """How a variant of an item differs from it: "without the style"."""
    words = {name: text for dimension in REGISTRY.values() for name, text in dimension.variants.items()}
    return words.get(variant, variant)


def role_name(role: str) -> str:
    """A role in words: `template_tail[-1]` is "the last token of what the chat template adds after the question"."""
    word, index = split_role(role)
    name = ROLE_NAMES.get(word, word)
    if index is None:
        return name
    if index >= 0:
        return f"token {index + 1} of {name}"
    return f"the last token of {name}" if index == -1 else f"{ordinal(-index)} token from the end of {name}"


def split_role(role: str) -> tuple[str, int | None]:
    """`"think_close[-1]"` to `("think_close", -1)`, `"answer"` to `("answer", None)`."""
    found = re.fullmatch(r"(\w+)\[(-?\d+)\]", role)
    return (found[1], int(found[2])) if found else (role, None)


def order_roles(roles: Iterable[str]) -> list[str]:
    """Distinct roles in the order in which they occur in a prompt; unknown ones last."""

    def place(role: str) -> tuple[int, int]:
        word, index = split_role(role)
        return (ROLES.index(word) if word in ROLES else len(ROLES), index or 0)

    return sorted(dict.fromkeys(roles), key=place)


def readout_role(roles: Iterable[str]) -> str:
    """The role whose logits predict the first answer token: the last one before the answer."""
    ordered = order_roles(roles)
    before = [role for role in ordered if split_role(role)[0] != "answer"]
    return (before or ordered)[-1]


def ordinal(number: int) -> str:
    """ "1st", "2nd", "11th"."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def is_share(metric: str) -> bool:
    """Whether a metric is a share of answers, which is shown in per cent."""
    return all(known.is_share for known in all_metrics() if known.name == metric)


def number(value: float, *, share: bool = False, signed: bool = False) -> str:
    """`0.214` as "21%" (share) or "0.21"; an em dash where there is none."""
    if value is None or math.isnan(value):
        return DASH
    value = value * 100 if share else value
    text = f"{abs(value):.0f}" if share else f"{abs(value):.2f}"
    is_zero = float(text) == 0
    sign = "" if is_zero else MINUS if value < 0 else "+" if signed else ""
    return f"{sign}{text}%" if share and not signed else f"{sign}{text}"


def difference(value: float, *, share: bool) -> str:
    """A signed difference: "−21 points" of a share, "−0.40" of anything else."""
    text = number(value, share=share, signed=True)
    return text if not share or text == DASH else f"{text} {'point' if text[1:] == '1' else 'points'}"


def interval(low: float, high: float, *, share: bool = False, signed: bool = False) -> str:
    """ "74 to 90" (a share, in per cent), "−1.25 to −0.55"; empty where there is none."""
    ends = [number(end, share=share, signed=signed).removesuffix("%") for end in (low, high)]
    return "" if DASH in ends else " to ".join(ends)


def p_value(p: float) -> str:
    """ "p = 0.012", "p < 0.001"."""
    if p is None or math.isnan(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def bare_p(p: float | None) -> str:
    """A p-value for a table's cell: "0.012", "< 0.001"; an em dash where there is none."""
    return DASH if p is None or math.isnan(p) else p_value(p).removeprefix("p ").removeprefix("= ")


def listing(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def capitalised(text: str) -> str:
    """The text with a capital first letter; the rest stays."""
    return text[:1].upper() + text[1:]


def shortened(text: str, length: int) -> str:
    """One line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def layer_range(layers: Iterable[int]) -> str:
    """ "layer 7", "layers 7 to 12"."""
    ordered = sorted(layers)
    return f"layer {ordered[0]}" if len(ordered) == 1 else f"layers {ordered[0]} to {ordered[-1]}"
