"""What brings alignment back, and what does it cost?

making       `repair`: one method at one strength, and what it gives: `Repaired`
record       what a method is: its paper, what it needs, and one of four shapes
registry     all methods by name, open to others
methods      one file per method
evidence     what a method may look at: the pair and the seen half of the families
changes      a change of weights, as a product of narrow matrices where it is one
files        repairs on disk: the change, a LoRA adapter, a merged folder
editing      edits of activations, at the tokens of some roles
words        words put into the thinking
training     a recipe as rows, and a LoRA trainer of a few lines
using        a repaired model, ready to write and to be read
price_list   `price_repairs`: what each repair of an audited pair's child brings back, and what it costs
price_work   asks one repair after the other, and adds the rows
setting      how an audit asked its models, opened again
halves       the families that methods see, and those that are reported
answered     what one model answered on one half, a row per item
prices       a row per measure, compared with child and parent
divergences  how far a repair moves the child on text that should stay
choice       limits, and the choice of a strength and a repair on the seen half
picking      the best repair within limits, written out and audited
sentences    what a price list says, in words
mechanism    did the parent's mechanism come back, or was a new one built?
figures      the trade between reasoning and alignment, dimension by dimension, and inside
page         the page of a price list
command      what `mechdrift repair` prints
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
