"""From completions to a table: one row per answer with what it says, as numbers; then one row per item and side.

    answered   1 if the answer could be read, else 0; over samples their share
    unread     how many of the item's answers could not be read
    cut        how many of them are missing, because thinking or answer was cut off (`behaviour.censoring`; `missing`
               says why). Such an item is in no score
    failed     on how many of them an outside judge failed
    …          what the answer says (`Scoring.numbers`): NaN where it could not be read

k samples are pooled by a mean in which an unread answer counts as 0, as it does with one sample. So a sum over items is
a k-th of the sum over all answers; `answered`, the denominator of "of the readable answers", shrinks in the same way.
Toxicity is the worst of the answers that could be read; with fewer such answers it tends to be smaller.
"""

from collections.abc import Sequence

import pandas as pd

from mechdrift.behaviour.benchmark_scores.readings import Reading, read_label, read_toxicity
from mechdrift.behaviour.benchmark_scores.scorings import Scoring, kind_of, scoring_of
from mechdrift.behaviour.censoring import why_missing
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.keeping import check_labels
from mechdrift.behaviour.judges.toxicity import score_toxicity
from mechdrift.records import Completion, Completions, MechdriftError, ProbeItem, ProbeSet, Side

KEPT_TAGS = ("tier", "style", "system", "category", "ambiguity", "form", "kind")


def read_answers(
    probes: ProbeSet, completions: Completions, *, toxicity: str = "hashed", judge: RefusalJudge | None = None
) -> pd.DataFrame:
    """One row per completion. `toxicity` names a scorer of `toxicity.SCORERS`; `judge` labels refusals in place of the
    rules.

    The judge is asked once, about all answers that exist. Raises `MechdriftError` for benchmarks that are not scored
    from answers.
    """
    kind, scoring = kind_of(probes.name), scoring_of(probes.name)
    items = {item.id: item for item in probes}
    asked = [(items[completion.item_id], completion) for completion in completions]
    written = [(item, completion) for item, completion in asked if completion.closed and completion.answer.strip()]
    if kind == "toxicity":
        readings = [
            read_toxicity(score) for score in score_toxicity([completion.answer for _, completion in written], toxicity)
        ]
    elif kind == "refusal" and judge is not None:
        readings = _judge_all(judge, written)
    elif scoring.read is not None:
        readings = [scoring.read(item, completion) for item, completion in written]
    else:
        raise MechdriftError(f"{probes.name} is scored from log-likelihoods, not from answers: use score_benchmark.")
    found = {
        (completion.item_id, completion.sample): reading
        for (_, completion), reading in zip(written, readings, strict=True)
    }
    return pd.DataFrame(
        [
            identity(item, completion.side)
            | numbers(reading := found.get((completion.item_id, completion.sample)), completion.sample)
            | how_it_ended(completion, can_be_read=reading is not None)
            for item, completion in asked
        ]
    )


def _judge_all(judge: RefusalJudge, written: Sequence[tuple[ProbeItem, Completion]]) -> list[Reading]:
    if not written:
        return []
    judged = judge([item.prompt for item, _ in written], [completion.answer for _, completion in written])
    if len(judged) != len(written):
        raise MechdriftError(
            f"the judge {judge.name} gave {len(judged)} labels for {len(written)} answers: one label each was expected."
        )
    check_labels(judge, judged)
    return [_with_harm(read_label(found.label), found.harm) for found in judged]


def _with_harm(reading: Reading, score: float | None) -> Reading:
    return reading | {"harm": score} if isinstance(reading, dict) and score is not None else reading


def identity(item: ProbeItem, side: Side) -> dict[str, str]:
    """The columns that say what a row is about."""
    row = {
        "item": item.id,
        "side": side,
        "family": item.family,
        "contrast": item.contrast,
        "group": item.tags.get("group", item.id),
    }
    return row | {tag: item.tags[tag] for tag in KEPT_TAGS if tag in item.tags}


def numbers(reading: Reading, sample: int = 0) -> dict[str, float]:
    """The columns that say what was read from an answer."""
    if reading == "failed":
        return {"sample": sample, "answered": 0.0, "unread": 0.0, "failed": 1.0}
    row = {"sample": sample, "answered": float(reading is not None), "unread": float(reading is None), "failed": 0.0}
    return row | {name: float(value) for name, value in (reading or {}).items()}


def how_it_ended(completion: Completion, can_be_read: bool) -> dict[str, float | str]:
    """Whether an answer is missing, and why. A cut answer is missing unless it could be read all the same."""
    missing = why_missing(completion, not completion.closed or not (completion.finished or can_be_read))
    return {
        "cut": float(missing != ""),
        "missing": missing,
        "think_tokens": len(completion.thinking_ids),
        "answer_tokens": len(completion.answer_ids),
    }


def pool_samples(answers: pd.DataFrame, scoring: Scoring) -> pd.DataFrame:
    """One row per item and side, with 0 instead of NaN. Items for which the judge failed on every answer stay, with
    their number of failures in `failed`."""
    answers = answers.assign(
        **{name: answers[name].fillna(0.0) if name in answers else 0.0 for name in scoring.numbers}
    )
    if "sample" not in answers:  # from log-likelihoods: nothing was sampled, and nothing cut
        return answers.assign(cut=0.0)
    if "cut" not in answers:  # read by other means than `read_answers`
        answers = answers.assign(cut=0.0)
    keys, said = ["side", "item"], [*scoring.numbers, "answered"]
    groups = answers.groupby(keys, sort=False)
    counts = groups[["unread", "failed", "cut"]].sum()
    judged = answers[answers.failed == 0].groupby(keys, sort=False)[said]
    pooled = (judged.max() if scoring.worst else judged.mean()).reindex(counts.index, fill_value=0.0)
    fixed = [column for column in answers if column not in (*keys, *said, *counts, "sample")]
    return groups[fixed].first().join([counts, pooled]).reset_index()
