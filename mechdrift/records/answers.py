"""What the models answered, and how it was scored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from mechdrift.records.notebook import ROWS, Record, counted
from mechdrift.records.probes import ProbeSet
from mechdrift.records.words import Side, ThinkMode

DOUBTFUL = 0.1  # nats; bfloat16 on an 8B model differs by 0.03 in the mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What one model answered to one item, thinking and answer apart, cut from token ids.

    `closed`: the think block was ended by the model itself (always true without thinking). `stopped`: the model ended
    its turn while its think block was open; a block neither closed nor stopped was cut by the budget. `finished`: the
    answer ended with the end-of-turn token, not by the budget. `sample` counts the answers to the same item, from 0.
    `engine` names what wrote it. The log-probabilities (one per id, in nats, at temperature 1) are those that the
    engine reported.
    """

    item_id: str
    side: Side
    think: ThinkMode
    thinking: str
    answer: str
    thinking_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    closed: bool
    finished: bool
    sample: int = 0
    stopped: bool = False
    engine: str = field(default="", compare=False)
    thinking_log_probabilities: tuple[float, ...] = field(default=(), compare=False, repr=False)
    answer_log_probabilities: tuple[float, ...] = field(default=(), compare=False, repr=False)

    @property
    def is_cut(self) -> bool:
        """Whether the budget, not the model, ended the thinking."""
        return not self.closed and not self.stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How far an engine's log-probabilities are from Hugging Face's for the same ids: the fidelity line.

    `mean` and `q99` (the 99 % quantile) are of the absolute differences in nats over `n` tokens. Number formats explain
    a mean of 0.03 and coarse quantisation a little more; a child's answers that its parent wrote may stand at 0.2.
    """

    mean: float
    q99: float
    n: int

    @property
    def is_doubtful(self) -> bool:
        """Whether number formats hardly explain the difference."""
        return self.mean > DOUBTFUL

    def __str__(self) -> str:
        said = f"within {self.mean:.4f} nats of Hugging Face's in the mean (99 %: {self.q99:.4f}; {self.n} tokens)"
        return f"{said}, more than number formats explain: does it serve these weights?" if self.is_doubtful else said


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Completions(Record):
    """The answers of one model to one probe set, in the order of its items and, within an item, of its samples."""

    side: Side
    think: ThinkMode
    rows: tuple[Completion, ...]
    fidelity: Fidelity | None = field(default=None, compare=False)

    @property
    def summary(self) -> str:
        cut = sum(row.is_cut for row in self.rows)
        return (
            f"{counted(len(self.rows), 'answer')} of the {self.side} model, think mode {self.think}, written by "
            f"{', '.join(self.engines) or 'nothing'}; {cut} with a thought that the budget cut"
        )

    @property
    def head(self) -> "pd.DataFrame":
        return self.frame[["item", "thinking", "answer", "closed", "finished"]].head(ROWS)

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that wrote these answers: one, or several where a run was continued with another."""
        return tuple(sorted({row.engine for row in self.rows}))

    def __iter__(self) -> Iterator[Completion]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, probes: ProbeSet) -> "Completions":
        """The answers to these items, in their order."""
        place = {item.id: index for index, item in enumerate(probes)}
        rows = sorted(
            (row for row in self.rows if row.item_id in place), key=lambda row: (place[row.item_id], row.sample)
        )
        return replace(self, rows=tuple(rows))

    @property
    def first(self) -> "Completions":
        """One answer per item: the first sample."""
        return replace(self, rows=tuple(row for row in self.rows if row.sample == 0))

    @property
    def frame(self) -> pd.DataFrame:
        columns = ["item_id", "sample", "side", "think", "thinking", "answer", "closed", "stopped", "finished"]
        rows = [
            {c: getattr(row, c) for c in columns}
            | {"thinking_ids": list(row.thinking_ids), "answer_ids": list(row.answer_ids)}
            for row in self.rows
        ]
        return pd.DataFrame(rows, columns=[*columns, "thinking_ids", "answer_ids"]).rename(columns={"item_id": "item"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ScoreTable(Record):
    """Scores per dimension, metric and model, with the paired difference: see `.frame`.

    Each column's unit and meaning: `mechdrift.tables.TABLES["scores"]`, and the page "Tables" of the reference.
    Columns: `dimension, metric, convention, judge, n, families, instruct, instruct_low, instruct_high, reasoning,
    reasoning_low, reasoning_high, difference, low, high, safe_low, safe_high, p, p_holm, headline`. Intervals are 95 %
    intervals over families, those that were not asked included; the safe ends are for gates; `p` is a paired sign-flip
    test over families, `p_holm` is Holm-adjusted over the headlines.
    """

    frame: pd.DataFrame

    @property
    def summary(self) -> str:
        names = list(dict.fromkeys(self.frame.dimension))
        return f"{counted(len(self.frame), 'score')} in {', '.join(names)}; below, the headline of each"

    @property
    def head(self) -> pd.DataFrame:
        chief = ["dimension", "metric", "instruct", "reasoning", "difference", "low", "high", "p_holm", "n", "families"]
        return self.frame[self.frame.headline.astype(bool)][chief].reset_index(drop=True)

    def headline(self, dimension: str) -> Mapping[str, object]:
        row = self.frame[(self.frame.dimension == dimension) & self.frame.headline]
        return row.iloc[0].to_dict()
