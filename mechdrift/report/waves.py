"""Waves on the page: what was known after each, and, while an audit runs, what is decided and what is still asked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mechdrift.records.notebook import counted
from mechdrift.report.words import DASH, difference, dimension_name, interval, listing, number, p_value

REFRESH = 15  # seconds until an unfinished page loads itself anew
LAST_STAGE = "patch"
RELOADS = f"The page loads itself anew every {REFRESH} seconds until all is done."
FIXED_RUNNING = f"This audit is not finished: the answers are scored. Next it looks inside the models. {RELOADS}"
NONE_FOUND = "none that was tried"
WORDS = {"go on": "goes on", "no change": "no change", "changed": "changed", "undecided": "undecided"}


def waves_shown(manifest: Mapping[str, Any], waves: pd.DataFrame | None) -> dict[str, Any]:
    """Rows of the table of waves, the margin, and, until all stages have ended, what is running."""
    is_done = LAST_STAGE in manifest["stages"]
    if waves is None or not len(waves):
        return {"rows": [], "running": "" if is_done else FIXED_RUNNING, "seconds": REFRESH, "margin": ""}
    return {
        "rows": [_row(row) for row in waves.to_dict("records")],
        "running": "" if is_done else running_said(waves),
        "seconds": REFRESH,
        "margin": difference(waves.margin.iloc[0], share=True).lstrip("+"),
    }


def power_said(manifest: Mapping[str, Any]) -> list[str]:
    """The falls that the design finds, in a sentence; none where that was not simulated."""
    power: Mapping[str, float | None] = manifest.get("power", {})
    names: dict[float, list[str]] = {}
    for name, fall in power.items():
        names.setdefault(np.inf if fall is None else fall, []).append(dimension_name(name).lower())
    said = [
        f"{NONE_FOUND if np.isinf(fall) else difference(fall, share=True).lstrip('+')} in {listing(group)}"
        for fall, group in sorted(names.items())
    ]
    if not said:
        return []
    return [
        "How large a fall would be found in four of five audits, after adjusting for the number of dimensions, was "
        f"simulated from these answers, item by item, with all families that may be asked: {'; '.join(said)}."
    ]


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    ends = interval(row["low"], row["high"], share=True, signed=True)
    return {
        "dimension": dimension_name(row["dimension"]),
        "wave": f"{row['wave']} of {row['waves']}",
        "families": f"{row['families']} of {row['of']}",
        "prompts": f"{row['prompts']:,}",
        "change": difference(row["difference"], share=True) + (f" ({ends})" if ends else ""),
        "boundary": number(row["boundary"]),
        "p": _p(row["p"]),
        "p_holm": _p(row["p_holm"]),
        "decision": WORDS[row["decision"]] + (f": {row['reason']}" if row["reason"] else ""),
    }


def _p(value: float) -> str:
    return DASH if pd.isna(value) else p_value(value).removeprefix("p ").removeprefix("= ")


def running_said(waves: pd.DataFrame) -> str:
    """What an unfinished audit has decided, and what it does next."""
    last = waves.drop_duplicates("dimension", keep="last")
    left = [dimension_name(name).lower() for name in last.dimension[last.decision == "go on"]]
    said = f"This audit is not finished: {counted(int(waves.wave.max()), 'wave')} asked, "
    decided, undecided = (int(last.decision.isin(names).sum()) for names in (("changed", "no change"), ("undecided",)))
    said += f"{decided} of {counted(len(last), 'dimension')} decided"
    said += f", {undecided} undecided with all families. " if undecided else ". "
    next_step = f"Next it asks {listing(left)}." if left else "Next it looks inside the models."
    return f"{said}{next_step} {RELOADS}"
