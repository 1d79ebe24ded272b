"""mechdrift: what a reasoning conversion did to a language model's alignment, and where inside it happened.

The public names, in the order of the data flow. See `mechdrift audit --help` for the command line.
"""

import mechdrift.interrupts  # isort: skip  # noqa: F401 - first, because the imports below take seconds

from mechdrift.audit import Audit, audit
from mechdrift.behaviour import Budget, generate, judge_refusals, kl_drift, score
from mechdrift.capture import collect, collect_sites, collect_to
from mechdrift.comparison import Comparison, compare_runs
from mechdrift.directions import direction_cones, find_directions
from mechdrift.drift import compare_directions
from mechdrift.entanglement import compare_dimensions
from mechdrift.exchange import load_directions, save_directions, to_gguf, to_steering_vectors
from mechdrift.gate import Gate, gate
from mechdrift.hooks import edit
from mechdrift.interventions import ablate, orthogonalise, role_mask, steer
from mechdrift.pairs import Pair, fast_float32, load_pair
from mechdrift.patching import attribute, both_ways, decompose, graft, patch
from mechdrift.probes import load_benchmark, load_probes
from mechdrift.records import (
    Activations,
    Completions,
    DirectionDrift,
    Directions,
    MechdriftError,
    PatchGrid,
    ProbeItem,
    ProbeSet,
    ScoreTable,
)
from mechdrift.runs import Run, load_run
from mechdrift.selection import Selection, select_direction
from mechdrift.steering import SteerBack, steer_back
from mechdrift.thinking import along_thinking
from mechdrift.trajectory import Trajectory, trajectory

__all__ = [
    "Activations",
    "Audit",
    "Budget",
    "Comparison",
    "Completions",
    "DirectionDrift",
    "Directions",
    "Gate",
    "MechdriftError",
    "Pair",
    "PatchGrid",
    "ProbeItem",
    "ProbeSet",
    "Run",
    "ScoreTable",
    "Selection",
    "SteerBack",
    "Trajectory",
    "ablate",
    "along_thinking",
    "attribute",
    "audit",
    "both_ways",
    "collect",
    "collect_sites",
    "collect_to",
    "compare_dimensions",
    "compare_directions",
    "compare_runs",
    "decompose",
    "direction_cones",
    "edit",
    "fast_float32",
    "find_directions",
    "gate",
    "generate",
    "graft",
    "judge_refusals",
    "kl_drift",
    "load_benchmark",
    "load_directions",
    "load_pair",
    "load_probes",
    "load_run",
    "orthogonalise",
    "patch",
    "role_mask",
    "save_directions",
    "score",
    "select_direction",
    "steer",
    "steer_back",
    "to_gguf",
    "to_steering_vectors",
    "trajectory",
]
