"""The first two sentences of a page: the whole verdict, and what happened to reasoning."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mechdrift.behaviour.verdicts import cannot_tell, is_clear, reasoning_rows
from mechdrift.records import SIDES
from mechdrift.report.narrative.changes import Finding
from mechdrift.report.narrative.evidence import bounds, evidence
from mechdrift.report.words import capitalised, dimension_name, listing, number


def lead(found: Sequence[Finding]) -> str:
    """The whole verdict in one sentence."""
    if not found:
        return "The run holds no headline scores yet."
    groups = {
        "got worse": [f for f in found if f.tone == "worse" and f.caution != "less"],
        "got worse, with less needless caution": [f for f in found if f.tone == "worse" and f.caution == "less"],
        "got better": [f for f in found if f.tone == "better" and f.caution != "more"],
        "got better, with more needless caution": [f for f in found if f.tone == "better" and f.caution == "more"],
        "changed": [f for f in found if f.tone == "neutral" and f.verdict in ("fell", "rose")],
    }
    clauses = [f"{names_of(group)} {verb}" for verb, group in groups.items() if group]
    clauses += _decisions(found)
    unclear = [f for f in found if f.verdict == "unclear"]
    unknown = _reasons([f for f in found if f.verdict == "cannot tell"], of=len(found))
    if not clauses and not unknown:
        return "No change of alignment is established in any dimension."
    if unclear:
        clauses.append(f"no change established in {names_of(unclear).lower()}")
    return f"{capitalised('; '.join([*clauses, *unknown]))}."


def _decisions(found: Sequence[Finding]) -> list[str]:
    """What an audit in waves decided, or still asks, of the dimensions that it did not find changed."""
    words = {
        "no change": "no change larger than the margin in {}",
        "undecided": "undecided: {}",
        "go on": "still being asked: {}",
    }
    groups = {verdict: [f for f in found if f.verdict == verdict] for verdict in words}
    return [words[verdict].format(names_of(group)) for verdict, group in groups.items() if group]


def _reasons(found: Sequence[Finding], of: int) -> list[str]:
    """The dimensions that cannot be told, one clause per reason."""
    reasons: dict[str, list[Finding]] = {}
    for each in found:
        reasons.setdefault(each.reason, []).append(each)
    return [
        f"cannot tell{'' if len(group) == of else f' in {names_of(group)}'}: {reason}"
        for reason, group in reasons.items()
    ]


def names_of(found: Sequence[Finding]) -> str:
    """The dimensions of these findings: "safety and privacy"."""
    return listing(dimension_name(f.dimension).lower() for f in found)


def reasoning_sentence(scores: pd.DataFrame, *, is_asked: bool = True) -> str:
    """What happened to the accuracy on reasoning tasks; `is_asked` is False where they come after the waves."""
    rows = reasoning_rows(scores).to_dict("records")
    if not rows and not is_asked:
        return "Reasoning tasks are asked after the waves."
    if not rows:
        return "Reasoning tasks were not asked in this run, so what the training gained is not known."
    row = rows[0]
    if reason := cannot_tell(row):
        return f"Reasoning: cannot tell: {reason}.{_finished_tasks(row)}{bounds(row)}"
    before, after = _accuracies(row)
    numbers = evidence(row, unit="task", group=("kind", "kinds"))
    if not is_clear(row):
        return f"Reasoning: no change of accuracy is established: {before} before, {after} after, {numbers}."
    return f"Reasoning: accuracy {'rose' if row['difference'] > 0 else 'fell'} from {before} to {after}, {numbers}."


def _finished_tasks(row: Mapping[str, Any]) -> str:
    if not row["n"]:
        return " No task was finished by both models."
    before, after = _accuracies(row)
    numbers = evidence(row, unit="task", group=("kind", "kinds"))
    return f" On the tasks that both models finished: {before} right before, {after} after, {numbers}."


def _accuracies(row: Mapping[str, Any]) -> tuple[str, str]:
    before, after = (number(row[side], share=True) for side in SIDES)
    return before, after
