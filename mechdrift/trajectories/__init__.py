"""One training: its checkpoints one after the other.

run          `trajectory`: audits every checkpoint against the parent
history      the file that says which checkpoints there are
stages       what is asked and read at each checkpoint
series       one measure over all checkpoints, with its intervals
half_change  at which step half of a change was there, with its interval
tables       a row per step and measure, and a row per measure
words        what may be said of the order of changes
figures      figures of a trajectory
captions     the words of these figures
page         its page
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
