"""What is asked: six probe sets (`sets`, data files with cards), the field's benchmarks, and rendering to tokens with roles."""

from mechdrift.probes.benchmarks import BENCHMARKS, load_benchmark
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.sets import load_card, load_probes

__all__ = ["BENCHMARKS", "Renderer", "load_benchmark", "load_card", "load_probes", "render_items"]
