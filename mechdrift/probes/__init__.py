"""What is asked: six probe sets (`sets`, data files with cards), the field's benchmarks, and rendering to tokens with
roles."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
