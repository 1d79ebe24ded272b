"""The rows behind the figures, packed into the page: a reader can see them as a table and save them as a CSV file.

A sheet is `{"columns": [...], "rows": [[...], ...]}` as JSON, compressed with gzip and in base64, which
`templates/data.js` unpacks. Numbers keep six significant digits; the run folder has them in full.
"""

import base64
import gzip
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from mechdrift.records.foreign import shown
from mechdrift.report.exhibits import Drawn

DIGITS = 6


def sheets_of(drawn: Iterable[Drawn]) -> dict[str, str]:
    """Every sheet that these figures hand out, packed, by name."""
    found = {name: table for each in drawn for name, table in each.sheets.items()}
    return {name: packed(table) for name, table in found.items()}


def packed(table: pd.DataFrame) -> str:
    """A table as base64 of gzip of JSON: the same bytes for the same table."""
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False, name=None)]
    text = json.dumps({"columns": list(table.columns), "rows": rows}, ensure_ascii=False, allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _cell(value: Any) -> Any:
    """A cell as JSON knows it: a number, text, true or false, or nothing."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return None if value is None or value is pd.NA else shown(str(value))
