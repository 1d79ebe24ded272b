"""The outcome of a gate: pass, fail or cannot tell, for each limit and for the whole run."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import pandas as pd

from mechdrift.records.notebook import as_html
from mechdrift.report.words import MINUS
from mechdrift.runs import Run

Outcome = Literal["pass", "fail", "cannot tell"]
EXIT_CODES: Mapping[Outcome, int] = {"pass": 0, "fail": 2, "cannot tell": 3}
"""Exit code 1 means an error of use, as in every command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The verdicts of a run, one for each limit.

    They are of the class `Verdict` for an audit, in the order of dimensions, or `LiftVerdict` for a stress test. The
    gate fails if any verdict fails. Otherwise it cannot tell if any verdict cannot.
    """

    run: Run
    verdicts: tuple[Any, ...]

    @property
    def outcome(self) -> Outcome:
        """The outcome of all limits together."""
        found = {verdict.outcome for verdict in self.verdicts}
        return "fail" if "fail" in found else "cannot tell" if "cannot tell" in found else "pass"

    def exit_code(self, unknown_ok: bool = False) -> int:
        """0 pass, 2 fail, 3 cannot tell (0 if `unknown_ok`)."""
        return 0 if unknown_ok and self.outcome == "cannot tell" else EXIT_CODES[self.outcome]

    @property
    def frame(self) -> pd.DataFrame:
        """A row per verdict, a column per field of it."""
        columns = [field.name for field in fields(self.verdicts[0])]
        return pd.DataFrame([{name: getattr(verdict, name) for name in columns} for verdict in self.verdicts])

    def _repr_html_(self) -> str:
        return as_html("Gate", self.outcome, self.frame)

    def __repr__(self) -> str:
        return "\n".join([*(verdict.line for verdict in self.verdicts), f"gate: {self.outcome}"])


def in_points(share: float) -> str:
    """A share in points, with a decimal where it has one, because limits such as 0.025 have one."""
    return f"{round(share * 100, 1) + 0.0:g}".replace("-", MINUS)
