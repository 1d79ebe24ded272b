"""Outside judges, which can replace the refusal rules and be compared with them.

A `RefusalJudge` has a `name`, which goes with every number made from its labels, and maps prompts and completions to
one `Judged` each.

    RuleJudge         the built-in rules (`refusals.judge_refusals`)
    ClassifierJudge   a Hugging Face text classifier, from a hub id or a folder
    ChatJudge         a chat model behind an OpenAI-compatible endpoint (`chat`)
    HarmJudge         the same, asked how much harm an answer does (`harm`)

An outside judge may fail where a rule cannot: it is slow, it is down, it replies with something else, or it refuses to
judge. A failure says nothing about the completion, so it is not a label: `Judged.label` is None, `Judged.why` says what
happened, and `failures` counts them. Rates are taken over the answers that were judged, and the number of failures is
shown with them; a judge that fails mostly on harmful texts biases its rates.

Every judge judges the answer, never the thinking, and is not asked about a missing answer, which is `incomplete`. A
classifier reads at most the first 512 tokens, where refusals are. `files.load_judge` makes a judge from a TOML file;
`keeping` says what an audit does when a judge fails.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args, runtime_checkable

from mechdrift.behaviour.judges.refusals import deciding_clause, judge_refusals
from mechdrift.pairs.markers import after_thinking
from mechdrift.records import MechdriftError, RefusalLabel

OPENING_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A label, or None where the judge failed; `why` then begins with the kind of failure and a colon. `harm` is from 0
    to 1, where the judge scores it (`judges.harm`)."""

    label: RefusalLabel | None
    why: str
    harm: float | None = None


@runtime_checkable
class RefusalJudge(Protocol):
    """A judge that can replace the refusal rules."""

    @property
    def name(self) -> str: ...

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Judged]: ...


def failures(judged: Sequence[Judged]) -> dict[str, int]:
    """How often the judge failed, by kind of failure."""
    return dict(Counter(item.why.split(":")[0] for item in judged if item.label is None))


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleJudge:
    """The built-in rules: deterministic, offline, never failing."""

    name: str = "refusal rules"

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Judged]:
        labels = judge_refusals(prompts, completions)
        return [
            Judged(label=label, why=_sentence(label, prompt, completion))
            for label, prompt, completion in zip(labels, prompts, completions, strict=True)
        ]


def _sentence(label: RefusalLabel, prompt: str, completion: str) -> str:
    """What decided: for a refusal, the clause that speaks most for it."""
    said = deciding_clause(after_thinking(completion) or "", prompt) if label in ("refusal", "partial") else ""
    return f"rules: {said}" if said else "rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierJudge:
    """A sequence classifier. `labels` maps each of its labels to one of mechdrift's; it reads `template`, filled in, as
    plain text."""

    model: str
    labels: Mapping[str, RefusalLabel]
    revision: str | None = None
    template: str = "{completion}"
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_settings(self.labels, self.template)

    @property
    def name(self) -> str:
        return f"{self.model.rstrip('/').rsplit('/', 1)[-1]} (classifier, setting {fingerprint(self)})"

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Judged]:
        return judge_answers(prompts, completions, self._classify)

    def _classify(self, exchanges: list[tuple[str, str]]) -> list[Judged]:
        from transformers import pipeline  # takes seconds to import, and the rules do not need it

        try:
            classify = pipeline("text-classification", model=self.model, revision=self.revision)
        except (OSError, ValueError) as error:
            raise MechdriftError(
                f"The judge {self.model!r} cannot be loaded as a text classifier: give the hub id or the folder of a "
                "model with a sequence-classification head and its tokenizer."
            ) from error
        config, tokenizer = classify.model.config, classify.tokenizer
        assert tokenizer is not None  # a text classifier is loaded with one, or not at all
        # Without a saved classification head, transformers would make a random one.
        if not any("SequenceClassification" in name for name in config.architectures or ()):
            raise MechdriftError(
                f"The model {self.model!r} is not a text classifier: give one that was saved with a classification "
                "head."
            )
        theirs = set((config.id2label or {}).values())
        if unmapped := sorted(theirs - set(self.labels)):
            raise MechdriftError(
                f"The classifier {self.model!r} has labels without a meaning here: add {', '.join(unmapped)} to "
                "`labels`."
            )
        texts = [fill(self.template, prompt, answer) for prompt, answer in exchanges]
        room = min(
            tokenizer.model_max_length, getattr(config, "max_position_embeddings", OPENING_TOKENS), OPENING_TOKENS
        )
        # A classifier without a padding token cannot take several texts at once.
        batch = self.batch_size if tokenizer.pad_token_id is not None else 1
        found = classify(texts, batch_size=batch, truncation=True, max_length=room)
        return [Judged(label=self.labels[row["label"]], why=f"{row['label']} ({row['score']:.2f})") for row in found]


def judge_answers(
    prompts: Sequence[str], completions: Sequence[str], ask: Callable[[list[tuple[str, str]]], list[Judged]]
) -> list[Judged]:
    """Ask about the answers that exist, without their thinking; a missing answer is `incomplete` without asking."""
    missing = [label == "incomplete" for label in judge_refusals(prompts, completions)]
    answers = [(after_thinking(text) or "").strip() for text in completions]
    asked = [(p, a) for p, a, gone in zip(prompts, answers, missing, strict=True) if not gone]
    replies = iter(ask(asked) if asked else [])
    return [Judged(label="incomplete", why="no answer") if gone else next(replies) for gone in missing]


def fill(template: str, prompt: str, completion: str) -> str:
    """The template with both placeholders replaced in one pass, so that braces inside a prompt or an answer stay."""
    values = {"{prompt}": prompt, "{completion}": completion}
    return re.sub(r"\{(?:prompt|completion)\}", lambda found: values[found[0]], template)


def check_settings(labels: Mapping[str, str], template: str) -> None:
    """Raise unless a judge's words map to labels of mechdrift's, and its template holds the answer."""
    if wrong := sorted(set(labels.values()) - set(get_args(RefusalLabel))):
        raise MechdriftError(
            f"A judge maps to {', '.join(wrong)}, which are not labels: use {', '.join(get_args(RefusalLabel))}."
        )
    if not labels:
        raise MechdriftError("A judge needs `labels`: say which of its words stands for which of mechdrift's labels.")
    if "{completion}" not in template:
        raise MechdriftError("A judge's template must contain {completion}: put it where the answer belongs.")


def fingerprint(judge: object) -> str:
    """Six hexadecimal digits of a hash of everything that changes the labels, so that two settings of one model have
    different names."""
    parts = ("model", "revision", "labels", "template", "rubric", "options")
    setting = {part: getattr(judge, part) for part in parts if hasattr(judge, part)}
    text = json.dumps(setting, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:6]
