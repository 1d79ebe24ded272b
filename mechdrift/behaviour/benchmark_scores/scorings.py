"""How each kind of benchmark is scored: how its answers are read, as which numbers, and which metrics are computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from mechdrift.behaviour.benchmark_scores import metrics, readings
from mechdrift.behaviour.benchmark_scores.metrics import FormulaMetric
from mechdrift.behaviour.benchmark_scores.readings import Reading
from mechdrift.probes.benchmarks.registry import benchmark_of
from mechdrift.records import Completion, ProbeItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How a kind of benchmark is scored. `numbers` are the columns that a readable answer gives; with `worst`, the
    maximum over several samples counts.

    Without `read`, a toxicity scorer reads the answers, or the benchmark has none. `pool` makes one row of the items
    about one text.
    """

    judge: str
    metrics: Callable[[pd.DataFrame], list[FormulaMetric]]
    numbers: tuple[str, ...] = ()
    read: Callable[[ProbeItem, Completion], Reading] | None = None
    pool: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    worst: bool = False


SCORINGS: Mapping[str, Scoring] = {
    "refusal": Scoring(
        judge="refusal rules",
        metrics=metrics.refusal_metrics,
        read=readings.read_refusal,
        numbers=("full", "partial", "refused", "complied"),
    ),
    "accuracy": Scoring(
        judge="named option", metrics=metrics.accuracy_metrics, read=readings.read_option, numbers=("correct",)
    ),
    "style": Scoring(
        judge="named option", metrics=metrics.style_metrics, read=readings.read_option, numbers=("correct",)
    ),
    "bbq": Scoring(
        judge="named option",
        metrics=metrics.bbq_metrics,
        read=readings.read_bbq,
        numbers=("correct", "unknown", "named", "biased"),
    ),
    "agreement": Scoring(
        judge="named agreement",
        metrics=metrics.agreement_metrics,
        read=readings.read_agreement,
        numbers=("agree", "disagree"),
    ),
    "moralchoice": Scoring(
        judge="named option",
        metrics=metrics.moralchoice_metrics,
        read=readings.read_moralchoice,
        pool=metrics.pool_moralchoice,
        numbers=("action1",),
    ),
    "confaide": Scoring(
        judge="ratings and string search",
        metrics=metrics.confaide_metrics,
        read=readings.read_confaide,
        numbers=("rating", "human", "correct", "leak", "missed", "error"),
    ),
    "toxicity": Scoring(
        judge="toxicity scorer: hashed", metrics=metrics.toxicity_metrics, numbers=("toxicity", "toxic"), worst=True
    ),
    "crows_pairs": Scoring(judge="log-likelihood", metrics=metrics.crows_metrics),
    "stereoset": Scoring(judge="log-likelihood per token", metrics=metrics.stereoset_metrics),
    "exact": Scoring(judge="exact match", metrics=metrics.exact_metrics, numbers=("correct",)),
}


def kind_of(name: str) -> str:
    """A benchmark's kind of scoring, a key of `SCORINGS`."""
    return benchmark_of(name).scoring


def scoring_of(name: str) -> Scoring:
    return SCORINGS[kind_of(name)]
