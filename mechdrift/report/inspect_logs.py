"""A run as logs of inspect_ai, which `inspect view` opens and `read_eval_log` reads: one log per dimension and model.

A sample of the log is one answer, with the thinking as reasoning and the answer as text; several answers to one item
are epochs of it. The score is the judge's verdict (C is aligned, I is not), with label and reason in its explanation.
Answers are unscored where thinking or answer was cut off, or the judge failed. The log's metrics are the run's own
scores of that model, and its metadata hold the paired difference, which a log of one model cannot show otherwise.

    logs/smollm2-sft/2026-11-30T02-01-18+00-00_mechdrift-safety-instruct_<id>.eval

Variants of items, and reasoning tasks, have logs of their own. A sample has its item's id, so `score_answers` finds
every answer again.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mechdrift.behaviour.censoring import missing_of
from mechdrift.behaviour.imported.inspect_logs import check_inspect
from mechdrift.records import SIDES, MechdriftError, Side, order_dimensions
from mechdrift.runs import Run, load_run, placed

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

SCORER = "mechdrift"
REMEDY = "free space or give another folder with --out."


def to_inspect(run: Run | str | Path, out: str | Path) -> tuple[Path, ...]:
    """Write a run as inspect_ai logs, one per dimension and model, which `inspect view` opens.

    Args:
        run: an audit's run, or its folder.
        out: the folder to write to; logs of the same run in it are replaced.

    Returns:
        The paths of the logs.

    Raises:
        MechdriftError: where inspect_ai is not installed, the run has no answers, or the folder cannot be written to.

    Source:
        inspect_ai (inspect.aisi.org.uk): its log format, written by its own `write_eval_log`.

    Example:
        >>> files = md.to_inspect(run, "logs")
        >>> {file.suffix for file in files}
        {'.eval'}
    """
    run = run if isinstance(run, Run) else load_run(run)
    check_inspect("writing inspect_ai logs")
    run.check_is_audit()
    if not run.has("completions.parquet"):
        raise MechdriftError(f"{run.folder} has no answers yet: run its audit again, it goes on where it stopped.")
    return tuple(_write(log, Path(out)) for log in _logs(run))


def _write(log: "EvalLog", folder: Path) -> Path:
    from inspect_ai.log import write_eval_log

    file = folder / f"{log.eval.created.replace(':', '-')}_{log.eval.task}_{log.eval.task_id}.eval"
    with placed(file, REMEDY) as temporary:
        write_eval_log(log, temporary, format="eval")
    return file


def _logs(run: Run) -> Iterator["EvalLog"]:
    """The logs of a run: answers by dimension, their variants, and reasoning tasks, for each model."""
    scores = run.table("scores") if run.has("scores.parquet") else pd.DataFrame(columns=["dimension"])
    for name, table in _parts(run):
        dimension = name.partition("-")[0]
        rows = scores[scores.dimension == dimension] if name == dimension else scores.head(0)
        for side in SIDES:
            part = table[table.side == side]
            if len(part):
                yield _log(run, name, side, part, rows)


def _parts(run: Run) -> Iterator[tuple[str, pd.DataFrame]]:
    completions = run.table("completions")
    for dimension in order_dimensions(completions.dimension):
        yield dimension, completions[completions.dimension == dimension]
    if run.has("variants.parquet"):
        variants = run.table("variants")
        for (dimension, variant), part in variants.groupby(["dimension", "variant"], sort=False):
            yield f"{dimension}-{variant}", part.assign(item=part["item"] + f"@{variant}")
    if run.has("tasks.parquet"):
        tasks = run.table("tasks")
        yield "reasoning", tasks.assign(prompt=tasks.question, aligned=tasks.correct, sample=0)


def _log(run: Run, name: str, side: Side, part: pd.DataFrame, scores: pd.DataFrame) -> "EvalLog":
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec, EvalStats

    manifest = run.manifest
    pair, created = manifest["pair"], _created(run)
    model = str(pair[side]["name"])
    samples = [_sample(row, model) for row in part.assign(missing=missing_of(part)).to_dict("records")]
    ids = list(dict.fromkeys(sample.id for sample in samples))
    about = {"side": side, "pair": pair["name"], "fingerprint": pair["fingerprints"].get(side, "")}
    return EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=_id(run, name, side, "eval"),
            run_id=_id(run, "run"),
            created=created,
            task=f"mechdrift-{name}-{side}",
            task_id=_id(run, name, side),
            dataset=EvalDataset(name=f"mechdrift {name}", samples=len(ids), sample_ids=ids),
            model=model,
            config=EvalConfig(epochs=int(part["sample"].max()) + 1),
            packages={SCORER: str(manifest.get("versions", {}).get(SCORER, ""))},
            metadata=about | _differences(scores),
        ),
        results=EvalResults(
            total_samples=len(samples), completed_samples=len(samples), scores=[_scores(samples, scores, side)]
        ),
        stats=EvalStats(started_at=created, completed_at=created),
        samples=samples,
    )


def _sample(row: Mapping[str, Any], model: str) -> "EvalSample":
    from inspect_ai.log import EvalSample
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessageAssistant,
        ChatMessageUser,
        ContentReasoning,
        ContentText,
        ModelOutput,
    )

    said = [ContentReasoning(reasoning=row["thinking"])] if row["thinking"] else []
    message = ChatMessageAssistant(content=[*said, ContentText(text=row["answer"])], model=model, source="generate")
    choice = ChatCompletionChoice(message=message, stop_reason=_stop_reason(row))
    tags = ("dimension", "family", "contrast", "kind", "missing")
    return EvalSample(
        id=str(row["item"]),
        epoch=int(row["sample"]) + 1,
        input=row["prompt"],
        target=str(row.get("expected", "")),
        messages=[ChatMessageUser(content=row["prompt"], source="input"), message],
        output=ModelOutput(model=model, choices=[choice]),
        scores=_score(row),
        metadata={name: str(row[name]) for name in tags if row.get(name)},
    )


def _stop_reason(row: Mapping[str, Any]) -> Any:
    """Why the model stopped, in inspect_ai's words: the budget cut every thought or answer that did not end."""
    ended = row["finished"] if row["closed"] else row.get("stopped")
    return "stop" if ended is True or ended == 1 else "max_tokens"


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    from inspect_ai.scorer import Score

    said = {"answer": row["answer"], "explanation": ": ".join(filter(None, (row.get("label", ""), row.get("why", ""))))}
    if row["missing"] or row.get("failed") or pd.isna(row["aligned"]):
        return {"aligned": Score.unscored(reason=row["missing"] or "the judge failed", **said)}
    return {"aligned": Score(value="C" if row["aligned"] else "I", **said)}


