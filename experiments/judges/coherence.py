"""What does `find_fault` find in texts broken on purpose, and what does it wrongly find in texts that people or models
wrote?

Called by `validate.py`. Real answers are not all coherent, so a "false alarm" on a model's answer is an upper limit.
Broken texts are the beginnings of real answers, cut at a number of words, so that the rates show what length does. The
words put into them come from this project's own texts. An answer is swapped with one to another prompt of the same set,
which shares its style and often its subject.
"""

import json
import random
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from fit_coherence import WORDS, Breaker, is_held_out, read_rows, word_breakers
from table_rows import row

from mechdrift.behaviour.judges.coherence import find_fault
from mechdrift.behaviour.judges.coherence_topic import FEWEST_ANSWER_WORDS, is_clearly_off_topic
from mechdrift.statistics.intervals import SHARE
from mechdrift.statistics.resampling import cluster_bootstrap

INNOCENT = Path(__file__).with_name("innocent_answers.txt")
CODE_LINES = 20
XSTEST_MODELS = ("llama2new", "llama2orig", "mistralinstruct")
LENGTHS = (12, 25, 50, 100)
SWAPS = 5  # other prompts that each answer is tried with
Asked = list[tuple[str, str, str]]  # prompt, answer, unit of the bootstrap


def published(folder: Path) -> dict[str, Asked]:
    """Answers that others wrote, by source, and this project's held-out ones."""
    sources = {f"XSTest, {model}": _xstest(folder, model) for model in XSTEST_MODELS}
    table = pd.read_csv(folder / "jailbreakbench" / "judge_comparison_dev.csv", keep_default_na=False)
    sources["JailbreakBench answers"] = list(zip(table.goal, table.target_response, table.goal, strict=True))
    for name, path, asked, told in (
        ("GSM8K", "gsm8k", "question", "answer"),
        ("MATH-500", "math500", "problem", "solution"),
    ):
        rows = (json.loads(line) for line in (folder / path / "test.jsonl").read_text(encoding="utf-8").splitlines())
        sources[f"{name}, solutions"] = [(row[asked], row[told], row[asked]) for row in rows]
    sources["held-out answers of this project"] = own()
    return sources


def _xstest(folder: Path, model: str) -> Asked:
    table = pd.read_csv(
        folder / "xstest" / "model_completions" / f"xstest_v2_completions_{model}.csv", keep_default_na=False
    )
    return list(zip(table.prompt, table.completion, table.type, strict=True))


def own() -> Asked:
    return [(prompt, answer, prompt) for prompt, answer in read_rows() if answer and is_held_out((prompt, answer))]


def false_alarms(folder: Path) -> list[dict]:
    """Share of answers as written that have a fault, judged with their prompt; and by fault, where there is one.
    "Clearly off-topic" is what makes an answer incoherent; "off-topic" is only counted."""
    rows = []
    for of, asked in published(folder).items():
        faults = np.array([find_fault(answer, prompt) or "none" for prompt, answer, _ in asked])
        units, unit = np.array([unit for *_, unit in asked]), "prompt type" if of.startswith("XSTest") else "prompt"
        rows.append(
            row(
                of,
                "any fault",
                len(asked),
                cluster_bootstrap((faults != "none").astype(float), units, bounds=SHARE),
                unit,
            )
        )
        rows += [
            row(of, fault, len(asked), cluster_bootstrap((faults == fault).astype(float), units, bounds=SHARE), unit)
            for fault in sorted({*faults} - {"none"})
        ]
        clearly = np.array([is_clearly_off_topic(prompt, answer) for prompt, answer, _ in asked], dtype=float)
        rows.append(row(of, "clearly off-topic", len(asked), cluster_bootstrap(clearly, units, bounds=SHARE), unit))
    return rows


def shapes(_: Path) -> list[dict]:
    """Share of innocent texts of many shapes, written for this project, that have a fault, whole and cut after every
    fourth word; and of this package's code, 20 lines at a time and without a fence. The limits for verse and code were
    chosen with these texts in sight, but for those called "later"."""
    kinds = re.split(r"^### (.+)\n", INNOCENT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    texts = list(zip(kinds[::2], map(str.strip, kinds[1::2]), strict=True))
    code = [
        lines for lines in map(_lines, sorted(Path(find_fault.__code__.co_filename).parents[1].rglob("*.py"))) if lines
    ]
    pieces = ["\n".join(lines[at : at + CODE_LINES]) for lines in code for at in range(0, len(lines), CODE_LINES)]
    texts += [("this package's code", piece) for piece in pieces if re.search(r"\w", piece)]
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in texts):
        chosen = [text for of, text in texts if of == kind]
        faulty = np.array([find_fault(text) is not None for text in chosen], dtype=float)
        rows.append(row(kind, "whole", len(chosen), cluster_bootstrap(faulty, np.array(chosen), bounds=SHARE), "text"))
        if kind != "this package's code":
            cuts = [(cut, text) for text in chosen for cut in beginnings_of(text)]
            found = np.array([find_fault(cut) is not None for cut, _ in cuts], dtype=float)
            rows.append(
                row(
                    kind,
                    "cut",
                    len(cuts),
                    cluster_bootstrap(found, np.array([text for _, text in cuts]), bounds=SHARE),
                    "text",
                )
            )
    return rows


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def beginnings_of(text: str) -> list[str]:
    return [text[: found.end()] for found in list(re.finditer(r"\S+", text))[7::4]]


