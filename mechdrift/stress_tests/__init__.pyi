from .mode import Attack, Mode, Subject
from .registry import add_mode
from .run import StressTest, stress

__all__ = ["Attack", "Mode", "StressTest", "Subject", "add_mode", "stress"]
