"""What a run folder shows: its page, its section for a model card, and its figures.

Audits and stress tests have different pages and cards, and this module decides which of the two a folder holds. `Run`
lies below this package; it imports this module, and no other of the report, when it is asked to show something.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mechdrift.runs import Run

if TYPE_CHECKING:  # a card is written without plotly
    from mechdrift.report.gallery import Figures


def write_page(run: Run, out: Path | None = None) -> Path:
    """Write the page of an audit or a stress test into its folder, or into `out`."""
    if run.is_stress_test:
        from mechdrift.report.stress import write_stress_page

        return write_stress_page(run, out)
    from mechdrift.report.page import write_report

    return write_report(run, out)


def card_of(run: Run) -> str:
    """The section of an audit or a stress test for a model card, as Markdown."""
    if run.is_stress_test:
        from mechdrift.report.stress import stress_card

        return stress_card(run)
    from mechdrift.report.card import model_card

    return model_card(run)


def figures_of(run: Run) -> "Figures":
    """The figures of an audit by name."""
    from mechdrift.report.gallery import Figures

    return Figures(run)
