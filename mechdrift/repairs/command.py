"""What `mechdrift repair` prints: the price list with one line per repair, and the repair that was picked."""

from pathlib import Path
from typing import Any

from mechdrift.repairs.picking import Picked, pick_repair
from mechdrift.repairs.price_list import PriceList, price_repairs, short_table

HEADINGS = {
    "aligned": "aligned",
    "recovered": "% of gap",
    "reasoning": "reasoning",
    "twins": "twins",
    "thought": "thought",
    "thinking": "thinking x",
    "unclosed": "unclosed",
    "missing": "missing",
    "kl": "KL",
}


def run_repair(run: Path, pick: str | None, **how: Any) -> str:
    """Run the command and return the text to print."""
    if pick is None:
        return text_of(price_repairs(run, **how))
    picked = pick_repair(run, pick, **how)
    return f"{text_of(picked.prices)}\n\n{_told(picked)}"


def text_of(prices: PriceList) -> str:
    """The list on the reported half, its sentences, and the place of its page."""
    table = short_table(prices.frame)
    ends = ["" if low != low else f"{low:.0f} to {high:.0f}" for low, high in zip(table.low, table.high, strict=True)]
    shown = table.drop(columns=["low", "high"]).rename(columns=HEADINGS)
    shown.insert(list(shown).index("% of gap") + 1, "95 %", ends)
    text = shown.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.3g}")
    legend = (
        "measured on families that no method and no choice saw; n: finished triggers; aligned, unclosed and missing in "
        "per cent; reasoning, twins and thought as change against the child in points; all intervals are in repairs.csv"
    )
    return "\n".join([text, "", legend, *prices.sentences, f"repairs: {prices.run.folder / 'repair.html'}"])


def _told(picked: Picked) -> str:
    lines = [picked.sentence, f"ready to load: {picked.path}"]
    if picked.audit is not None:
        lines.append(f"audited: {picked.audit.folder / 'report.html'}")
    return "\n".join(lines)
