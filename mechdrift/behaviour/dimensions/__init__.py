"""The dimensions of alignment, one file each: how an answer is judged, what is counted, and what the page calls it.

record      what a dimension is
registry    the dimensions that there are; a dimension of your own is added there
common      the metrics that all dimensions have
safety, toxicity, bias, ethics, privacy, robustness
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
