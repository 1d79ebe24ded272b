"""The figures of a run, drawn when they are asked for.

    figures = load_run("runs/demo").figures
    list(figures)               their names
    figures["patching"]         a plotly figure: the patch grid of the dimension with the widest gap
    figures["patch_safety"]     that of safety

Every table is read once, when the first figure needs it.
"""

import html
from collections.abc import Iterator, Mapping

import pandas as pd
import plotly.graph_objects as go

from mechdrift.records import MechdriftError
from mechdrift.report.exhibits import Exhibit, all_exhibits, draw_these
from mechdrift.runs import Run

PATCHING = "patching"


class RunTables(Mapping[str, pd.DataFrame]):
    """The tables of a run by name, each read at its first use."""

    def __init__(self, run: Run):
        self._run = run
        self._read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = self._run.table(name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return self._run.has(f"{name}.parquet")

    def __iter__(self) -> Iterator[str]:
        return (file.stem for file in sorted(self._run.folder.glob("*.parquet")))

    def __len__(self) -> int:
        return len(list(iter(self)))


class Figures(Mapping[str, go.Figure]):
    """The figures of a run by name; see the module.

    Indexing raises `MechdriftError` where the run has no such figure, or its table has nothing to draw.
    """

    def __init__(self, run: Run):
        self._tables = RunTables(run)
        self._exhibits = {each.name: each for each in all_exhibits(self._tables) if each.table in self._tables}

    def __getitem__(self, name: str) -> go.Figure:
        exhibit = self._exhibits.get(self._widest() if name == PATCHING and PATCHING in self else name)
        if exhibit is None:
            raise MechdriftError(f"This run has no figure named {name!r}; it has {', '.join(self) or 'none'}.")
        drawn = draw_these([exhibit], self._tables)[exhibit.name]
        if drawn.figure is None:
            raise MechdriftError(drawn.missing)
        return drawn.figure

    def __contains__(self, name: object) -> bool:
        return name in self._exhibits or (name == PATCHING and "patch" in self._tables)

    def __iter__(self) -> Iterator[str]:
        return iter([*self._exhibits, *([PATCHING] if PATCHING in self else [])])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def exhibit(self, name: str) -> Exhibit:
        """The figure's entry, with its words: `figures.exhibit("scores").caption.fooled`."""
        return self._exhibits[self._widest() if name == PATCHING else name]

    def _widest(self) -> str:
        """The patch grid of the dimension whose readouts lie furthest apart, a reliable one if there is any."""
        patch = self._tables["patch"]
        best = patch.assign(size=patch.gap.abs()).sort_values(["reliable", "size"]).dimension.iloc[-1]
        return f"patch_{best}"

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return f"Figures({', '.join(self)})"

    def _repr_html_(self) -> str:
        rows = [f"<li><code>{name}</code>: {html.escape(self.exhibit(name).caption.title)}</li>" for name in self]
        return f"<div><p><b>Figures</b>, each drawn by <code>figures[name]</code>:</p><ul>{''.join(rows)}</ul></div>"
