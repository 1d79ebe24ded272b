"""What is asked: the six probe sets (`sets`, data files with cards) and their rendering to tokens with roles."""

from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.sets import load_card, load_probes

__all__ = ["Renderer", "load_card", "load_probes", "render_items"]
