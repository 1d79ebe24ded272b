from .benchmarks.loading import load_benchmark
from .benchmarks.registry import BENCHMARKS
from .rendering import Renderer, render_items
from .sets import PlainRequest, SentencePair, load_card, load_plain, load_probes, load_sentences

__all__ = [
    "BENCHMARKS",
    "PlainRequest",
    "Renderer",
    "SentencePair",
    "load_benchmark",
    "load_card",
    "load_plain",
    "load_probes",
    "load_sentences",
    "render_items",
]
