from .run import Trajectory, trajectory

__all__ = ["Trajectory", "trajectory"]
