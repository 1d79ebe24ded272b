"""What is compared: two models of one lineage.

named        `load_pair`: a pair from names, folders, an adapter or a pair file
pair         `Pair`: its models opened one at a time
pair_files   a pair in a small TOML file
catalogue    the embedded pairs by name
comparable   whether two models can be compared layer by layer
routes       the kinds of training, and their names
loading      one model from the hub, a folder or an adapter
guards       what a stranger's model folder may ask of the libraries that read it
foreign_tokenizers  does a stranger's tokenizer come to an end?
structure    its modules, found through TransformerLens' adapters and proved at load
embedded     the base model of the embedded pairs, from the package index
precision    number formats and fast float32 products
chat         how a model is asked, as far as somebody says so
asked        the same for both sides of a pair, checked against their templates
conventions  how a model thinks, read off its tokenizer and template
markers      the forms of think markers
switches     what turns thinking on and off
templates    the chat template as a program
lineage      is one the child of the other? Weights, tokenizers and templates compared
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
