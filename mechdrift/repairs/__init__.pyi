from .making import Repaired, load_repair, repair
from .price_list import PriceList, price_repairs
from .record import Repair
from .registry import add_repair

__all__ = ["PriceList", "Repair", "Repaired", "add_repair", "load_repair", "price_repairs", "repair"]
