from .attribution import attribute
from .decomposition import Decomposition, decompose
from .grafts import graft
from .grid import both_ways, patch

__all__ = ["Decomposition", "attribute", "both_ways", "decompose", "graft", "patch"]
