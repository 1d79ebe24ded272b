"""mechdrift: what a reasoning conversion did to a language model's alignment, and where inside it happened.

The public names, in the order of the data flow. See `mechdrift audit --help` for the command line.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
