from .config import Audit
from .pipeline import audit

__all__ = ["Audit", "audit"]
