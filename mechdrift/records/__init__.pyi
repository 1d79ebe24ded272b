from .activations import Activations, DirectionDrift, Directions
from .answers import Completion, Completions, Fidelity, ScoreTable
from .grids import PatchGrid, Verification
from .probes import ProbeItem, ProbeSet, Rendered, check_not_empty, items_by_id
from .words import (
    DIMENSIONS,
    ROLES,
    ROUNDING,
    SIDES,
    MechdriftError,
    RefusalLabel,
    Role,
    Side,
    ThinkMode,
    exactly,
    make_tuples,
    order_dimensions,
    several,
)

__all__ = [
    "DIMENSIONS",
    "ROLES",
    "ROUNDING",
    "SIDES",
    "Activations",
    "Completion",
    "Completions",
    "DirectionDrift",
    "Directions",
    "Fidelity",
    "MechdriftError",
    "PatchGrid",
    "ProbeItem",
    "ProbeSet",
    "RefusalLabel",
    "Rendered",
    "Role",
    "ScoreTable",
    "Side",
    "ThinkMode",
    "Verification",
    "check_not_empty",
    "exactly",
    "items_by_id",
    "make_tuples",
    "order_dimensions",
    "several",
]
