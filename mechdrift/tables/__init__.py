"""What a run folder holds, by name: every table's columns, with kind, unit and meaning.

schema       a column, a table, and the one check that every table passes when it is written and when it is read
behaviour    answers, verdicts, scores, divergence
directions   what differs inside, and what a direction does
patching     patches, placebos, grafts
several      tables over several checkpoints or runs, and of published benchmarks
manifest     run.json; `fields` checks JSON and TOML files, of others too
registry     all tables by name; `python -m mechdrift.tables` prints them as a page of the documentation
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
