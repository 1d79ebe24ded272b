from .children import Comparison, compare_runs
from .many import PooledRuns, pool_runs
from .outcomes import Gate

__all__ = ["Comparison", "Gate", "PooledRuns", "compare_runs", "pool_runs"]
