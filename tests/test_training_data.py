"""The embedded models were not trained on what measures them: no probe, no near copy of one, no held-out task."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mechdrift.behaviour.tasks import held_out, signature
from mechdrift.probes.sets import load_probes
from mechdrift.records import DIMENSIONS

ZOO = Path(__file__).parents[1] / "experiments" / "zoo"
FILES = sorted((ZOO / "data").glob("*.jsonl"))
EVERY_FILE = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[i:] for i in range(n)), strict=False))


@pytest.fixture(scope="module")
def probe_prompts() -> list[str]:
    return [item.prompt for name in DIMENSIONS for item in load_probes(name)]


def texts(file: Path) -> Iterator[str]:
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield from (row[field] for field in ("prompt", "answer") if row[field])


def test_there_is_training_data_to_check():
    assert len(FILES) >= 10
    assert sum(1 for file in FILES for _ in texts(file)) > 5000


@EVERY_FILE
def test_training_texts_share_no_six_words_in_a_row_with_a_probe(file, probe_prompts):
    known = set().union(*(grams(prompt, 6) for prompt in probe_prompts))
    assert {" ".join(gram) for text in texts(file) for gram in grams(text, 6) & known} == set()


@EVERY_FILE
def test_no_training_text_is_a_near_copy_of_a_probe(file, probe_prompts):
    """Jaccard similarity of word trigrams below one half, compared where two texts share a trigram at all."""
    probes = [grams(prompt, 3) for prompt in probe_prompts]
    where: dict[tuple[str, ...], list[int]] = {}
    for index, trigrams in enumerate(probes):
        for gram in trigrams:
            where.setdefault(gram, []).append(index)
    for text in texts(file):
        own = grams(text, 3)
        for index in {i for gram in own for i in where.get(gram, ())}:
            similarity = len(own & probes[index]) / len(own | probes[index])
            assert similarity < 0.5, (text, probe_prompts[index])


def test_no_reasoning_trace_asks_a_held_out_task(monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.syspath_prepend(str(ZOO))
    sft = pytest.importorskip("sft", reason="the training script stands beside the data, in a checkout")
    rows = sft.trace_rows(2400, random.Random(1), seed=1)
    asked = {signature(task.question) for task in held_out()}
    assert len(rows) > 2000
    assert not asked & {signature(row["prompt"]) for row in rows}


def test_general_training_rows_hold_no_refusals(monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.syspath_prepend(str(ZOO))
    sft = pytest.importorskip("sft", reason="the training script stands beside the data, in a checkout")
    rows = sft.general_rows(10_000, random.Random(1))
    assert len(rows) > 300
    assert not [row["answer"] for row in rows if sft.REFUSAL.search(row["answer"])]
