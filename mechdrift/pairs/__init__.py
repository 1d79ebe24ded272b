"""Pairs of models: loading (`pair`, `loading`), structure, the lineage audit, and the embedded zoo."""

from mechdrift.pairs.lineage import PairAudit, audit_pair, layer_change
from mechdrift.pairs.loading import LanguageModel, ModelSource, fingerprint
from mechdrift.pairs.pair import EMBEDDED_PAIRS, Pair, default_dtype_for_generation, load_pair

__all__ = [
    "EMBEDDED_PAIRS", "LanguageModel", "ModelSource", "Pair", "PairAudit", "audit_pair", "default_dtype_for_generation",
    "fingerprint", "layer_change", "load_pair",
]  # fmt: skip
