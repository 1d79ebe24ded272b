"""What changed: one finding per dimension, with the sentence that claims it and the numbers behind it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from mechdrift.behaviour.verdicts import (
    cannot_tell,
    decision_of,
    excludes_zero,
    families_needed,
    headline_rows,
    is_clear,
)
from mechdrift.records import SIDES
from mechdrift.records.notebook import counted
from mechdrift.report.narrative.evidence import bounds, evidence, levels, margin
from mechdrift.report.words import (
    SIDE_NAMES,
    capitalised,
    difference,
    dimension_name,
    is_share,
    listing,
    number,
    p_value,
)
from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.intervals import unseen_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One dimension's line of the verdict, with the numbers of its small interval plot.

    `verdict` is "fell" or "rose" for an established change. "unclear" means that no change is established. "no change",
    "undecided" and "go on" are the decisions of an audit in waves, and "cannot tell" means that too many answers are
    missing, for the given `reason`. `caution` says whether neutral twins are treated with more or less of it, too.
    """

    dimension: str
    verdict: Literal["fell", "rose", "unclear", "cannot tell", "no change", "undecided", "go on"]
    tone: Literal["worse", "better", "neutral"]
    claim: str
    detail: str
    difference: float
    low: float
    high: float
    reason: str = ""
    caution: Literal["", "more", "less"] = ""


def findings(scores: pd.DataFrame) -> list[Finding]:
    """One finding per dimension of a score table: established changes first, the largest first.

    Example:
        >>> for finding in findings(run.table("scores")):
        ...     print(finding.claim, finding.detail)
    """
    return [
        _missing_finding(row, scores) if cannot_tell(row) else _finding(row, scores)
        for row in headline_rows(scores).to_dict("records")
    ]


def caution(scores: pd.DataFrame, dimension: str) -> tuple[Literal["", "more", "less"], str]:
    """Whether the models now treat neutral twins with more or less caution, which the headline does not show, and the
    sentence that says so."""
    rows = scores[(scores.dimension == dimension) & (scores.metric == "over")].to_dict("records")
    if not rows or not (rows[0]["p"] < ALPHA and excludes_zero(rows[0])):
        return "", ""
    before, after = (number(rows[0][side], share=True) for side in SIDES)
    sentence = f" Needless caution on neutral prompts went from {before} to {after} (exploratory: p is not adjusted)."
    return "more" if rows[0]["difference"] > 0 else "less", sentence


# Dimensions that can be told.


def _finding(row: Mapping[str, Any], scores: pd.DataFrame) -> Finding:
    verdict, claim = _verdict_and_claim(row)
    is_more_cautious, its_price = caution(scores, row["dimension"])
    return Finding(
        dimension=row["dimension"],
        verdict=verdict,
        tone=_tone(row),
        claim=f"{dimension_name(row['dimension'])}: {claim}.",
        detail=(_detail_of_waves(row) if decision_of(row) else _detail(row)) + bounds(row) + its_price,
        difference=row["difference"],
        low=row["low"],
        high=row["high"],
        caution=is_more_cautious,
    )


def _verdict_and_claim(row: Mapping[str, Any]) -> tuple[Any, str]:
    if (decision := decision_of(row)) and decision != "changed":
        claims = {
            "no change": f"no change larger than {margin(row)}",
            "undecided": "undecided with all families of this set",
            "go on": "not decided yet",
        }
        return decision, claims[decision]
    rose = row["difference"] > 0
    if not is_clear(row):
        fall = "rise" if rose else "fall"
        return "unclear", f"a {fall} that is not established" if excludes_zero(row) else "no change is established"
    verdict = "rose" if rose else "fell"
    is_headline = row["metric"] == "aligned"
    return verdict, f"{'more' if rose else 'fewer'} aligned answers" if is_headline else f"{row['metric']} {verdict}"


def _tone(row: Mapping[str, Any]) -> Literal["worse", "better", "neutral"]:
    if not is_clear(row) or row["better"] == "none":
        return "neutral"
    return "better" if (row["difference"] > 0) == (row["better"] == "higher") else "worse"


def _detail(row: Mapping[str, Any]) -> str:
    text = f"{levels(row)}: {evidence(row)}."
    if is_clear(row):
        return text
    if excludes_zero(row):
        text += (
            f" The interval leaves out zero, but the test does not confirm it ({p_value(row['p'])} before adjusting)."
        )
    return f"{text} {_could_be_found(row)}"


def _could_be_found(row: Mapping[str, Any]) -> str:
    """How large a change would have been found, which every "no change" needs beside it."""
    share = is_share(row["metric"])
    if row["difference"] == 0 and math.isnan(row["mde"]) and row["families"]:
        unseen = number(unseen_share(row["families"]), share=True)
        return f"No family changed. A change in fewer than {unseen} of all families could have gone unseen."
    if math.isnan(row["mde"]):
        return "How large a change could have been found is not known."
    if share and abs(row["mde"]) >= 1:
        return "With so few families, even the largest possible change would be missed in more than 20% of audits."
    size = difference(abs(row["mde"]), share=share).lstrip("+")
    return f"Before adjusting, a change of {size} would be found in 80% of audits like this one."


def _detail_of_waves(row: Mapping[str, Any]) -> str:
    """The evidence after the last wave that was asked, and, where that decides nothing, what it would take."""
    text = f"{levels(row)}: {evidence(row)}, after {counted(int(row['wave']), 'wave')}."
    if decision_of(row) != "undecided":
        return text
    distance = max(abs(row["difference"]), row["margin"] - abs(row["difference"]))
    needed = families_needed(distance, row["mde"], int(row["families"]))
    if math.isnan(needed):
        return f"{text} There are too few families to compare: a decision needs prompts of several."
    if needed <= row["families"]:
        return f"{text} It was near a decision: a few more families would probably bring it."
    return f"{text} If the estimate and its spread stayed the same, about {needed:,.0f} families would decide it."


# Dimensions of which too many answers are missing.


def _missing_finding(row: Mapping[str, Any], scores: pd.DataFrame) -> Finding:
    """The reason, what the finished items say, and what the missing ones could change."""
    reason = cannot_tell(row)
    return Finding(
        dimension=row["dimension"],
        verdict="cannot tell",
        tone="neutral",
        claim=f"{dimension_name(row['dimension'])}: cannot tell.",
        detail=f"{capitalised(reason)}.{_finished(row)}{bounds(row)}{when_cut(scores, row['dimension'])}",
        difference=row["difference"],
        low=row["low"],
        high=row["high"],
        reason=reason,
    )


def _finished(row: Mapping[str, Any]) -> str:
    if not row["n"]:
        return " No item was finished by both models."
    return f" On the items that both models finished: {levels(row)}, {evidence(row)}."


def when_cut(scores: pd.DataFrame, dimension: str) -> str:
    """What the models answered after their thinking was cut and the think block closed for them."""
    rows = scores[(scores.dimension == dimension) & (scores.metric == "aligned_when_cut")].to_dict("records")
    told = [
        f"the {SIDE_NAMES[side]} gives {number(row[side], share=True)} aligned answers"
        for row in rows
        for side in SIDES
        if not math.isnan(row[side])
    ]
    if not told:
        return ""
    prompts = counted(rows[0]["n"], "prompt")
    return f" When its thinking is cut short, {listing(told)} ({prompts}; these answers count in no other number)."
