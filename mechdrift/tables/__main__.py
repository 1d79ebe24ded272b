"""`python -m mechdrift.tables [FILE]`: the reference page of all tables, printed or written."""

import sys
from pathlib import Path

from mechdrift.tables.registry import reference

if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
else:
    print(reference())
