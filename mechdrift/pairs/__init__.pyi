from .catalogue import EMBEDDED_PAIRS
from .layout import Layout
from .lineage import PairAudit, audit_pair
from .loading import LanguageModel, ModelSource, fingerprint
from .named import load_pair, load_parent
from .pair import Pair, give_back_memory
from .precision import default_dtype_for_generation, fast_float32
from .weight_change import layer_change

__all__ = [
    "EMBEDDED_PAIRS",
    "LanguageModel",
    "Layout",
    "ModelSource",
    "Pair",
    "PairAudit",
    "audit_pair",
    "default_dtype_for_generation",
    "fast_float32",
    "fingerprint",
    "give_back_memory",
    "layer_change",
    "load_pair",
    "load_parent",
]
