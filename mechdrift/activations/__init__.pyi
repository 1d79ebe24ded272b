from .capture import collect, collect_sites
from .readouts import Observed, Readout
from .to_disk import collect_to

__all__ = ["Observed", "Readout", "collect", "collect_sites", "collect_to"]
