"""What a metric is: its name, its formula in words, which direction is good, and its unit. Every number of a score
table has a metric.

How a metric is computed stands in the records that build on this one:

    dimensions.record.AnswerMetric            a statistic of judged answers
    dimensions.record.VariantMetric           of items that were asked twice, in other words
    benchmark_scores.metrics.FormulaMetric    a benchmark's own formula
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "zero", "half", "none"]
SHARE = "share"  # from 0 to 1; pages show it in per cent


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `convention` is its formula in words, with the denominator; `better` says which value is good, or
    `none` where neither way is; `title` is what pages call it, by default its name."""

    name: str
    convention: str
    better: Better
    unit: str = SHARE
    title: str = ""

    @property
    def is_share(self) -> bool:
        """Whether pages show it in per cent."""
        return self.unit == SHARE

    @property
    def words(self) -> str:
        """What pages call it."""
        return self.title or self.name.replace("_", " ")

    @property
    def columns(self) -> Mapping[str, str]:
        """What a row of a score table says of its metric."""
        return {"metric": self.name, "convention": self.convention, "better": self.better}
