"""`mechdrift bench --planted-behaviour`: train, ask, audit, compare with the truth, print.

Adapters, answers and judged answers are kept in a folder as they are made. The same command resumes there.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mechdrift.pairs.loading import LanguageModel, load_model
from mechdrift.pairs.named import load_parent
from mechdrift.pairs.precision import default_dtype_for_generation, fast_float32
from mechdrift.planting.behaviours import asking, rule, selves
from mechdrift.planting.behaviours.adapters import adapter_of, open_child
from mechdrift.planting.behaviours.grammars import PLANTED
from mechdrift.planting.behaviours.recipes import DOSES, Child, children
from mechdrift.records import MechdriftError
from mechdrift.records.progress import tell
from mechdrift.runs import folder_lock, made

MODEL = "smollm2-aligned"
PER_SEED = len(DOSES) * len(PLANTED)  # eroded children
FOLDER = "planted-behaviour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One benchmark: the parent in float32, what is asked of every family, and where all of it is kept."""

    parent: LanguageModel
    folder: Path
    dtype: str
    items: int
    sets: asking.Sets

    def ask(self, child: Child) -> pd.DataFrame:
        """A child's judged answers: all triggers of the planted dimension, `items` of a family of the others."""
        kept, sets = self.judged(child.name), asking.thin(self.sets, self.items, whole=child.planted)
        if not kept.is_file():
            adapter = adapter_of(self.parent, child, self.folder, self.dtype)
            loaded = open_child(self.parent, child.name, adapter, self.dtype)
            asking.ask_all(loaded, sets, "reasoning", self.folder / f"answers-{child.name}").to_parquet(kept)
        return pd.read_parquet(kept)

    def ask_parent(self) -> pd.DataFrame:
        """The parent's judged answers to all triggers."""
        kept = self.judged("parent")
        if not kept.is_file():
            loaded = open_child(self.parent, "parent", None, self.dtype)
            asking.ask_all(loaded, self.sets, "instruct", self.folder / "answers-parent").to_parquet(kept)
        return pd.read_parquet(kept)

    def judged(self, name: str) -> Path:
        """The file of one model's judged answers."""
        return self.folder / f"judged-{name}-{self.items}.parquet"


def print_planted_behaviour(
    model: str = MODEL, cases: int = 24, seed: int = 0, out: Path | None = None, items: int = 3
) -> None:
    """Run the benchmark and print its tables; `out` gets them as Markdown."""
    if cases < 1 or items < 1:
        raise MechdriftError(f"--cases and --items should be 1 or more; they are {cases} and {items}.")
    command = f"mechdrift bench --planted-behaviour --model {model} --cases {cases} --seed {seed} --items {items}"
    folder = made((out.parent if out else Path("runs")) / FOLDER)
    with folder_lock(folder, "benchmark"), fast_float32():
        text = run(open_bench(model, items, folder), cases, seed, command)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    print(text)


def open_bench(model: str, items: int, folder: Path) -> Bench:
    parent = load_model(load_parent(model))
    sets = asking.load_triggers(PLANTED)
    return Bench(parent=parent, folder=folder, dtype=default_dtype_for_generation(), items=items, sets=sets)


def run(bench: Bench, cases: int, seed: int, command: str) -> str:
    """The tables: every child is made and asked, then audited; at last the parent is held against itself."""
    before, judged, wanted = bench.ask_parent(), {}, plan(cases, seed)
    for number, child in enumerate(wanted, 1):
        judged[child] = bench.ask(child)
        tell(f"{child.name}: {number} of {len(wanted)} children")
    rows = [part for child, answers in judged.items() for part in audits(bench, before, answers, child)]
    null = [answers for child, answers in judged.items() if child.recipe == "null"]
    compared = selves.compare(bench.parent, bench.dtype, bench.folder, asking.thin(bench.sets, 1), before, null)
    return tables(pd.concat(rows), compared, command)


