"""Sample files of lm-evaluation-harness (`--log_samples`): one line per prompt and filter, with all answers to it.

`resps` are the answers as the model wrote them; the filters' results (`filtered_resps`) are not read. The thinking is
in the text, unless the harness was set to cut it off (`think_end_token`): then only the answer is left. The file does
not say whether an answer ended by itself, so every answer counts as finished, except those whose think block was opened
and not closed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mechdrift.behaviour.imported.record import MARKERS, OutsideAnswer, OutsideAnswers, cut_text
from mechdrift.errors import MechdriftError
from mechdrift.records.foreign import DATA_LIMIT, read_whole

EXPECTED = "a line of lm-eval's sample files was expected, with doc_id, doc, arguments and resps"


def read_lm_eval(file: Path, markers: Sequence[str] = MARKERS) -> OutsideAnswers:
    """The answers of a sample file. Raises `MechdriftError`, naming the line, for another file, and for
    log-likelihoods."""
    rows: list[OutsideAnswer] = []
    filters: dict[tuple[str, tuple[str, ...]], object] = {}
    for where, line in _lines(file):
        # The same answers come again for every filter. The number of a row of data does not tell whether they do: in a
        # file that was joined from those of several tasks, each task counts its rows from 0.
        place, name = (str(line["doc_id"]), _asked(line)), line.get("filter")
        if place not in filters or (name is not None and filters[place] == name):
            filters[place] = name
            rows += _answers(where, line, markers)
    if not rows:
        raise MechdriftError(f"{file} holds no answers: give a file of samples, written with --log_samples.")
    return OutsideAnswers(model=file.parent.name, tool="lm-eval", rows=tuple(rows), is_ending_known=False)


def _lines(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = read_whole(file, DATA_LIMIT).decode("utf-8")
    except OSError as error:
        raise MechdriftError(f"{file} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise MechdriftError(f"{file} is not UTF-8 text: give a file of samples that lm-eval wrote.") from error
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also cut at line breaks within JSON strings
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MechdriftError(f"{where} is not JSON: {EXPECTED}.") from error
        if not isinstance(row, dict) or not {"doc_id", "resps"} <= set(row) or not isinstance(row["resps"], list):
            raise MechdriftError(f"{where}: {EXPECTED}.")
        yield where, row


def _answers(where: str, line: Mapping[str, Any], markers: Sequence[str]) -> Iterator[OutsideAnswer]:
    texts = [text for group in line["resps"] for text in (group if isinstance(group, list) else [group])]
    if not all(isinstance(text, str) for text in texts):
        raise MechdriftError(
            f"{where} holds log-likelihoods instead of answers: give the samples of a task that generates text."
        )
    asked = _asked(line)
    for sample, text in enumerate(texts):
        thinking, answer, closed = cut_text(text, markers)
        yield OutsideAnswer(
            id="",  # doc_id counts the rows of its data set
            asked=asked,
            thinking=thinking,
            answer=answer,
            closed=closed,
            stopped=False,
            finished=closed,
            sample=sample,
        )


def _asked(line: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of the row of data, and those that the model was given."""
    return (*_strings(line.get("doc")), *_strings(line.get("arguments")))


def _strings(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text in nested lists and mappings; a text that is itself a list of chat messages gives theirs."""
    if isinstance(value, str):
        yield value
        if value.startswith('[{"role"') and depth < 8:
            yield from _strings(_messages(value), depth + 1)
    elif isinstance(value, Mapping | list) and depth < 8:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(part, depth + 1)


def _messages(text: str) -> list[Any]:
    try:
        return json.loads(text)
    except ValueError:
        return []
