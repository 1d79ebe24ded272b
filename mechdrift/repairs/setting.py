"""An audit opened again for repairs: the pair, how it was asked, the halves of the items, and what both models
answered."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from mechdrift.activations.readouts import Readout
from mechdrift.audits.answers import RunAnswers, reopen
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.files import load_judge
from mechdrift.behaviour.labels import RULES
from mechdrift.behaviour.sampling import Budget
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, Completions, MechdriftError, Side
from mechdrift.repairs.answered import kept_items
from mechdrift.repairs.divergences import Text
from mechdrift.repairs.evidence import Evidence, base_of
from mechdrift.repairs.halves import Asked, Half, split
from mechdrift.repairs.training import Row
from mechdrift.runs import Run

KL_TEXTS = 8  # tasks per half, and as many harmless prompts


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a run asked its models, and what it asked on each half."""

    source: Run
    pair: Pair
    answers: RunAnswers
    halves: dict[Half, Asked]
    seed: int

    @property
    def manifest(self) -> dict[str, Any]:
        return self.source.manifest

    @property
    def dtype(self) -> str:
        """The number format in which the run's answers were written."""
        return self.manifest["dtypes"]["generation"]

    @property
    def budget(self) -> Budget:
        """The child's budget in the run: given, or found by its pilot."""
        if "pilot" in self.manifest:
            found = self.manifest["pilot"]["reasoning"]
            return Budget(think=found.get("think", 1), answer=found["answer"])
        return Budget(**{name: self.manifest["budgets"][name] for name in ("think", "answer")})

    @cached_property
    def judge(self) -> RefusalJudge:
        path = self.manifest["config"].get("judge")
        return load_judge(path) if path else RULES

    @cached_property
    def tasks(self) -> pd.DataFrame:
        return self.source.table("tasks")

    def evidence(self, base: str | None) -> Evidence:
        """The seen half, as methods may look at it."""
        sets = self.halves["seen"].sets
        asked = {item.id for probes in sets.values() for item in probes}
        table = self.answers.table
        seen = replace(self.answers, sets=sets, table=table[table["item"].isin(asked)])
        return Evidence(
            pair=self.pair,
            sets=sets,
            answers=seen,
            base=base_of(self.pair, base),
            own_tasks=self.own_tasks("seen"),
            think_budget=self.budget.tokens[0],
            seed=self.seed,
        )

    def own_tasks(self, half: Half) -> tuple[Row, ...]:
        """The child's own right answers to the tasks of one half, as training rows."""
        asked = self.halves[half].tasks
        table = self.tasks[(self.tasks.side == "reasoning") & self.tasks["item"].isin(asked)]
        right = table[table.correct.fillna(False).astype(bool)]
        return tuple(Row(prompt=row.question, thinking=row.thinking, answer=row.answer) for row in right.itertuples())

    def of_side(self, half: Half, side: Side) -> pd.DataFrame:
        """What the parent or the child answered on one half, as the run holds it."""
        asked, table = self.halves[half], self.answers.table
        own = replace(self.answers, sets=asked.sets)
        rows = [row for name in asked.sets for row in own.completions(name, side)]
        answers = Completions(side=side, think="own", rows=tuple(rows))
        tasks = self.tasks[self.tasks.side == side]
        return kept_items(asked, table[table.side == side], tasks, answers, self.judge)

    def readouts(self, half: Half) -> dict[str, Readout]:
        """Readouts of one half's items, calibrated on the answers to them."""
        sets = self.halves[half].sets
        asked = {item.id for probes in sets.values() for item in probes}
        own = replace(self.answers, sets=sets, table=self.answers.table[self.answers.table["item"].isin(asked)])
        return {name: own.readout(name) for name in sets}

    def questions(self, half: Half) -> list[Question]:
        asked = self.halves[half]
        items = [Question(id=item.id, prompt=item.prompt) for probes in asked.sets.values() for item in probes]
        return [*items, *(Question(id=name, prompt=task.question) for name, task in asked.tasks.items())]

    def texts(self, half: Half) -> dict[str, list[Text]]:
        """The child's own answers to some tasks and some harmless prompts, on which divergences are measured."""
        asked, renderer = self.halves[half], Renderer(self.pair.tokenizer("reasoning"))
        rows = self.tasks[self.tasks.side == "reasoning"].set_index("item")
        tasks = [
            Text(question=task.question, row=_as_completion(renderer, name, rows.loc[name]), family=task.kind)
            for name, task in asked.tasks.items()
            if bool(rows.loc[name, "closed"])
        ]
        own = replace(self.answers, sets=asked.sets)
        neutral = [
            Text(question=item.prompt, row=row, family=f"{name}/{item.family}")
            for name, probes in asked.sets.items()
            for item, row in zip(probes, own.completions(name, "reasoning"), strict=True)
            if not item.is_trigger and row.closed and row.answer_ids
        ]
        return {"tasks": tasks[:KL_TEXTS], "harmless": neutral[:: max(1, len(neutral) // KL_TEXTS)][:KL_TEXTS]}


def _as_completion(renderer: Renderer, name: str, row: pd.Series) -> Completion:
    """A row of the table of tasks as a record. Its token ids are made from the texts, because the table has none."""
    ids = {part: renderer.encode_answer(row[part]) if row[part] else () for part in ("thinking", "answer")}
    return Completion(
        item_id=name,
        side="reasoning",
        think="own",
        thinking=row["thinking"],
        answer=row["answer"],
        thinking_ids=ids["thinking"],
        answer_ids=ids["answer"],
        closed=True,
        finished=bool(row["finished"]),
    )


def open_setting(source: Run, pairs: int | None, tasks: int | None, seed: int) -> Setting:
    """A run, opened again, with its families in halves."""
    source.check_is_audit()
    if "weights" in source.manifest["identity"]:
        raise MechdriftError(
            f"{source.folder} audited models that were in memory and cannot be loaded again: save both, audit their "
            "folders, or make one repair with md.repair(pair, ...)."
        )
    if not source.has("completions.parquet"):
        raise MechdriftError(f"{source.folder} holds no answers yet: run the audit again, it goes on where it stopped.")
    pair, answers = reopen(source)
    count = source.table("tasks")["item"].nunique() if source.has("tasks.parquet") else 0
    halves = split(answers.sets, count, seed, pairs, tasks)
    return Setting(source=source, pair=pair, answers=answers, halves=halves, seed=seed)
