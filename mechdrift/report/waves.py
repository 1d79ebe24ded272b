"""Waves on the page: what was known after each wave, and, while an audit runs, what is decided and what is still
asked."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechdrift.records.notebook import counted
from mechdrift.report.words import DASH, bare_p, difference, dimension_name, interval, listing, number

REFRESH = 15  # seconds until the page of an unfinished audit reloads itself
LAST_STAGE = "patch"
RELOADS = f"This page reloads every {REFRESH} seconds until the audit is done."
GOES_ON = "The command that began it goes on from here."
FIXED_UNFINISHED = "This audit is not finished: the answers are scored. Next it looks inside the models."
WORDS = {"go on": "goes on", "no change": "no change", "changed": "changed", "undecided": "undecided"}


def waves_shown(manifest: Mapping[str, Any], waves: pd.DataFrame | None, *, is_running: bool) -> dict[str, Any]:
    """What the page shows of waves: the rows of their table, the margin and, until all stages have ended, what is left.
    `seconds` until it reloads itself are given where an audit draws the page while it runs (`is_running`)."""
    is_done = LAST_STAGE in manifest["stages"]
    left, rows, margin = FIXED_UNFINISHED, [], ""
    if waves is not None and len(waves):
        left, rows = unfinished_said(waves), [_row(row) for row in waves.to_dict("records")]
        margin = difference(waves.margin.iloc[0], share=True).lstrip("+")
    return {
        "rows": rows,
        "unfinished": "" if is_done else f"{left} {RELOADS if is_running else GOES_ON}",
        "seconds": REFRESH if is_running and not is_done else None,
        "margin": margin,
    }


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    ends = interval(row["low"], row["high"], share=True, signed=True)
    return {
        "dimension": dimension_name(row["dimension"]),
        "wave": f"{row['wave']} of {row['waves']}",
        "families": f"{row['families']} of {row['of']}",
        "prompts": f"{row['prompts']:,}",
        "change": difference(row["difference"], share=True) + (f" ({ends})" if ends else ""),
        "boundary": number(row["boundary"]),
        "p": bare_p(row["p"]),
        "p_holm": DASH if row["reason"] else bare_p(row["p_holm"]),
        "decision": WORDS[row["decision"]] + (f": {row['reason']}" if row["reason"] else ""),
    }


def unfinished_said(waves: pd.DataFrame) -> str:
    """What an unfinished audit has decided, and what it does next."""
    last = waves.drop_duplicates("dimension", keep="last")
    left = [dimension_name(name).lower() for name in last.dimension[last.decision == "go on"]]
    said = f"This audit is not finished: {counted(int(waves.wave.max()), 'wave')} asked, "
    decided, undecided = (int(last.decision.isin(names).sum()) for names in (("changed", "no change"), ("undecided",)))
    said += f"{decided} of {counted(len(last), 'dimension')} decided"
    said += f", {undecided} undecided with all families. " if undecided else ". "
    next_step = f"Next it asks {listing(left)}." if left else "Next it looks inside the models."
    return f"{said}{next_step}"
