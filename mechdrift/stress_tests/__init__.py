"""Stress tests made for reasoning: what breaks the child, the attack, the damaged prompt or its length?

run           `stress`: from a pair to its table, and its run folder
mode          what a mode is: subject, attack, placebo, dose
registry      which modes there are; `add_mode`
modes         the modes that are shipped, one a file
fillers       puzzles, notes and neutral sentences that modes put around a request
asking        what is asked of each model
conversation  thinking, reopening, answering and asking again, on any backend
answers       replies to a judged table, the thought apart
lifts         effect and lift, their intervals, Holm, trend, and what may be said
apart         thought and answer apart, lengths, discrimination
table         all of it as one table
inside        a direction along puzzle and thinking; teacher_forced: the prompts that are read again for it
result        what a stress test returns
recovery      where an attack's effect passes, and whether the direction undoes it
options       what the command takes; command: it runs the test and prints the table
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
