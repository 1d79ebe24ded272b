"""What is asked.

sets         six probe sets, everyday requests and sentence pairs, from data files with cards
benchmarks   readers of the field's published sets
rendering    prompts as token ids with named roles, through the tokenizer's template
roles        role columns: positions and spans of tokens
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
