"""One audit: one pair, one run folder.

config       what to audit: the one declaration behind `md.Audit`, the command line and its help
options      the options that audits share with other commands: models and engine
plan         everything that a configuration names, looked up: probe sets, size, judge, think modes
pipeline     `audit`: the stages in order, each only once
stages       what each stage asks, reads and writes
summaries    tables of a stage that are computed from other tables
answers      a finished run turned back into records
power        what an audit can find, by simulation

preview      what an audit would ask, and whether it fits
work         how much work each stage is; `calibration` times this machine; `estimate` gives seconds and bytes

shards       one step of an audit, or a shard of it, in one process; `steps` says what can be divided
parts        what a shard writes; `provenance` checks that parts belong together; `merging` joins them
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