def _scores(samples: list["EvalSample"], scores: pd.DataFrame, side: Side) -> Any:
    """The run's own scores of one model, as metrics."""
    from inspect_ai.log import EvalMetric, EvalScore

    known = [row for row in scores.to_dict("records") if not pd.isna(row[side])]
    scored = sum(score.value in ("C", "I") for sample in samples for score in (sample.scores or {}).values())
    return EvalScore(
        name="aligned",
        scorer=SCORER,
        scored_samples=scored,
        unscored_samples=len(samples) - scored,
        metrics={row["metric"]: EvalMetric(name=row["metric"], value=float(row[side])) for row in known},
    )


def _differences(scores: pd.DataFrame) -> dict[str, Any]:
    """The paired difference of each metric, reasoning minus instruct, with its 95 % interval."""
    known = [row for row in scores.to_dict("records") if not pd.isna(row["difference"])]
    ends = ("difference", "low", "high", "p")
    found = {row["metric"]: {end: float(row[end]) for end in ends if not pd.isna(row[end])} for row in known}
    return {"reasoning minus instruct": found} if found else {}


def _created(run: Run) -> str:
    """When the answers were written, in UTC."""
    written = (run.folder / "completions.parquet").stat().st_mtime
    return datetime.fromtimestamp(int(written), UTC).isoformat()


def _id(run: Run, *parts: str) -> str:
    """An id that is the same whenever the same part of the same run is written."""
    prints = sorted(run.manifest["pair"]["fingerprints"].values())
    return hashlib.sha256("\0".join([run.folder.name, *prints, *parts]).encode()).hexdigest()[:22]
