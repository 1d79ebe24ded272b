"""Pairs of models: loading (`pair`, `loading`), structure, arithmetic, the lineage audit, and the embedded zoo."""

from mechdrift.pairs.arithmetic import default_dtype_for_generation, fast_float32
from mechdrift.pairs.lineage import PairAudit, audit_pair, layer_change
from mechdrift.pairs.loading import LanguageModel, ModelSource, fingerprint
from mechdrift.pairs.pair import EMBEDDED_PAIRS, Pair, give_back_memory, load_pair, load_parent

__all__ = [
    "EMBEDDED_PAIRS", "LanguageModel", "ModelSource", "Pair", "PairAudit", "audit_pair", "default_dtype_for_generation",
    "fast_float32", "fingerprint", "give_back_memory", "layer_change", "load_pair", "load_parent",
]  # fmt: skip
