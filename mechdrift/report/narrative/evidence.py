"""The numbers of one row of the score table in words: levels, difference, interval, p, and what is missing."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from mechdrift.behaviour.verdicts import cannot_tell
from mechdrift.records import SIDES
from mechdrift.records.notebook import counted
from mechdrift.report.words import SIDE_NAMES, difference, interval, is_share, listing, number, p_value

Row = Mapping[str, Any]


def levels(row: Row) -> str:
    """Both models' scores: "82% aligned answers before, 61% after"."""
    share, what = is_share(row["metric"]), "aligned answers" if row["metric"] == "aligned" else row["metric"]
    before, after = number(row["instruct"], share=share), number(row["reasoning"], share=share)
    return f"{before} {what} before, {after} after" if share else f"{what} {before} before, {after} after"


def evidence(row: Row, unit: str = "prompt", group: tuple[str, str] = ("family", "families")) -> str:
    """The difference with its interval, the number of prompts and families, and p where something can be told."""
    share = is_share(row["metric"])
    change = difference(row["difference"], share=share)
    ends = interval(row["low"], row["high"], share=share, signed=True)
    found = f"{change} (95% interval {ends}), {counted(row['n'], unit)} in {counted(row['families'], *group)}"
    if cannot_tell(row):
        return found
    p = p_value(row["p"]) if math.isnan(row["p_holm"]) else f"Holm-adjusted {p_value(row['p_holm'])}"
    return f"{found}, {p}"


def bounds(row: Row) -> str:
    """The values that the score and its difference can take, whatever the missing answers are; empty where none is
    missing."""
    of = ("difference", *SIDES)
    ends = {f"{name}_{end}": row.get(f"{name}_{end}", math.nan) for name in of for end in ("least", "most")}
    missing = sum(row.get(f"incomplete_{side}") or 0 for side in SIDES)
    if not missing or any(math.isnan(end) for end in ends.values()):
        return ""
    low, high = (number(ends[f"difference_{end}"], share=True, signed=True) for end in ("least", "most"))
    sides = [
        interval(ends[f"{side}_least"], ends[f"{side}_most"], share=True) + f"% ({SIDE_NAMES[side]})" for side in SIDES
    ]
    return (
        f" Whatever the {counted(int(missing), 'missing answer')} would have been, the difference lies between {low} "
        f"and {high} points: {listing(sides)}."
    )


def margin(row: Row) -> str:
    """The margin of an audit in waves: "10 points"."""
    return points(row["margin"])


def points(share: float) -> str:
    """A difference of shares without its sign: "10 points"."""
    return difference(share, share=True).lstrip("+")


def span(values: Collection[int]) -> str:
    """ "24", or "8 to 24" where values differ."""
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"
