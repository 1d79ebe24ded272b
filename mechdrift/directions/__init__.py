"""What differs inside: directions of each model, and how they moved from one to the other.

finders      a direction per layer and role, from contrasting prompts; how far it scatters
best_layer   the layer where a direction separates best: one rule for all
drift        cosine and angle between the two models' directions, noise ceiling, transfer
dimensions   directions of different dimensions against each other
thinking     projection on a direction along the model's thinking
export       directions as files: safetensors, steering vectors, GGUF control vectors
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
