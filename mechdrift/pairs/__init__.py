"""What is compared: two models of one lineage.

pair         `load_pair`: the pair, its models opened one at a time
catalogue    the embedded pairs by name
routes       the kinds of training, and their names
loading      one model from the hub, a folder or an adapter
structure    its modules, found through TransformerLens' adapters and proved at load
embedded     the base model of the embedded pairs, from the package index
precision    number formats and fast float32 products
lineage      is one the child of the other? Weights, tokenizers and templates compared
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
