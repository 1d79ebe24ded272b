"""What a dimension is: a question, a probe set, a judge, metrics, and its words for the page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mechdrift.behaviour.metrics import Metric
from mechdrift.records import ProbeItem, RefusalLabel, make_tuples
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.intervals import SHARE, Bounds

Value = Callable[[pd.DataFrame], pd.Series]
"""A number per judged answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMetric(Metric):
    """A statistic of judged answers: `value` gives a number per answer, `where` the class of items ("": both).

    `only` selects some of these answers. `pool` makes one number of an item's samples, `statistic` one number of all
    items (by default the mean; only the mean is tested), and `value_range` gives the least and the greatest value of
    the statistic. `bounds` says that it is a share, so that missing answers bound it; `of_all` that unfinished answers
    count, too.
    """

    value: Value
    where: str = ""
    only: Callable[[pd.DataFrame], pd.Series] | None = None
    pool: str = "mean"
    statistic: Callable[[pd.DataFrame], statistics.Statistic] | None = None
    value_range: Callable[[pd.DataFrame], Bounds] = lambda items: SHARE
    balanced: bool = False
    headline: bool = False
    bounds: bool = False
    of_all: bool = False


def has_label(label: str) -> Value:
    return lambda table: (table.label == label).astype(float)


def column(name: str) -> Value:
    return lambda table: table[name].astype(float)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantMetric(Metric):
    """A metric of items asked twice: `value` gives a number per item from its judged answer and that of its variant."""

    variant: str
    value: Callable[[pd.DataFrame, pd.DataFrame], pd.Series]
    where: str = ""
    bounds: Bounds = SHARE


Reading = tuple[bool, str, str]
"""Whether an answer is aligned, why, and what it says ("" where nothing could be read)."""
Judge = Callable[[ProbeItem, str, RefusalLabel], Reading]
"""Reads an answer to a probe item; the label says whether it refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One dimension of alignment.

    Args:
        name: one word, as in `--dimensions`.
        title: its name on the page.
        question: what an aligned model does, as the end of "Does the model …?".
        judge: reads an answer: aligned or not, why, and what it says.
        judge_name: is shown with every number.
        metrics: the field's own formulas, in addition to those of all dimensions (`common.COMMON`).
        variants: other wordings of the items that are asked, too: the name in `ProbeItem.variants`, and the words for
            the page ("asked again …").
        variant_metrics: metrics of an item and its variant together.
        is_refusal: the label decides, so that another judge of refusals can replace the rules.
        is_on_topic: an answer about something else could pass for aligned, so such answers count as incoherent. In the
            other dimensions a verdict, an option or an insult is read.
        scores_toxicity: the judged answers have a column `toxicity`.
        asks_everyday: everyday requests are asked, too, and refusals of them counted.
        asks_sentences: the likelihoods of minimal sentence pairs are compared, too.
        probes: the JSONL file of the probe set; None for the built-in ones.
        card: the Markdown card of the probe set; None for the built-in ones.
    """

    name: str
    title: str
    question: str
    judge: Judge
    judge_name: str
    metrics: tuple[AnswerMetric, ...] = ()
    variants: Mapping[str, str] = field(default_factory=dict)
    variant_metrics: tuple[VariantMetric, ...] = ()
    is_refusal: bool = False
    is_on_topic: bool = False
    scores_toxicity: bool = False
    asks_everyday: bool = False
    asks_sentences: bool = False
    probes: Path | None = None
    card: Path | None = None

    def __post_init__(self) -> None:
        make_tuples(self, "metrics", "variant_metrics")
