from .dimensions import dimensions_matrix
from .divergence import kl_by_position
from .drift import angles_and_cones, differences, direction_drift, drift_map
from .grafts import origins
from .lengths import length_curves
from .patches import patch_grid
from .scores import missed_and_over, scores_side_by_side, signal_detection
from .steering import candidates, steering_effects
from .stress import dose_curves, lift_map
from .tasks import task_accuracy
from .thinking import along_thinking
from .weights import weight_change

__all__ = [
    "along_thinking",
    "angles_and_cones",
    "candidates",
    "differences",
    "dimensions_matrix",
    "direction_drift",
    "dose_curves",
    "drift_map",
    "kl_by_position",
    "length_curves",
    "lift_map",
    "missed_and_over",
    "origins",
    "patch_grid",
    "scores_side_by_side",
    "signal_detection",
    "steering_effects",
    "task_accuracy",
    "weight_change",
]
