from .benchmark import print_planted

__all__ = ["print_planted"]
