from .curves import SteerBack, steer_back
from .edits import ablate, orthogonalise, role_mask, steer
from .selection import Selection, select_direction

__all__ = ["Selection", "SteerBack", "ablate", "orthogonalise", "role_mask", "select_direction", "steer", "steer_back"]