def plan(cases: int, seed: int) -> list[Child]:
    """As many eroded children as are asked for, and the decoys of the seeds that they take."""
    every = children(-(-cases // PER_SEED), seed)
    planted = [child for child in every if child.planted][:cases]
    return [child for child in every if child in planted or not child.planted]


def audits(bench: Bench, before: pd.DataFrame, after: pd.DataFrame, child: Child) -> list[pd.DataFrame]:
    """Two audits of a child: each half against the truth on the other."""
    both = pd.concat([before[before["item"].isin(after["item"])], after], ignore_index=True)
    one, other = (asking.half_of(bench.sets, half) for half in asking.HALVES)
    return [
        rule.audit_child(both, child, half, {name: (first[name], second[name]) for name in first})
        for half, (first, second) in zip(asking.HALVES, ((one, other), (other, one)), strict=True)
    ]


# The tables.


def tables(rows: pd.DataFrame, compared: pd.DataFrame, command: str) -> str:
    """The result as Markdown."""
    eroded, decoys = rows[rows.planted != ""], rows[rows.planted == ""]
    lines = [
        f"    {command}",
        "",
        f"{eroded.child.nunique()} eroded children and {decoys.child.nunique()} decoys, two audits each.",
        "",
        f"- planted falls of {rule.FELL:.0%} or more that were called: {rule.share(rule.found(eroded))}",
        f"- other dimensions that did not truly move ({rule.MOVED:.0%} or more), called all the same: "
        f"{rule.share(rule.false_calls(rows))}; of decoys alone: {rule.share(rule.false_calls(decoys))}",
        *_in_waves(eroded),
        "",
        *_eroded_table(eroded),
        "",
        *_decoy_table(decoys),
    ]
    return "\n".join([*lines, *selves.lines(compared)]) + "\n"


def _in_waves(eroded: pd.DataFrame) -> list[str]:
    planted = eroded[eroded.planted == eroded.dimension]
    fell = planted[planted.truth <= -rule.FELL]
    if not len(fell):
        return []
    saved = 1 - fell.asked.sum() / fell.of.sum()
    return [
        f"- the same falls in waves, until decided: {rule.share(fell.decision == 'changed')}, for {saved:.0%} fewer "
        "prompts of that dimension"
    ]


def _eroded_table(eroded: pd.DataFrame) -> list[str]:
    """A row per dimension and dose: falls, and calls."""
    lines = [
        "| planted in | dose | audits | parent | true change | change audited | called | others called: moved, not |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (name, dose), part in eroded.groupby(["planted", "dose"], sort=False):
        own, others = part[part.dimension == name], part[part.dimension != name]
        moved = others.truth.abs() >= rule.MOVED
        lines.append(
            f"| {name} | {dose:g} | {len(own)} | {own.parent.mean():.0%} | {_range(own.truth)} | {_range(own.audit)} "
            f"| {int(own.called.sum())} of {len(own)} | {_calls(others[moved])}, {_calls(others[~moved])} |"
        )
    return lines


def _decoy_table(decoys: pd.DataFrame) -> list[str]:
    lines = ["| decoy | audits | largest true change | called: moved, not |", "|---|---:|---:|---:|"]
    for name, part in decoys.groupby("recipe", sort=False):
        moved, audited = part.truth.abs() >= rule.MOVED, part[["child", "half"]].drop_duplicates()
        lines.append(
            f"| {name} | {len(audited)} | {part.truth.abs().max() * 100:.0f} points "
            f"| {_calls(part[moved])}, {_calls(part[~moved])} |"
        )
    return lines if len(decoys) else []


def _range(values: pd.Series) -> str:
    """Points, from the least to the greatest."""
    low, high = (round(value * 100) for value in (values.min(), values.max()))
    return f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"


def _calls(part: pd.DataFrame) -> str:
    return f"{int(part.called.sum())} of {len(part)}"
