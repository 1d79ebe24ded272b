from .cones import direction_cones
from .dimensions import compare_dimensions
from .drift import compare_directions
from .export import load_directions, save_directions, to_gguf, to_steering_vectors
from .finders import find_directions
from .thinking import along_thinking

__all__ = [
    "along_thinking",
    "compare_dimensions",
    "compare_directions",
    "direction_cones",
    "find_directions",
    "load_directions",
    "save_directions",
    "to_gguf",
    "to_steering_vectors",
]
