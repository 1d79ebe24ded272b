"""Where a study stands: cells done, running and failed (with causes), time left, and tokens per second; as text for a
terminal and as a page.

    time left      the sum over steps of (mean seconds of the step's finished cells x cells that are left), divided by
                   the number of busy workers; "at least" where a step has no finished cell yet
    causes         errors whose sentences differ only in numbers, quoted names, paths and addresses count as one cause
    tokens/s       tokens that cells wrote, divided by the seconds that these cells took

Only the ledger's files are read, and nothing is changed.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechdrift.runs import check_target, placed
from mechdrift.studies.cells import Cell
from mechdrift.studies.ledger import Ledger, clocks_differ
from mechdrift.studies.storage import Store
from mechdrift.studies.study import Study

SHOWN = 3  # cells that are named for each cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Failures of one kind: the sentence of the first, and the cells."""

    sentence: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a study stands. `steps` has a row per step: planned, done, running, failed, mean seconds."""

    name: str
    url: str
    steps: tuple[dict[str, Any], ...]
    running: tuple[dict[str, Any], ...]
    causes: tuple[Cause, ...]
    seconds_left: float | None
    tokens: int
    tokens_per_second: float | None
    notes: tuple[str, ...] = ()

    def count(self, what: str) -> int:
        """Cells `planned`, `done`, `running` or `failed`, in all."""
        return sum(row[what] for row in self.steps)

    @property
    def lead(self) -> str:
        """The state in one sentence."""
        done, planned = self.count("done"), self.count("planned")
        parts = [
            f"{done:,} of {planned:,} cells done",
            f"{self.count('running')} running",
            f"{self.count('failed')} failed",
        ]
        if self.seconds_left is not None and done < planned:
            is_partial = any(row["mean"] is None for row in self.steps)  # steps of which no cell is done yet
            parts.append(f"{'at least' if is_partial else 'about'} {_time(self.seconds_left)} left")
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s written by a worker that asks")
        return ", ".join(parts)

    @property
    def text(self) -> str:
        """Plain text for a terminal."""
        lines = [f"study {self.name} in {self.url}", self.lead, "", f"{'step':18}{'done':>8}{'of':>8}{'mean':>10}"]
        for row in self.steps:
            mean = _time(row["mean"]) if row["mean"] is not None else ""
            lines.append(f"{row['step']:18}{row['done']:>8,}{row['planned']:>8,}{mean:>10}")
        lines += [f"running: {row['told']} on {row['host']} ({row['device']})" for row in self.running]
        for cause in self.causes:
            lines += ["", f"failed, {len(cause.cells)} x: {cause.sentence}"]
            lines += [f"  {cell.told}" for cell in cause.cells[:SHOWN]]
            if (more := len(cause.cells) - SHOWN) > 0:
                lines.append(f"  and {more:,} more")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def report(self, out: str | Path) -> Path:
        """Write the same as a page."""
        from mechdrift.report.templating import templates

        out = check_target(Path(out))
        rows = [row | {"mean": _time(row["mean"]) if row["mean"] is not None else ""} for row in self.steps]
        page = templates().get_template("study.html.j2").render(status=self, steps=rows, shown=50)
        with placed(out, "give another file with --out.") as temporary:
            temporary.write_text(page, encoding="utf-8")
        return out


def status_of(study: Study) -> Status:
    """How far is a study, what failed, and how long will the rest take? Reads its folder and changes nothing.

    Args:
        study: what `read_study` read.

    Returns:
        A `Status`: `.lead` in a sentence, `.text` for a terminal, `.report(file)` for a page. `.steps` has a row per
        step with `planned, done, running, failed` (cells) and `mean` (seconds a cell); `.seconds_left` is None where
        it cannot be told; `.tokens_per_second` is that of one worker that asks.

    Raises:
        MechdriftError: where the study has not begun.

    Source:
        The estimates: `mechdrift.studies.status`.

    Example:
        >>> print(status_of(read_study("study.toml")).text)  # doctest: +SKIP
    """
    ledger = Ledger(store=Store(study.out))
    cells, states = ledger.plan(), ledger.states()
    facts = {cell.id: ledger.facts(cell.id, states[cell.id]) for cell in cells if cell.id in states}
    steps = tuple(_step(name, [cell for cell in cells if cell.step == name], states, facts) for name in _steps(cells))
    running = [cell for cell in cells if states.get(cell.id) == "running"]
    asked = [found for found in facts.values() if found.get("tokens") and found.get("seconds")]
    tokens, seconds = sum(found["tokens"] for found in asked), sum(found["seconds"] for found in asked)
    notes = {clocks_differ(facts[cell.id].get("since", 0.0)) for cell in running} - {""}
    return Status(
        name=study.name,
        url=study.out,
        steps=steps,
        running=tuple({"told": cell.told, **_where(facts[cell.id])} for cell in running),
        causes=_causes([cell for cell in cells if states.get(cell.id) == "failed"], facts),
        seconds_left=None if notes else _left(steps, len(running)),
        tokens=tokens,
        tokens_per_second=tokens / seconds if seconds else None,
        notes=tuple(sorted(notes)),
    )


def _steps(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.step for cell in cells))


def _step(name: str, cells: Sequence[Cell], states: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, Any]:
    count = Counter(states.get(cell.id, "waiting") for cell in cells)
    took = [
        facts[cell.id]["seconds"] for cell in cells if states.get(cell.id) == "done" and "seconds" in facts[cell.id]
    ]
    return {
        "step": name,
        "planned": len(cells),
        **{state: count[state] for state in ("done", "running", "failed")},
        "mean": sum(took) / len(took) if took else None,
    }


def _left(steps: Sequence[Mapping[str, Any]], workers: int) -> float | None:
    """Seconds until all is done, from the steps that have finished cells."""
    known = [row for row in steps if row["mean"] is not None]
    if not known:
        return None
    return sum(row["mean"] * (row["planned"] - row["done"] - row["failed"]) for row in known) / max(1, workers)


def _where(facts: Mapping[str, Any]) -> dict[str, str]:
    return {"host": str(facts.get("host", "")), "device": str(facts.get("device", ""))}


def _causes(cells: Sequence[Cell], facts: Mapping[str, Any]) -> tuple[Cause, ...]:
    """Failures by cause, the most frequent first."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cause_of(str(facts[cell.id].get("why", ""))), []).append(cell)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return tuple(Cause(sentence=str(facts[group[0].id].get("why", "")), cells=tuple(group)) for group in ordered)


def cause_of(sentence: str) -> str:
    """The part of an error's sentence that all errors of the same cause share."""
    text = re.sub(r"\w+://\S+|(?:[A-Za-z]:)?[\w.~-]*[/\\]\S+", "PATH", sentence)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "NAME", text)
    return re.sub(r"\d[\d.,]*", "N", text)


def _time(seconds: float) -> str:
    """A duration in a unit that fits."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
