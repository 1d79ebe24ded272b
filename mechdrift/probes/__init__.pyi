from .benchmarks.loading import load_benchmark
from .benchmarks.registry import BENCHMARKS
from .rendering import Renderer, render_items
from .sets import EverydayRequest, SentencePair, load_card, load_everyday, load_probes, load_sentences

__all__ = [
    "BENCHMARKS",
    "EverydayRequest",
    "Renderer",
    "SentencePair",
    "load_benchmark",
    "load_card",
    "load_everyday",
    "load_probes",
    "load_sentences",
    "render_items",
]
