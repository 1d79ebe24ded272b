"""The page of many runs: a summary over pairs, a forest plot per dimension, a table to sort, and a link to each report.

Rows and summaries are computed here and embedded as JSON. The script `many.js` chooses, sorts and draws them, so the
summary of each choice of route, family or size was computed by the one implementation that is tested. The page holds no
plotly: the script draws 300 intervals as lines of an SVG, and the page stays small.
"""

import math
import os
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from mechdrift.comparisons.groups import GROUPS, NO_DIMENSIONS, UNITS, filters_of, measures_of, members_of
from mechdrift.comparisons.reading import SIZES, UNKNOWN
from mechdrift.records.notebook import counted
from mechdrift.records.words import ALL
from mechdrift.report.sheets import packed
from mechdrift.report.templating import slug, templates
from mechdrift.report.words import DASH, MINUS, bare_p, dimension_name, interval, number
from mechdrift.runs import Run, check_target
from mechdrift.statistics.grids import ALPHA

if TYPE_CHECKING:  # its method `report` imports this module
    from mechdrift.comparisons.many import PooledRuns

TITLES = {"reasoning": "Reasoning", ALL: "Mean of the dimensions"}
GROUP_WORDS = {"route": "route", "family": "model family", "size": "size", "parent": "parent"}
ORDER = (*(name for _, name in SIZES), UNKNOWN)
HALF = 30  # pixels of a small interval on either side of zero
POINTS = 100
ENDS = ("estimate", "low", "high", "predicted_low", "predicted_high")


def write_many(pooled: "PooledRuns", out: Path) -> Path:
    """Write the page to `out`; it needs no other file."""
    out = check_target(out)
    measures = measures_of(pooled.frame)
    rows = _rows(pooled, out.parent, measures)
    text = (
        templates()
        .get_template("many.html.j2")
        .render(
            title=_title(pooled.runs),
            lead=lead(pooled),
            notes=pooled.notes,
            left_out=pooled.left_out,
            filters=_filters(pooled.runs),
            units=[unit for unit in UNITS if unit in set(pooled.pooled.unit)],
            measures=[(name, title_of(name)) for name in measures],
            rows=rows,
            half=HALF,
            content=_content(pooled, rows, measures),
            sheets={"changes": packed(_changes_sheet(pooled)), "summaries": packed(pooled.pooled)},
            stem=slug(out.stem),
        )
    )
    return Run(out.parent).write_text(out.name, text)


def title_of(measure: str) -> str:
    """A measure in words: a dimension, reasoning, or the mean of the dimensions."""
    return TITLES.get(measure) or dimension_name(measure)


def _title(table: pd.DataFrame) -> str:
    pairs, parents = table.pair.nunique(), table.parent_print.nunique()
    runs = "" if pairs == len(table) else f"{counted(len(table), 'run')} of "
    return f"{runs}{counted(pairs, 'pair')} of models, {counted(parents, 'parent')}"


def lead(pooled: "PooledRuns") -> str:
    """The mean of the dimensions over all runs in two sentences."""
    rows = pooled.summary
    row = next(iter(rows[(rows.dimension == ALL) & (rows.unit == "pair")].to_dict("records")), None)
    if row is None or row["k"] < 2:
        return "Fewer than two pairs can tell all of their dimensions, so no mean over pairs is given."
    over = ", which holds 0, so there may be no change" if row["low"] <= 0 <= row["high"] else ""
    return (
        f"Over {row['k']} pairs, the share of aligned answers to triggers changes by {tenths(row['estimate'])} points "
        f"on average (95% interval {_between(row['low'], row['high'])}{over}). In one more pair like these, a change "
        f"of {_between(row['predicted_low'], row['predicted_high'])} points is to be expected (95%)."
    )


def tenths(share: float) -> str:
    """A mean change in points, with one decimal, because it is known that well over many pairs."""
    text = f"{share * POINTS:+.1f}".replace("-", MINUS)
    return "0.0" if text[1:] == "0.0" else text


def _between(low: float, high: float) -> str:
    return DASH if math.isnan(low) else f"{tenths(low)} to {tenths(high)}"


