"""The report of a run: `write_report(run)` for the page, `model_card(run)` for Markdown, `figures` for single figures in a notebook.

    from mechdrift.report import figures
    figures.direction_drift(run.table("drift")).show()

Everything here reads a run folder (or its tables) and nothing else: no model, no network.
"""

from mechdrift.report import figures
from mechdrift.report.card import model_card
from mechdrift.report.page import write_figures, write_report

__all__ = ["figures", "model_card", "write_figures", "write_report"]
