from .capture import collect, collect_sites, collect_to
from .readouts import Observed, Readout

__all__ = ["Observed", "Readout", "collect", "collect_sites", "collect_to"]
