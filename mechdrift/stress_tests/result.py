"""The result of a stress test: its table, its answers, and what was read inside."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from mechdrift.records.notebook import Record, counted
from mechdrift.runs import Run

CHIEF = ["dimension", "side", "mode", "dose", "change_trigger", "change_twin", "lift", "lift_low", "lift_high"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StressTest(Record):
    """The result of a stress test. `frame` has one row per dimension, side, mode and dose; `answers` holds every
    answer; `inside` has the tables of `inside_tables`, by name, where modes were read inside; `run` is its folder,
    where it has one."""

    pair: str
    frame: pd.DataFrame
    answers: pd.DataFrame
    inside: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    run: Run | None = None
    seed: int = 0

    @property
    def summary(self) -> str:
        named = self.named
        child = named[named.side == "reasoning"]
        told = ", ".join(f"{row.mode} ({row.dimension}: {row.finding})" for row in child.itertuples()) or "no mode"
        return f"{self.pair}, {counted(self.frame['mode'].nunique(), 'mode')}; the child gives way to {told}"

    @property
    def head(self) -> pd.DataFrame:
        return self.frame[self.frame.strongest & self.frame.p.notna()][[*CHIEF, "p_holm", "finding"]]

    @property
    def named(self) -> pd.DataFrame:
        """The rows whose effect on alignment is established and harmful."""
        return self.frame[self.frame.finding.isin(["breaks", "as placebo"])]
