"""Where the change acts and where it comes from: patches of activations (`grid`), grafts of weights (`grafts`),
first-order estimates (`attribution`), what passes through the thinking (`decomposition`); and the exact engine that
makes them fast (`replay`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
