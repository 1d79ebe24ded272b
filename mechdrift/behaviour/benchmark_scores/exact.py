"""Reasoning tasks with one exact answer: GSM8K (arXiv 2110.14168) and MATH-500 (arXiv 2103.03874, the 500 of arXiv
2305.20050).

The score is the share of tasks whose final answer is the published one. `final_answer` finds it in what a model wrote;
`is_exact` compares the two in a canonical spelling, as strings and, where both are numbers, by value. Nothing is
simplified: 2(x + 1) is not 2x + 2.
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from mechdrift.behaviour.benchmark_scores.answers import how_it_ended, numbers
from mechdrift.behaviour.judges.numerals import with_digits, with_fractions
from mechdrift.behaviour.tasks import NUMBER, Task
from mechdrift.probes.benchmarks.loading import read_rows
from mechdrift.probes.benchmarks.registry import benchmark_of
from mechdrift.records import Completions, MechdriftError

FINAL = "\n\nGive the final answer in \\boxed{}."


def load_tasks(name: str, path: str | Path | None = None) -> tuple[Task, ...]:
    """GSM8K (arXiv 2110.14168) or MATH-500 (arXiv 2103.03874) as tasks, from the hub or a file; `kind` is the
    subject."""
    if benchmark_of(name).scoring != "exact":
        raise MechdriftError(f"{name} is a probe set, not a set of reasoning tasks: read it with load_benchmark.")
    tasks = []
    for row in read_rows(name, path):
        if name == "gsm8k":
            solution, mark, answer = row.text("answer").rpartition("####")
            if not mark or not answer.strip():
                raise MechdriftError(f"{row.where}: the column 'answer' should end on #### and the result.")
            tasks.append(
                Task(kind="gsm8k", question=row.text("question"), answer=answer.strip(), solution=solution.strip())
            )
        else:
            kind, solution = row.text("subject"), row.text("solution")
            tasks.append(Task(kind=kind, question=row.text("problem"), answer=row.text("answer"), solution=solution))
    return tuple(tasks)


def draw_tasks(tasks: Sequence[Task], limit: int | None, seed: int = 0) -> tuple[Task, ...]:
    """At most `limit` tasks, drawn evenly over their kinds and reproducibly by `seed`, in their order."""
    if limit is None or limit >= len(tasks):
        return tuple(tasks)
    rng = np.random.default_rng(seed)
    shuffled = [int(place) for place in rng.permutation(len(tasks))]
    turns: Counter[str] = Counter()
    rank = {}
    for place in shuffled:  # the first of every kind before the second of any
        rank[place] = turns[tasks[place].kind]
        turns[tasks[place].kind] += 1
    drawn = sorted(shuffled, key=rank.__getitem__)[:limit]
    return tuple(tasks[place] for place in sorted(drawn))


BOX = re.compile(r"\\f?boxed\s*\{|\\fbox\s*\{")
MARKED = re.compile(
    r"<answer>(.+?)</answer>|(?:####|\banswer\s+is:?|\banswer\s*[:=]|^\W*(?:final )?(?:result|solution)\s*:)\s*"
    r"(.+?)(?=\.\s|\.?$)"
    r"|^[#\s]*(?:the )?(?:final )?answer\s*$\s*(.+?)(?=\.\s|\.?$)",  # a heading, and what stands under it
    re.IGNORECASE | re.MULTILINE,
)
BOLD = re.compile(rf"\*\*[^\w*-]*({NUMBER.pattern})(?:\s+[a-z]+)*\W*\*\*", re.IGNORECASE)
PROSE = re.compile(r"^(?:[^{}]|\{[^{}]*\})*?(?<![\\a-z])[a-z]{3,}", re.IGNORECASE)  # not in braces
FORMULA = re.compile(r"^[^$]*\$([^$]+)\$[^$]*$")
THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))")
SPACED = re.compile(r"(?:(?<=[$€£])|(?<=[$€£] ))\d{1,3}(?: \d{3})+(?!\d)")  # $400 000
RESULT = re.compile(rf"{NUMBER.pattern}(?:/\d+(?![\d/]))?")  # 3/4 is one result; 3/4/2026 is none
EQUALS = re.compile(rf"=\s*[$€£]?\s*({RESULT.pattern})")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
LONGEST_BARE = 60  # characters of an answer that is nothing but its result
NAMED = re.compile(r"^(?:\$|\\\()?\s*[a-zA-Z]\s*=")
BARE_NUMBER = re.compile(r"[*_]*[-+−–]?(?:[\d.($€£\[{\\√]|[a-zA-Z]\s*=)")
IN_LATEX = re.compile(r"\$([^$\n]*\\[a-z][^$\n]*)\$|\\\(([^\n]*?\\[a-z][^\n]*?)\\\)")
POWERS = re.compile(r"(\d+(?:\.\d+)?)(?:\\times|\\cdot|[×·*x])10\^\{?(-?\d{1,2})\}?")
KILO = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)k\b", re.IGNORECASE)
SYMBOLS = {"π": "\\pi", "°": "", "×": "\\times", "·": "\\cdot", "½": "1/2", "¼": "1/4", "¾": "3/4"}
UNIT = r"(?:\s+(?:a\s+)?[a-z]{2,}|\s*\\(?:text|mbox|mathrm|textbf|textnormal|textit)\s*\{[^{}\d]*\}(?:\^\{?\d\}?)?)"
QUANTITY = re.compile(rf"([-+]?)((?:\d+\.?|\d*\.\d+)(?:/\d+|\+\d+/\d+)?){UNIT}*", re.IGNORECASE)


def final_answer(text: str) -> str | None:
    """The last \\boxed{…}, else what follows the last ####, "answer is" or "answer:" or stands under the heading
    "Answer" (in a sentence, the formula or the last number in it); else a short answer that is nothing but its result;
    else a number in bold in the last line; else what the calculation in the last sentence with a number equals, or that
    sentence's last number. Numbers in words count where there are none in digits. None without any."""
    for box in reversed(list(BOX.finditer(text))):
        if (inner := _braced(text[box.end() - 1 :])) is not None:
            return inner
    if marked := list(MARKED.finditer(text.replace("**", ""))):
        return _result_in(next(filter(None, marked[-1].groups())))
    if _is_bare(text):
        return text.strip()
    text = _grouped(text)
    text = text if NUMBER.search(text) else with_digits(with_fractions(text))
    if bold := BOLD.findall(text.strip().rpartition("\n")[2]):
        return bold[-1]
    said = next((part for part in reversed(SENTENCE.split(text)) if NUMBER.search(part)), "")
    if latex := IN_LATEX.findall(said):  # the last number in it is but a part of the result
        return "".join(latex[-1])
    numbers = EQUALS.findall(said) or RESULT.findall(said)
    return numbers[-1] if numbers else None


