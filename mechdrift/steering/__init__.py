"""What a direction does: it is removed from a model or added to it, and the behaviour is measured.

edits        `ablate` and `steer`: edits of the residual stream while the model runs
weights      `orthogonalise`: a copy of a model that cannot write a direction
sweeps       many candidates at the price of few forward passes
asked        the items on which directions are tried, and how they are read out
selection    `select_direction`: which direction is chosen, by what it does
controls     vectors of the same length that should do nothing
curves       `steer_back`: the parent's direction added to the child at several strengths
trials       one arm of such an experiment, measured
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
