"""A run turned back into records: what each model answered, how it was judged, and the readouts that follow from it.

Stages after `answers`, trajectories, experiments and notebooks all start from here:

    run = md.load_run("runs/demo")
    pair, answers = reopen(run)
    answers.completions("safety", "reasoning")      # the answers as records, in the order of the probe set
    answers.readout("safety")                       # calibrated on what both models wrote

The table of completions is read once, and every opening is encoded once (`Renderer.first_token`), however many readouts
are asked for. The run has to have finished its stage `answers`; later stages are not needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.readouts import Observed, Readout, Validation, make_readout, observe, validate
from mechdrift.audits.config import Audit
from mechdrift.audits.plan import load_from
from mechdrift.pairs.chat import ChatOptions
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.pair_files import PairFile
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.sets import load_probes
from mechdrift.records import DIMENSIONS, SIDES, Completion, Completions, ProbeSet, Side
from mechdrift.runs import Run

SAY_NOTHING = ("", "incoherent", "incomplete")  # labels of answers that show neither behaviour


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswers:
    """Both models' answers to the probe sets of a run: the first sample of each item.

    `sets` are the probe sets by dimension, `table` the rows of `completions.parquet`, and `renderer` that of the
    reasoning model, in whose tokens readouts are defined.
    """

    sets: Mapping[str, ProbeSet]
    table: pd.DataFrame
    renderer: Renderer

    @classmethod
    def read(cls, run: Run, sets: Mapping[str, ProbeSet], renderer: Renderer) -> "RunAnswers":
        """The answers that a run holds; raises where the stage `answers` is not finished, or the table is damaged."""
        table = run.table("completions")
        return cls(sets=sets, table=table[table["sample"] == 0], renderer=renderer)

    def rows(self, dimension: str, side: Side) -> pd.DataFrame:
        """One model's judged answers to one set, by item."""
        return self.table[(self.table.dimension == dimension) & (self.table.side == side)].set_index("item")

    def completions(self, dimension: str, side: Side) -> Completions:
        """The same answers as records, in the order of the probe set."""
        rows = self.rows(dimension, side)
        found = tuple(_completion(item.id, side, rows) for item in self.sets[dimension])
        return Completions(side=side, think=rows.think.iloc[0], rows=found)

    def observed(self, dimension: str, side: Side) -> list[Observed]:
        """What one model did, to calibrate and validate a readout on. Incoherent answers and answers that were not
        judged are left out."""
        rows = self.rows(dimension, side)
        told = [row for row in self.completions(dimension, side) if rows.label[row.item_id] not in SAY_NOTHING]
        return observe(self.sets[dimension], told, [bool(rows.aligned[row.item_id]) for row in told])

    def readout(self, dimension: str, sides: Sequence[Side] = SIDES) -> Readout:
        """A readout calibrated on what these models wrote; by default on both, so that one readout measures both."""
        seen = [row for side in sides for row in self.observed(dimension, side)]
        return make_readout(self.renderer, self.sets[dimension], seen)

    def validate(self, dimension: str, side: Side, logits: Float[Tensor, "prompt vocab"], seed: int) -> Validation:
        """How well readouts at `logits`, one row per item of the set, follow what this model was judged to do."""
        probes = self.sets[dimension]
        by_item = dict(zip([item.id for item in probes], logits, strict=True))
        return validate(self.renderer, probes, by_item, self.observed(dimension, side), seed)


def completions_of(table: pd.DataFrame, side: Side) -> Completions:
    """One model's rows of a table of completions (`Completions.frame`), one per item, as records."""
    rows = table[table.side == side].set_index("item")
    think = rows.think.iloc[0]
    return Completions(side=side, think=think, rows=tuple(_completion(item, side, rows) for item in rows.index))


def _completion(item_id: str, side: Side, rows: pd.DataFrame) -> Completion:
    row = rows.loc[item_id]
    return Completion(
        item_id=item_id,
        side=side,
        think=row.think,
        thinking=row.thinking,
        answer=row.answer,
        closed=bool(row.closed),
        finished=bool(row.finished),
        stopped=bool(row.get("stopped", False)),
        engine=str(row.get("engine", "")),
        thinking_ids=tuple(map(int, row.thinking_ids)),
        answer_ids=tuple(map(int, row.answer_ids)),
    )


def reopen(run: Run) -> tuple[Pair, RunAnswers]:
    """The pair of a run, with no weights loaded yet, and its answers."""
    config, file = config_of(run)
    pair = load_from(config, file)
    answers = RunAnswers.read(run, {}, Renderer(pair.tokenizer("reasoning")))
    asked = set(answers.table["item"])
    sets = {name: load_probes(name) for name in DIMENSIONS if name in set(answers.table.dimension)}
    kept = {
        name: replace(probes, items=tuple(item for item in probes if item.id in asked)) for name, probes in sets.items()
    }
    return pair, replace(answers, sets=kept)


def config_of(run: Run) -> tuple[Audit, PairFile | None]:
    """The configuration of a run without its folder, and the content of its pair file, where it had one."""
    stored, names = run.manifest["config"], {field.name for field in fields(Audit)} - {"out", "chat"}
    settings = {name: stored[name] for name in names & set(stored)}
    settings |= {"dimensions": tuple(stored["dimensions"])}
    settings |= {name: Path(stored[name]) if stored.get(name) else None for name in ("layout", "judge")}
    file = PairFile(**stored["pair_file"]) if stored.get("pair_file") else None
    return Audit(**settings, chat=ChatOptions(**stored.get("chat", {}))), file
