"""From tokens to tensors: what a model holds at a layer and a token role.

recording    the forward pass: sites are recorded on the modules themselves, batch by batch
capture      `collect`: activations of both models, by layer and role
store        the same for collections larger than memory, in files that resume
readouts     one number per prompt from the logits: log-odds of openings, calibrated and validated
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
