"""The schemas of all tables of a run folder: every column with its kind, unit and meaning.

schema       a column, a table, and the one check that every table passes when it is written and when it is read
behaviour    answers, verdicts, scores, divergence
directions   what differs inside, and what a direction does
patching     patches, placebos, grafts
several      tables over several checkpoints or runs, and of published benchmarks
repairs      what a repair brings back, and its price
stress       stress tests
manifest     run.json
fields       the check of a JSON or TOML file's fields
registry     all tables by name; `python -m mechdrift.tables` prints them as a page of the documentation
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
