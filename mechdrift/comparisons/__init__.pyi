from .children import Comparison, compare_runs
from .gate import Gate
from .many import PooledRuns, pool_runs

__all__ = ["Comparison", "Gate", "PooledRuns", "compare_runs", "pool_runs"]
