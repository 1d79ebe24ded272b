"""A row of the tables that `validate.py` and `coherence.py` write."""

from mechdrift.statistics.intervals import Interval


def row(of: str, measure: str, n: int, found: Interval, unit: str) -> dict:
    signed = "+.3f" if "difference" in measure else ".3f"
    value, low, high = (format(x, signed) for x in (found.estimate, found.low, found.high))
    return {"of": of, "measure": measure, "value": value, "95 % interval": f"{low} to {high}", "n": n, "unit": unit}
