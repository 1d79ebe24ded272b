from .curves import SteerBack, steer_back
from .edits import ablate, role_mask, steer
from .selection import Selection, select_direction
from .weights import orthogonalise

__all__ = ["Selection", "SteerBack", "ablate", "orthogonalise", "role_mask", "select_direction", "steer", "steer_back"]
