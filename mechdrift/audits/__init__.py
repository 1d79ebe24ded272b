"""One audit: one pair, one run folder.

config       what to audit: the one declaration behind `md.Audit`, the command line and its help
pipeline     `audit`: the stages in order, each only once
stages       what each stage asks, reads and writes
shards       one step of an audit, or a part of it, for many machines; parts: what it writes; merging: what joins them
summaries    tables of a stage that are computed from other tables
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
