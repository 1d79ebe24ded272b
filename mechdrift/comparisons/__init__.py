"""Several runs: children of one parent side by side, many pairs as a whole, and a release's check.

children     `compare_runs`: paired comparisons between children, Holm-adjusted
figures      figures of such a comparison
page         its page
many         `pool_runs`: what holds over many pairs, and how much they differ
groups       groups of runs, by route, family, size and parent
many_page    its page
choosing     which of the two fits
gate         `gate`: does a run keep the limits of a release?
stress_gate  the same for a stress test
outcomes     what both say
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
