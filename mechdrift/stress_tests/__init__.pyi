from .inside import InsideStress, inside_stress
from .mode import Attack, Mode, Subject
from .registry import add_mode
from .run import StressTest, stress

__all__ = ["Attack", "InsideStress", "Mode", "StressTest", "Subject", "add_mode", "inside_stress", "stress"]
