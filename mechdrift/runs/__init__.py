"""A run: a folder with everything one audit computed, that anyone can open.

    run.json            schema number, config, versions, seeds, hashes, pair audit, timings, finished stages
    *.parquet           tables (scores, completions, readouts, drift, patch, kl, …)
    *.safetensors       tensors (directions)
    report.html         the page; `figures/` the single figures

A run folder belongs to one configuration: another pair or preset is refused. Every table has a schema
(`mechdrift.tables`), which is checked when the table is written and when it is read. The schema number in run.json
rises when tables get columns or values get other names. Folders of earlier numbers are still read: missing columns are
filled in as missing, and words are translated to today's. They can be reported and compared, but not continued; a new
audit needs a folder of its own.

run         `Run`: the folder, its tables and tensors, its finished stages, its page and card
opening     `load_run` to read a run, `open_run` to start or continue one
manifest    run.json, checked and in today's words
files       files that are written whole or not at all, locks, hashes

As with `mechdrift.records`, the package's own code imports these names from here; each name loads only its own file.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
