"""What a metric is: its name, its formula in words, which direction is good, and its unit.

Every row of a score table has a metric. The records that extend this one say how a metric is computed:

    dimensions.record.AnswerMetric            a statistic of judged answers
    dimensions.record.VariantMetric           a statistic of items that were asked twice, in different words
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
        """The columns of a score table that describe the metric."""
        return {"metric": self.name, "convention": self.convention, "better": self.better}
