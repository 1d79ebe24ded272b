"""Logs of inspect_ai: one sample per answer, read by inspect_ai's own reader.

Its log keeps reasoning apart from text (`ContentReasoning`), and why the model stopped (`stop_reason`). `max_tokens`,
`model_length` and `content_filter` cut an answer off. Reasoning without a text behind it is a thought that was cut, or,
where the model stopped by itself, one that it ended without an answer; neither says what the answer would have been.
"""

import importlib.util
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechdrift.behaviour.imported.record import MARKERS, OutsideAnswer, OutsideAnswers, cut_text
from mechdrift.errors import MechdriftError, reason
from mechdrift.records.foreign import DATA_LIMIT, check_ends_somewhere

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

CUT = ("max_tokens", "model_length", "content_filter")
NOT_NEEDED = {"events", "timelines", "store"}  # the course of a sample, many times as long as its answer


def check_inspect(what: str) -> None:
    """Raise where inspect_ai is not installed."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise MechdriftError(f"{what} takes inspect_ai: install it with pip install 'mechdrift[inspect]'.")


def read_inspect(file: Path, markers: Sequence[str] = MARKERS) -> OutsideAnswers:
    """The answers of an inspect_ai log. Raises `MechdriftError` for another file, and for a log without answers."""
    check_inspect(f"reading {file}")
    _check_size(file)
    log = _open(file)
    samples = log.samples or []
    rows = [answer for sample in samples for answer in _answers(sample, markers)]
    if not rows:
        raise MechdriftError(
            f"{file} holds no answers (its status is {log.status!r}, with {len(samples)} samples): give the log of an "
            "eval that ran."
        )
    failed = sum(sample.error is not None for sample in samples)
    return OutsideAnswers(model=log.eval.model, tool="inspect_ai", rows=tuple(rows), failed=failed)


def _open(file: Path) -> "EvalLog":
    from inspect_ai.log import read_eval_log

    try:
        return read_eval_log(file, resolve_attachments="core", exclude_fields=NOT_NEEDED)
    except Exception as error:  # a reader may raise anything on a file that is not a log
        raise MechdriftError(f"{file} is not a log that inspect_ai can read ({reason(error)}).") from error


def _check_size(file: Path) -> None:
    """Raise for a log that is larger unpacked than is read."""
    try:
        check_ends_somewhere(file)
        size = file.stat().st_size
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise MechdriftError(f"{file} cannot be read ({reason(error)}).") from error
    if size > DATA_LIMIT:
        raise MechdriftError(f"{file} is larger than {DATA_LIMIT >> 20:,} MB unpacked, more than is read: split it.")


def _answers(sample: "EvalSample", markers: Sequence[str]) -> Iterator[OutsideAnswer]:
    if sample.error is not None:
        return
    for choice in sample.output.choices:
        thinking, text = _parts(choice.message.content)
        found, answer, closed = cut_text(text, markers)
        thinking = "\n\n".join(filter(None, (thinking, found)))
        finished = choice.stop_reason not in CUT
        is_empty = bool(thinking) and not answer.strip()
        yield OutsideAnswer(
            id=sample.id if isinstance(sample.id, str) else "",
            asked=tuple(_asked(sample)),
            thinking=thinking,
            answer=answer,
            closed=closed and not is_empty,
            stopped=finished and (is_empty or not closed),
            finished=finished,
            sample=sample.epoch - 1,
        )


def _parts(content: Any) -> tuple[str, str]:
    """The reasoning and the text of a message."""
    if isinstance(content, str):
        return "", content
    reasoning = [
        part.reasoning if not part.redacted else part.summary or "" for part in content if _is(part, "reasoning")
    ]
    return "\n\n".join(filter(None, reasoning)), "".join(part.text for part in content if _is(part, "text"))


def _is(part: Any, kind: str) -> bool:
    return part.type == kind


def _asked(sample: "EvalSample") -> Iterable[str]:
    """What was asked: the sample's input, what it said to the model, and texts of its row of data."""
    if isinstance(sample.input, str):
        yield sample.input
    else:
        yield from (message.text for message in sample.input if message.role == "user")
    yield from (message.text for message in sample.messages if message.role == "user")
    yield from (value for value in sample.metadata.values() if isinstance(value, str))