def _is_bare(text: str) -> bool:
    """Whether an answer is nothing but its result: one short line that is no sentence, as 1/2, (3, 4), 18 dollars."""
    line = text.strip()
    if len(line) > LONGEST_BARE or "\n" in line or "=" in NAMED.sub("", line) or BOX.search(line):
        return False
    words = re.findall(
        r"(?<![\\a-z])[a-z]+", re.sub(r"\\(?:text\w*|mbox|mathrm)\s*\{[^{}]*\}", "", line), re.IGNORECASE
    )
    if NUMBER.search(line):
        return BARE_NUMBER.match(line) is not None and len(words) <= 2
    return len(words) == 1 and len(line.split()) == 1


def _grouped(text: str) -> str:
    """A text whose large numbers have nothing between their digits."""
    return THOUSANDS.sub("", SPACED.sub(lambda found: found[0].replace(" ", ""), text))


def _result_in(phrase: str) -> str:
    """A phrase, or the result in it where it is a sentence: "$18 a day" is itself, "that she makes 18" holds 18."""
    if (formula := FORMULA.match(phrase)) and not PROSE.search(formula[1]):
        return formula[1]
    numbers = RESULT.findall(_grouped(phrase))
    return numbers[-1] if numbers and _number(phrase) is None and PROSE.search(phrase) else phrase


