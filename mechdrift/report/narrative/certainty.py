"""How sure the verdict is: what it rests on, what counts as established, and what could not be seen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechdrift.behaviour.verdicts import headline_rows
from mechdrift.report.narrative.changes import Finding
from mechdrift.report.narrative.evidence import margin, points, span
from mechdrift.report.narrative.summary import names_of
from mechdrift.report.words import dimension_name, is_share, listing
from mechdrift.statistics.grids import ALPHA

UNSEEN = "Smaller changes may be there and unseen: “no change established” does not mean “no change”."


def certainty(scores: pd.DataFrame, found: Sequence[Finding]) -> list[str]:
    """The sentences below "How sure it is", from a score table and the findings made of it."""
    rows = headline_rows(scores)
    if rows.empty:
        return []
    clear = [f for f in found if f.verdict in ("fell", "rose")]
    if (waves := rows[rows.decision.astype(bool)]).size:
        return _certainty_of_waves(waves, clear)
    return [
        f"Each dimension rests on {span(rows.n)} prompts in {span(rows.families)} families, which are groups of "
        "prompts that share a topic or a template. An interval is wide where few families were asked.",
        "A change is called established only where its p-value, adjusted for the number of dimensions by Holm's "
        f"method, is below {ALPHA} and its 95% interval leaves out zero. {_holds_for(clear)}",
        *_smallest_changes(rows),
    ]


def _holds_for(clear: Sequence[Finding]) -> str:
    return f"That holds for {names_of(clear)}." if clear else "That holds for no dimension."


def _smallest_changes(rows: pd.DataFrame) -> list[str]:
    """How large a change would be found in 80 % of audits. No share can change by 100 points or more."""
    sizes = rows[rows.metric.map(is_share)].set_index("dimension").mde.dropna().abs()
    possible, too_large = sizes[sizes < 1], sizes[sizes >= 1]
    said = []
    if len(possible):
        low, high = points(possible.min()), points(possible.max())
        size = high if low == high else f"{low.split()[0]} to {high}, depending on the dimension,"
        said.append(f"Before adjusting, a change of {size} would be found in 80% of audits like this one.")
    if len(too_large):
        said.append(f"Even the largest possible change would often be missed in {_dimensions(too_large.index)}.")
    return [" ".join([*said, UNSEEN])] if said else []


def _dimensions(names: Sequence[str] | pd.Index) -> str:
    return listing(dimension_name(name).lower() for name in names)


def _certainty_of_waves(rows: pd.DataFrame, clear: Sequence[Finding]) -> list[str]:
    """The same for an audit in waves: what its decisions mean, and how often they are wrong."""
    allowed = margin(rows.to_dict("records")[0])
    return [
        "Prompts were asked in waves of families, and each dimension was asked until it was decided. Each rests on "
        f"{span(rows.n)} prompts in {span(rows.families)} families. All p-values and intervals allow for looking "
        "several times (O'Brien-Fleming spending).",
        "A dimension is called changed where its p-value, adjusted for the looks and, by Holm's method, for the number "
        f"of dimensions, is below {ALPHA} and its interval leaves out zero. Where nothing changed, at most 5 of 100 "
        f"audits call any dimension changed. {_holds_for(clear)}",
        f"A dimension has no change where its whole interval lies within {allowed} of zero. Intervals are repeated: in "
        "95 of 100 audits, the intervals of all looks contain the true difference.",
    ]


def simulated_power(manifest: Mapping[str, Any]) -> list[str]:
    """The falls that an audit would find, in one sentence; none where that was not simulated.

    The manifest's `power` maps a dimension to the smallest fall that was found in 80 % of simulated audits, or to None
    where no fall that was tried was found so often.
    """
    power: Mapping[str, float | None] = manifest.get("power", {})
    if not power:
        return []
    names: dict[float, list[str]] = {}
    for name, fall in power.items():
        names.setdefault(np.inf if fall is None else fall, []).append(name)
    sizes = [f"{points(fall)} in {_dimensions(group)}" for fall, group in sorted(names.items()) if np.isfinite(fall)]
    if missed := names.get(np.inf):
        sizes.append(f"in {_dimensions(missed)}, none of the falls that were tried is found so often")
    return [
        "How large a fall would be found in 80% of audits was simulated from these answers, with all families that may "
        f"be asked and after adjusting for the number of dimensions: {'; '.join(sizes)}."
    ]
