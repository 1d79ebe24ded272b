"""Several runs: children of one parent side by side, and a release's check.

children     `compare_runs`: paired comparisons between children, Holm-adjusted
gate         `gate`: does a run keep the limits of a release?
figures      figures of a comparison
page         its page
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
