"""What the models are asked: probe sets, and prompts as token ids.

sets         six probe sets, everyday requests and sentence pairs, from data files with cards
benchmarks   readers of the field's published sets
rendering    prompts as token ids with named roles, through the tokenizer's template
in_place     token ids of a text in its place
roles        role columns: positions and spans of tokens
look         how a question is rendered for both models, to be checked before an audit
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
