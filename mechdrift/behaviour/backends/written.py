"""Which engine wrote a pair's answers: the line in a report, and the check that both models had the same engine."""

import re
from collections.abc import Mapping, Sequence

from mechdrift.records import Completions, MechdriftError, Side


def engine_line(answers: Completions) -> str:
    """The engines that wrote one model's answers, and how far their log-probabilities are from Hugging Face's."""
    engines = " and ".join(engine or "an unnamed engine" for engine in answers.engines)
    return f"{engines}; log-probabilities {answers.fidelity}" if answers.fidelity else engines


def check_engines(engines: Mapping[Side, Sequence[str]]) -> None:
    """Raise where the two models' answers were written by different engines or in different number formats: their
    difference would not be drift."""
    kinds = {side: {re.sub(r" [\d.]+\S*,", ",", engine) for engine in names} for side, names in engines.items()}
    if len(kinds) == 2 and kinds["instruct"] != kinds["reasoning"]:
        shown = " and ".join(f"the {side} model's by {', '.join(sorted(names))}" for side, names in kinds.items())
        raise MechdriftError(
            f"the answers were written by different engines or number formats ({shown}): ask both models through one "
            "kind of engine, in another folder (--out)."
        )
