from .activations.capture import collect, collect_sites
from .activations.to_disk import collect_to
from .audits.config import Audit
from .audits.pipeline import audit
from .behaviour.dimensions.record import Dimension
from .behaviour.dimensions.registry import add_dimension
from .behaviour.divergence import kl_drift
from .behaviour.generation import generate
from .behaviour.imported.scoring import score_answers
from .behaviour.judges.refusals import judge_refusals
from .behaviour.one_call import score
from .behaviour.sampling import Budget
from .comparisons.children import Comparison, compare_runs
from .comparisons.gate import gate
from .comparisons.many import PooledRuns, pool_runs
from .comparisons.outcomes import Gate
from .directions.cones import direction_cones
from .directions.dimensions import compare_dimensions
from .directions.drift import compare_directions
from .directions.export import load_directions, save_directions, to_gguf, to_steering_vectors
from .directions.finders import find_directions
from .directions.thinking import along_thinking
from .hooks import edit
from .pairs.layout import Layout
from .pairs.named import load_pair
from .pairs.pair import Pair
from .pairs.precision import fast_float32
from .patching.attribution import attribute
from .patching.decomposition import decompose
from .patching.grafts import graft
from .patching.grid import both_ways, patch
from .probes.benchmarks.loading import load_benchmark
from .probes.look import Look, look
from .probes.sets import load_probes
from .records import (
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
from .repairs.making import Repaired, load_repair, repair
from .repairs.price_list import PriceList, price_repairs
from .repairs.record import Repair
from .repairs.registry import add_repair
from .report.inspect_logs import to_inspect
from .runs import Run, load_run
from .steering.curves import SteerBack, steer_back
from .steering.edits import ablate, role_mask, steer
from .steering.selection import Selection, select_direction
from .steering.weights import orthogonalise
from .stress_tests.mode import Mode
from .stress_tests.registry import add_mode
from .stress_tests.result import StressTest
from .stress_tests.run import stress
from .trajectories.run import Trajectory, trajectory

__all__ = [
    "Activations",
    "Audit",
    "Budget",
    "Comparison",
    "Completions",
    "Dimension",
    "DirectionDrift",
    "Directions",
    "Gate",
    "Layout",
    "Look",
    "MechdriftError",
    "Mode",
    "Pair",
    "PatchGrid",
    "PooledRuns",
    "PriceList",
    "ProbeItem",
    "ProbeSet",
    "Repair",
    "Repaired",
    "Run",
    "ScoreTable",
    "Selection",
    "SteerBack",
    "StressTest",
    "Trajectory",
    "ablate",
    "add_dimension",
    "add_mode",
    "add_repair",
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
    "load_repair",
    "load_run",
    "look",
    "orthogonalise",
    "patch",
    "pool_runs",
    "price_repairs",
    "repair",
    "role_mask",
    "save_directions",
    "score",
    "score_answers",
    "select_direction",
    "steer",
    "steer_back",
    "stress",
    "to_gguf",
    "to_inspect",
    "to_steering_vectors",
    "trajectory",
]
