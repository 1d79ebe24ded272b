"""Where the change acts: patch grids (`grid`, public) and the exact engine that makes them fast (`replay`)."""

from mechdrift.patching.grid import patch

__all__ = ["patch"]
