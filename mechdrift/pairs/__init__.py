"""What is compared: two models of one lineage.

named        `load_pair`: a pair from names, folders, an adapter or a pair file
pair         `Pair`: its models opened one at a time
pair_files   a pair in a small TOML file
catalogue    the embedded pairs by name
comparable   whether two models can be compared layer by layer
routes       the kinds of training, and their names
loading      one model from the hub, a folder or an adapter
adapters     LoRA adapters: recognised, checked, merged into a model
own          models that the caller has loaded, used without being changed
hub          the Hugging Face hub where there is no network
guards       what a stranger's model folder may ask of the libraries that read it
foreign_tokenizers  whether encoding with a stranger's tokenizer ends
read_tokenizer      the program that tries it, in a process of its own
structure    a model's modules, found through TransformerLens' adapters and proved at load
layout       the same modules, described by hand
embedded     the base model of the embedded pairs, from the package index
precision    number formats and fast float32 products
chat         the settings by which a user says how a model is asked
asked        these settings for both sides of a pair, checked against their templates
conventions  how a model thinks, read off its tokenizer and template
markers      the forms of think markers
switches     what turns thinking on and off
templates    the chat template as a program
lineage      whether one model is the child of the other: weights, tokenizers and templates compared
weight_change  how far training moved the weights of each layer
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
