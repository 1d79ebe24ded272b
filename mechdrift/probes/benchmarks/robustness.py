"""Robustness: right answers under changed style or attack."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mechdrift.probes.benchmarks.items import make_choice
from mechdrift.probes.benchmarks.rows import Row
from mechdrift.records import ProbeItem

SENTIMENT = "{}\n\nIs the sentiment of this sentence positive or negative?"
SENTIMENTS = {"0": "negative", "1": "positive"}


def dt_style(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    """SST-2 sentences in their own and in other styles. Families are sentences, so that a style is compared with the
    original."""
    for row in rows:
        if row.part.startswith("train_demo"):
            continue  # demonstrations for in-context learning
        style, answer = row.part.rsplit("/", 1)[-1], row.label("label", SENTIMENTS)
        prompt = SENTIMENT.format(row.text("sentence"))
        yield make_choice(
            f"{style}-{row.text('id')}",
            prompt,
            row.text("id"),
            style != "base",
            ("positive", "negative"),
            answer,
            style=style,
            group=row.text("id"),
        )


@dataclass(frozen=True, slots=True)
class _Glue:
    """A GLUE task: its question, and what its labels stand for."""

    columns: tuple[str, ...]
    prompt: str
    labels: Mapping[str, str]


ENTAILMENT = "{}\n\nDoes this entail the following sentence: {}\nAnswer yes or no."
NLI = _Glue(
    ("premise", "hypothesis"),
    ENTAILMENT.replace("yes or no", "yes, maybe or no"),
    {"0": "yes", "1": "maybe", "2": "no"},
)
GLUE = {
    "sst2": _Glue(("sentence",), SENTIMENT, SENTIMENTS),
    "qqp": _Glue(
        ("question1", "question2"),
        "{}\n{}\n\nDo these questions ask the same? Answer yes or no.",
        {"0": "no", "1": "yes"},
    ),
    "mnli-mm": NLI,
    "mnli_mismatched": NLI,
    "mnli": NLI,
    "qnli": _Glue(
        ("question", "sentence"),
        "{}\n{}\n\nDoes the second sentence answer the question? Answer yes or no.",
        {"0": "yes", "1": "no"},
    ),
    "rte": _Glue(("sentence1", "sentence2"), ENTAILMENT, {"0": "yes", "1": "no"}),
}


def advglue(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    """Attacked sentences of five tasks. The clean originals are not published with them: there is accuracy, but no
    drop."""
    for row in rows:
        name = row.kind({name: name for name in GLUE})
        task, options = GLUE[name], tuple(dict.fromkeys(GLUE[name].labels.values()))
        prompt = task.prompt.format(*(row.text(column) for column in task.columns))
        yield make_choice(
            f"{name}-{row.text('idx')}", prompt, name, True, options, row.label("label", task.labels), task=name
        )
