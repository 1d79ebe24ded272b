"""Several runs: children of one parent side by side, many pairs as a whole, and a release's check.

choosing         which comparison fits the runs that are given

children         `compare_runs`: a few children of one parent, against it and with each other
pairing          whether these runs can be compared
changes          the rows of the comparison
figures          its figures: changes, gain against alignment, divergence
figures_by_layer its figures of directions and patches, by layer
captions         the words of these figures
page             its page

many             `pool_runs`: what holds over many pairs, and how much they differ
reading          what each of many runs says
groups           groups of runs, by route, family, size and parent
pooling          the summary of each group
many_page        its page

gate             `gate`: does a run keep the limits of a release?
stress_gate      the same for a stress test
outcomes         pass, fail, cannot tell
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
