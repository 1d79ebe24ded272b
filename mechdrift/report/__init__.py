"""The report of a run: `write_report(run)` for the page, `model_card(run)` for Markdown, `figures` for single figures
in a notebook.

    from mechdrift.report import figures
    figures.direction_drift(run.table("drift")).show()

Everything here reads a run folder (or its tables) and nothing else: no model, no network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
