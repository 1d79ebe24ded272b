"""Tests with known answers: children of an aligned model whose erosion lies at known places, and a score for every way
of locating it.

parents      the aligned model, its weights before alignment, probes and readout (`tiny`: one that is trained from
             scratch)
children     planting erosion in layers, modules and heads; `training` of chosen layers
drift        benign changes in addition, and decoys: children that changed and did not erode
localisers   every statistic of the toolkit that locates erosion, one function each
scoring      AUROC, recall, distance and false calls, with intervals
benchmark    `mechdrift bench --planted`: all of it
behaviours   positive controls of whole audits: children trained to lose one behaviour
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
