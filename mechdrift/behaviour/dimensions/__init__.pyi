from .record import Dimension, Judge, Metric, VariantMetric
from .registry import add_dimension, dimension_of

__all__ = ["Dimension", "Judge", "Metric", "VariantMetric", "add_dimension", "dimension_of"]
