"""What a direction does: it is removed from a model or added to it, and the behaviour is measured.

edits        ablate, steer, orthogonalise: contexts and changes of weights
sweeps       many candidates at the price of few forward passes
selection    which direction is chosen, by what it does
controls     vectors of the same length that should do nothing
curves       `steer_back`: the parent's direction added to the child at several strengths
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
