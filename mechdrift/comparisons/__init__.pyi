from .children import Comparison, compare_runs
from .gate import Gate

__all__ = ["Comparison", "Gate", "compare_runs"]
