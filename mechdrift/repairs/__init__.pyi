from .making import Repaired, load_repair, repair
from .record import Repair
from .registry import add_repair

__all__ = ["Repair", "Repaired", "add_repair", "load_repair", "repair"]