def _filters(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The lists of the page to choose runs by; each value has its number of runs."""
    lists = []
    for name in filters_of(table):
        counts = table[name].value_counts()
        values = sorted(counts.index, key=lambda value: (ORDER.index(value) if value in ORDER else -1, value))
        lists.append(
            {
                "name": name,
                "words": GROUP_WORDS[name],
                "options": [(value, f"{value} ({counts[value]})") for value in values],
            }
        )
    return lists


def _rows(pooled: "PooledRuns", folder: Path, measures: list[str]) -> list[dict[str, Any]]:
    """A line of the table per run; a cell per measure."""
    changes = {name: part.set_index("dimension").to_dict("index") for name, part in pooled.frame.groupby("run")}
    bounds = pooled.frame[["low", "high"]].abs().max(axis=1)
    scale = HALF / max(float(bounds.quantile(0.99)), 0.05)
    return [
        {
            **{name: row[name] for name in ("run", *GROUPS)},
            "href": _link(Path(row["folder"]), folder) if row["has_report"] else "",
            "parameters": None if math.isnan(row["parameters"]) else int(row["parameters"]),
            "billions": _billions(row["parameters"]),
            "cells": [_cell(changes[row["run"]].get(measure), scale) for measure in measures],
            "kl": _value(changes[row["run"]].get(ALL, {}).get("kl", math.nan)),
        }
        for row in pooled.runs.to_dict("records")
    ]


def _link(run: Path, folder: Path) -> str:
    """The relative path from the page to a run's report, or its whole address where they lie on different drives."""
    report = run / "report.html"
    if run.anchor != folder.anchor:
        return report.as_uri()
    return quote(Path(os.path.relpath(report, folder)).as_posix())


def _billions(parameters: float) -> str:
    if math.isnan(parameters):
        return DASH
    return f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"


def _value(value: float) -> tuple[str, float | None]:
    return number(value), None if math.isnan(value) else value


def _cell(row: Mapping[str, Any] | None, scale: float) -> dict[str, Any]:
    """A change in points, its interval as pixels, and its words."""
    if row is None or row["reason"] or math.isnan(row["difference"]):
        why = row["reason"] if row else ""
        return {"text": "cannot tell" if why else DASH, "title": why, "value": None, "tone": "quiet", "pixels": []}
    falls = row["difference"] < 0
    return {
        "text": number(row["difference"], share=True, signed=True) + ("*" if row["established"] else ""),
        "title": interval(row["low"], row["high"], share=True, signed=True),
        "value": row["difference"] * POINTS,
        "low": row["low"] * POINTS,
        "high": row["high"] * POINTS,
        "tone": ("worse" if falls else "better") if row["established"] else "",
        "pixels": [round(HALF + max(-HALF, min(HALF, row[end] * scale)), 1) for end in ("low", "difference", "high")],
    }


def _content(pooled: "PooledRuns", rows: list[dict[str, Any]], measures: list[str]) -> dict[str, Any]:
    """What the script works on: runs with their changes in points, and the summary of every group."""
    keys = list(dict.fromkeys(map(tuple, pooled.pooled[[*GROUPS]].to_numpy())))
    return {
        "measures": [{"name": name, "title": title_of(name)} for name in measures],
        "filters": filters_of(pooled.runs),
        "runs": [
            {
                **{name: row[name] for name in ("run", "href", *GROUPS)},
                "cells": [_numbers(cell) for cell in row["cells"]],
            }
            for row in rows
        ],
        "groups": _lookup(pooled.runs, keys),
        "summaries": [_summary(part) for part in _parts(pooled.pooled, keys)],
    }


def _numbers(cell: Mapping[str, Any]) -> list[Any]:
    if cell["value"] is None:
        return [None, cell["title"]]
    return [round(cell[name], 2) for name in ("value", "low", "high")] + [cell["tone"]]


def _lookup(table: pd.DataFrame, keys: list[tuple[str, ...]]) -> list[list[Any]]:
    """Every choice that some run fits, with the place of the group that holds the same runs."""
    place = {members_of(table, key).tobytes(): at for at, key in enumerate(keys)}
    chosen = filters_of(table)
    options = {
        tuple(value if keep else "" for value, keep in zip(row, kept, strict=True))
        for row in table[[*GROUPS]].drop_duplicates().itertuples(index=False, name=None)
        for kept in product(*[(False, True) if name in chosen else (False,) for name in GROUPS])
    }
    return [[*option, place.get(members_of(table, option).tobytes(), -1)] for option in sorted(options)]


def _parts(pooled: pd.DataFrame, keys: list[tuple[str, ...]]) -> list[pd.DataFrame]:
    groups = dict(iter(pooled.groupby(list(GROUPS), sort=False)))
    return [groups[key] for key in keys]


def _summary(part: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A group's summary by unit and measure: the cells of the page's table, and the numbers of the forest plot."""
    found: dict[str, dict[str, Any]] = {}
    for row in part.to_dict("records"):
        drawn = [None if math.isnan(row[end]) else round(row[end] * POINTS, 2) for end in ENDS]
        found.setdefault(row["unit"], {})[row["dimension"]] = {"cells": _words(row), "drawn": drawn}
    return found


def _words(row: Mapping[str, Any]) -> list[str]:
    p = row["p"] if row["dimension"] in NO_DIMENSIONS else row["p_holm"]
    ends = f" ({_between(row['low'], row['high'])})" if row["k"] > 1 else ""
    star = "*" if p < ALPHA else ""
    return [
        str(row["k"]),
        tenths(row["estimate"]) + star + ends,
        bare_p(p),
        tenths(row["tau"]).removeprefix("+") if row["k"] > 1 else DASH,
        number(row["i2"], share=True),
        _between(row["predicted_low"], row["predicted_high"]),
        f"{row['fell']} · {row['rose']}",
        str(row["left_out"] or ""),
    ]


def _changes_sheet(pooled: "PooledRuns") -> pd.DataFrame:
    facts = pooled.runs.drop(columns=["pair", "parent_print", "has_report"])
    return facts.merge(pooled.frame, on="run")
