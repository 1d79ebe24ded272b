"""Where the change acts and where it comes from: patches of activations (`grid`), grafts of weights (`grafts`), first-order estimates
(`attribution`), what passes through the thinking (`decomposition`); and the exact engine that makes them fast (`replay`)."""

from mechdrift.patching.attribution import attribute
from mechdrift.patching.decomposition import Decomposition, decompose
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import both_ways, patch

__all__ = ["Decomposition", "attribute", "both_ways", "decompose", "graft", "patch"]
