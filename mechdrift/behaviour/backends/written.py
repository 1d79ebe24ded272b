"""What wrote the answers of a pair: the line that a report and a table have of it, and whether both models were written
alike."""

import re
from collections.abc import Mapping, Sequence

from mechdrift.records import Completions, MechdriftError, Side


def engine_line(answers: Completions) -> str:
    """What wrote one model's answers, and the fidelity line: how far its log-probabilities are from Hugging Face's."""
    told = " and ".join(engine or "an unnamed engine" for engine in answers.engines)
    return f"{told}; log-probabilities {answers.fidelity}" if answers.fidelity else told


def check_engines(engines: Mapping[Side, Sequence[str]]) -> None:
    """Raise where the two models were written by different engines or number formats: their difference is no drift."""
    kinds = {side: {re.sub(r" [\d.]+\S*,", ",", engine) for engine in names} for side, names in engines.items()}
    if len(kinds) == 2 and kinds["instruct"] != kinds["reasoning"]:
        told = " and ".join(f"the {side} model's by {', '.join(sorted(names))}" for side, names in kinds.items())
        raise MechdriftError(
            f"the answers were written by different engines or number formats ({told}): ask both models through one "
            "kind of engine, in another folder (--out)."
        )
