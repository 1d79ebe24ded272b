"""Where the change acts and where it comes from.

grid            `patch`: activations of the donor in the recipient, cell by cell
grafts          `graft`: weights of the donor in the recipient
swaps           the donor's parameters, put into the recipient's blocks for a moment
attribution     `attribute`: patches estimated to first order
decomposition   `decompose`: how much of an effect passes through the thinking
plan            what is decided before a grid opens a model
donors          what both models read, and whose activations are copied
cells           which layers, tokens and heads are patched
passes          the donor's and the recipient's forward passes
replay          the exact engine that makes grids fast
shared_prefix   attention of many copies of a prompt that share its first tokens
naive           one full forward pass per cell, for models that cannot be replayed
checks          self-tests that a grid has to pass
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
