"""The command line: `mechdrift COMMAND`.

application  the commands, in the groups and the order of `mechdrift --help`
audits       commands that ask models: audit, trajectory, stress, repair
results      commands that read a finished run: report, card, compare, gate, export
studies      commands for many audits and many machines: plan, run, status, work, merge
scores       score: one probe set or benchmark
inventory    what there is to ask: pairs, probes, look
measuring    bench: this machine and mechdrift itself
options      options and arguments that several commands share
entry        `main`: errors become sentences and exit codes
terminal     what the terminal is shown, and what it is spared
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
