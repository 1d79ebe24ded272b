"""What brings alignment back, and at what price.

making       `repair`: one method at one strength, and what it gives: `Repaired`
record       what a method is: its paper, what it needs, and one of four shapes
registry     all methods by name, open to others
methods      one file a method
evidence     what a method may look at: the pair and the seen half of the families
changes      a change of weights, as narrow matrices where it is that
files        repairs on disk: the change, a LoRA adapter, a merged folder
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
