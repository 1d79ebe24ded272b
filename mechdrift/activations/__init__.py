"""From tokens to tensors: what a model holds at a layer and a token role.

capture      `collect`: activations of both models, by layer and role
prompts      the token ids that each model of a pair reads
one_model    `collect_one`: activations of one model
to_disk      `collect_to`: activations of more prompts than fit in memory
store        the files of such a collection
recording    the forward pass: sites are recorded on the modules themselves, batch by batch
batching     the one loop of forward passes over sorted, padded batches
readouts     one number per prompt from the logits: log-odds of openings, calibrated and validated
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
