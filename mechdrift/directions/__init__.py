"""What differs inside: directions of each model, and how they moved from one to the other.

finders      a direction per layer and role, from contrasting prompts
families     how items are grouped: twins, halves of the families, resampled families
cones        how sure a direction is: how far it turns when families are resampled
best_layer   the layer where a direction separates best: one rule for all
drift        cosine and angle between the two models' directions, noise ceiling, null
drift_design  what such a comparison draws once, and prepares of each layer
transfer     how well one model's direction separates the other model's items
shifts       how far training moved each class of items
dimensions   directions of different dimensions against each other
thinking     projection on a direction along the model's thinking
export       directions as files: safetensors, steering vectors, GGUF control vectors
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
