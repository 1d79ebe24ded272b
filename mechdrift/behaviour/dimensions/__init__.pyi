from .record import AnswerMetric, Dimension, Judge, VariantMetric
from .registry import add_dimension, dimension_of

__all__ = ["AnswerMetric", "Dimension", "Judge", "VariantMetric", "add_dimension", "dimension_of"]
