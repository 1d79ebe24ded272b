"""One training: its checkpoints one after the other.

run          `trajectory`: audits every checkpoint against the parent
history      the file that says which checkpoints there are
stages       what is asked and read at each checkpoint
series       one table of all checkpoints
half_change  at which step half of a change was there, with its interval
words        what may be said of the order of changes
figures      figures of a trajectory
page         its page
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