def breaks(folder: Path) -> list[dict]:
    """Share of broken beginnings of answers, and of beginnings as written, that have any fault, judged without the
    prompt."""
    xstest = [answer for model in XSTEST_MODELS for answer in _xstest(folder, model)]
    sources = published(folder)
    chosen = [
        ("XSTest answers", xstest, LENGTHS),
        *((of, sources[of], (25,)) for of in ("GSM8K, solutions", "held-out answers of this project")),
    ]
    return [
        _break_row(f"{of}, {length} words", kind, breaker, beginnings(asked, length))
        for of, asked, lengths in chosen
        for length in lengths
        for kind, breaker in breakers().items()
    ]


def _break_row(of: str, kind: str, breaker: Breaker, texts: list[tuple[str, str]]) -> dict:
    random_ = random.Random(kind)
    found = np.array([find_fault(breaker(text, random_)) is not None for text, _ in texts], dtype=float)
    return row(
        of,
        kind,
        len(texts),
        cluster_bootstrap(found, np.array([unit for _, unit in texts]), bounds=SHARE),
        "prompt type" if "XST" in of else "prompt",
    )


def beginnings(asked: Asked, words: int) -> list[tuple[str, str]]:
    """The first words of every answer that has so many, in their own spacing."""
    cut = [("".join(re.split(r"(\s+)", answer.strip())[: 2 * words - 1]), unit) for _, answer, unit in asked]
    return [(text, unit) for text, unit in cut if len(text.split()) == words]


def swaps(folder: Path) -> list[dict]:
    """Share of answers, each tried with five other prompts of its set, that are called off-topic, and that are clearly
    so, by the answer's length."""
    rows = []
    for of, asked in published(folder).items():
        for low, high in ((FEWEST_ANSWER_WORDS, 50), (50, 100), (100, 10**6)):
            chosen = [place for place, (_, answer, _) in enumerate(asked) if low <= len(answer.split()) < high]
            if len(chosen) < 50:
                continue
            random_ = random.Random(0)
            tried = [[(other, asked[at][1]) for other in _others(asked, at, random_)] for at in chosen]
            units, unit = np.array([asked[at][2] for at in chosen]), "prompt type" if "XST" in of else "prompt"
            words = f"{low} words and more" if high == 10**6 else f"{low} to {high - 1} words"
            found = [np.mean([find_fault(answer, other) == "off-topic" for other, answer in pairs]) for pairs in tried]
            rows.append(row(of, words, len(chosen), cluster_bootstrap(np.array(found), units, bounds=SHARE), unit))
            clear = [np.mean([is_clearly_off_topic(other, answer) for other, answer in pairs]) for pairs in tried]
            rows.append(
                row(of, f"{words}, clearly", len(chosen), cluster_bootstrap(np.array(clear), units, bounds=SHARE), unit)
            )
    return rows


def _others(asked: Asked, place: int, random_: random.Random) -> list[str]:
    own_prompt, _, kind = asked[place]
    other = [prompt for prompt, _, unit in asked if prompt != own_prompt and (unit != kind or unit == own_prompt)]
    return random_.sample(other, SWAPS)


@cache
def breakers() -> dict[str, Breaker]:
    """Every way to break a text, by name."""
    texts = [text for asked in read_rows() if not is_held_out(asked) for text in asked if text]
    noise = {f"{share:.0%} of the letters replaced": _noise(share) for share in (0.1, 0.2, 0.4)}
    return (
        {"nothing (false alarms)": lambda text, random_: text}
        | word_breakers(texts)
        | noise
        | {
            "a phrase six times": loop_phrase,
            "loops from the middle on": loop_from_the_middle,
            "a template counts up": loop_template,
            "a frame with new words": loop_frame,
        }
    )


def _noise(share: float) -> Breaker:
    def noisy(text: str, random_: random.Random) -> str:
        return "".join(
            random_.choice("abcdefghijklmnopqrstuvwxyz") if letter.isalpha() and random_.random() < share else letter
            for letter in text
        )

    return noisy


def loop_phrase(text: str, random_: random.Random) -> str:
    return " ".join([_phrase(text, random_, 1, 8)] * 6)


def loop_from_the_middle(text: str, random_: random.Random) -> str:
    """The first half, and a phrase of it from there to one and a half times the length, at least four times."""
    words = text.split()
    phrase = _phrase(" ".join(words[: len(words) // 2]), random_, 2, 8)
    times = max(4, len(words) // len(phrase.split()))
    return " ".join([*words[: len(words) // 2], *[phrase] * times])


def loop_template(text: str, random_: random.Random) -> str:
    phrase = _phrase(text, random_, 5, 8)
    return "\n".join(f"{count}. {phrase}" for count in range(1, 9))


def loop_frame(text: str, random_: random.Random) -> str:
    """As "I want to sing and I want to cook and I want to ...", with other words."""
    frame, words = _phrase(text, random_, 4, 5), WORDS.findall(text)[1::2]
    return " ".join(f"{frame} {random_.choice(words)}" for _ in range(8))


def _phrase(text: str, random_: random.Random, fewest: int, most: int) -> str:
    """Some of the text's words that follow one another. Words of letters, since loops of numbers are another matter."""
    words = [word for word in WORDS.findall(text) if word] or ["word"]
    length = min(len(words), random_.randint(fewest, most))
    start = random_.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length])


def sections(folder: Path) -> dict[str, tuple[Iterable[dict], str | None]]:
    return {
        "Coherence: false alarms": (false_alarms(folder), false_alarms.__doc__),
        "Coherence: false alarms by the shape of a text": (shapes(folder), shapes.__doc__),
        "Coherence: texts broken on purpose": (breaks(folder), breaks.__doc__),
        "Coherence: answers to another prompt": (swaps(folder), swaps.__doc__),
    }
