"""Which dimensions there are, in the order in which they are shown (`records.DIMENSIONS`)."""

from mechdrift.behaviour.dimensions.bias import BIAS
from mechdrift.behaviour.dimensions.ethics import ETHICS
from mechdrift.behaviour.dimensions.privacy import PRIVACY
from mechdrift.behaviour.dimensions.record import Dimension
from mechdrift.behaviour.dimensions.robustness import ROBUSTNESS
from mechdrift.behaviour.dimensions.safety import SAFETY
from mechdrift.behaviour.dimensions.toxicity import TOXICITY
from mechdrift.probes.sets import add_probe_file
from mechdrift.records import DIMENSIONS, MechdriftError

REGISTRY: dict[str, Dimension] = {
    dimension.name: dimension for dimension in (SAFETY, TOXICITY, BIAS, ETHICS, PRIVACY, ROBUSTNESS)
}


def dimension_of(name: str) -> Dimension:
    """The dimension of a name.

    Raises:
        MechdriftError: where there is none; the sentence lists those that there are.
    """
    if name not in REGISTRY:
        raise MechdriftError(f"there is no dimension {name!r}: there are {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def add_dimension(dimension: Dimension) -> None:
    """Add a dimension of your own, for this Python process: it is asked, judged, scored and shown like the six.

    Args:
        dimension: its `name` must be new, a Python name; `probes` is the JSONL file of its items.

    Raises:
        MechdriftError: where the name is taken or is none, or where there is no probe file.
    """
    if dimension.name in REGISTRY or not dimension.name.isidentifier() or dimension.name == "reasoning":
        raise MechdriftError(f"a dimension cannot be called {dimension.name!r}: give one new word.")
    if dimension.probes is None:
        raise MechdriftError(f"the dimension {dimension.name} has no probe set: give the path of a JSONL file.")
    add_probe_file(dimension.name, dimension.probes, dimension.card)
    REGISTRY[dimension.name] = dimension
    DIMENSIONS.append(dimension.name)
