"""Where the change acts and where it comes from: patches of activations (`grid`), grafts of weights (`grafts`), first-order estimates
(`attribution`), what passes through the thinking (`passage`); and the exact engine that makes them fast (`replay`)."""

from mechdrift.patching.attribution import attribute
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import patch

__all__ = ["attribute", "graft", "patch"]
