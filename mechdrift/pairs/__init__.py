"""Pairs of models: loading (`pair`, `loading`), structure, arithmetic, the lineage audit, and the embedded zoo."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
