from .inside import InsideStress, inside_stress, inside_tables
from .mode import Attack, Mode, Subject
from .registry import add_mode
from .result import StressTest
from .run import stress

__all__ = [
    "Attack",
    "InsideStress",
    "Mode",
    "StressTest",
    "Subject",
    "add_mode",
    "inside_stress",
    "inside_tables",
    "stress",
]