def _braced(text: str) -> str | None:
    """The text within the braces with which a text begins; None where they are never closed."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:index]
    return None


def is_exact(expected: str, answer: str) -> bool:
    """Whether two results are the same, up to LaTeX spacing, the spelling of fractions, units and thousands
    separators."""
    a, b = _canonical(expected), _canonical(answer)
    if a == b:
        return True
    wanted, found = _number(expected), _number(answer)
    if wanted is None or found is None:
        return False
    return wanted == found or (_is_percent(answer) and not _is_percent(expected) and wanted == found / 100)


def _is_percent(result: str) -> bool:
    return re.search(r"%|\bper ?cent\b", result) is not None


def _canonical(result: str) -> str:
    text = re.sub(
        r"\\(?:text|mbox|mathrm|textbf|mathbf|textnormal|textit)\s*\{([^{}]*)\}", r"\1", _written_plainly(result)
    )
    text = re.sub(r"^\((\w)\)$", r"\1", text.strip())  # the option "(B)" is B
    return re.sub(r"\s+", "", text).lower()


def _written_plainly(result: str) -> str:
    """A result in one spelling of signs, fractions and roots; its text and spaces are kept."""
    text = result if NUMBER.search(result) else with_digits(with_fractions(result))
    text = re.sub(r"[−–]", "-", text.strip().strip("*")).removeprefix("\\(").removesuffix("\\)")
    text = re.sub(r"√\s*(\w)", r"\\sqrt{\1}", re.sub("|".join(SYMBOLS), lambda found: SYMBOLS[found[0]], text))
    text = text.strip().strip("$").strip().rstrip(".")
    text = re.sub(r"\\(?:left|right|quad|displaystyle)(?![a-z])|\\[!,;: ]|\\?[$%]|\^\\circ|\^\{\\circ\}", "", text)
    text = re.sub(r"\\[cdt]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d|\{\d+\})\s*(\d|\{\d+\})", _braced_fraction, text)
    text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<=\d)\s*(?=\\frac\{\d+\}\{\d+\})", "+", text)  # two and a half is no 21 halves
    text = re.sub(r"\\frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", text)
    text = re.sub(r"(?<=\d)\s+(?=\d+/\d+$)", "+", text)
    text = re.sub(r"\\frac\{\\pi\}\{(\d+)\}", r"\\pi/\1", text)
    text = re.sub(r"(?<=\d)\s*\\cdot\s*(?=\\(?:sqrt|pi)|[a-z])", "", text)
    text = POWERS.sub(_in_full, re.sub(r"\s*(\\times|\\cdot)\s*(?=10\^)", r"\1", _grouped(text)))
    text = KILO.sub(lambda found: str(Fraction(found[1]) * 1000), text)
    return re.sub(r"^[a-zA-Z]\s*(?:=|≈|\\approx|\\in)\s*", "", text)  # "x = 5" is 5


def _in_full(found: re.Match) -> str:
    """1.2 times a power of ten as a number."""
    value = Fraction(found[1]) * Fraction(10) ** int(found[2])
    return str(value.numerator) if value.denominator == 1 else found[0]


def _braced_fraction(found: re.Match) -> str:
    return "\\frac{{{}}}{{{}}}".format(*(part.strip("{}") for part in found.groups()))


def _number(result: str) -> Fraction | None:
    """The value of a number, with or without a unit, or of what a calculation is said to equal."""
    text = _written_plainly(result)
    calculation, _, result = text.rpartition("=")
    if not re.search(r"[,;]|(?<![\\a-z])[a-z]", calculation, re.IGNORECASE):
        text = result.strip()
    found = QUANTITY.fullmatch(text)
    if found is None:
        return None
    try:
        value = sum(map(Fraction, found[2].split("+")), Fraction(0))
    except ZeroDivisionError:
        return None
    return -value if found[1] == "-" else value


def read_tasks(tasks: Sequence[Task], completions: Completions) -> pd.DataFrame:
    """One row per completion: whether its final answer is exact. Completions are in the order of the tasks, task by
    task."""
    samples = sum(completion.sample == 0 for completion in completions) or 1
    repeated = [task for task in tasks for _ in range(len(completions) // samples)]
    rows = []
    for task, completion in zip(repeated, completions, strict=True):
        found = final_answer(completion.answer) if completion.closed else None
        reading = None if found is None else {"correct": is_exact(task.answer, found)}
        row = {
            "item": completion.item_id,
            "side": completion.side,
            "family": task.kind,
            "contrast": "trigger",
            "group": completion.item_id,
        }
        rows.append(row | numbers(reading, completion.sample) | how_it_ended(completion, can_be_read=False))
    return pd.DataFrame(rows)
