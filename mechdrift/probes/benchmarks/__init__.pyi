from .loading import load_benchmark, read_rows, subset
from .registry import BENCHMARKS, Benchmark, benchmark_of
from .rows import Row

__all__ = ["BENCHMARKS", "Benchmark", "Row", "benchmark_of", "load_benchmark", "read_rows", "subset"]
