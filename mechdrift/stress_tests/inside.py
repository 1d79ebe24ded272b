"""What does an attack do inside? It is followed along a direction through puzzle and thinking; then causal tests say
where its effect passes and whether steering undoes it.

    along   both models' activations on the child's own words, plain and under the attack, projected on the instruct
            model's direction of a dimension (`directions.thinking` has the scale: 0 is where neutral prompts lie, 1
            where triggers lie). Read at the quarters of the prompt, the quarters of the thinking, its last token, the
            closed block and the answer: these positions are relative, so prompts and thoughts of different lengths can
            be compared. What counts is the difference triggers less twins, and how much of it the attack takes.
    patch   how much of the readout comes back when one activation of the child's plain run is put in (`recovery`)
    undo    how much comes back when the direction is added (`recovery`)

Modes of several turns are left out (`teacher_forced`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.activations.prompts import mean_the_same
from mechdrift.activations.recording import record_roles
from mechdrift.directions.thinking import plan_reading
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Directions, ProbeSet, Rendered
from mechdrift.statistics.intervals import UNBOUNDED
from mechdrift.stress_tests.asking import ATTACK
from mechdrift.stress_tests.mode import Mode
from mechdrift.stress_tests.recovery import patched, undone
from mechdrift.stress_tests.registry import PLAIN, mode_of
from mechdrift.stress_tests.run import StressTest
from mechdrift.stress_tests.teacher_forced import BothPrompts, both_prompts

STRENGTHS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideStress:
    """What an attack does inside. `along`: projections per side, condition and position; `patch`: recovery per layer
    and role; `undo`: recovery per strength of the direction."""

    mode: str
    dose: float
    along: pd.DataFrame
    patch: pd.DataFrame
    undo: pd.DataFrame


def inside_stress(
    pair: Pair,
    probes: ProbeSet,
    found: StressTest,
    mode: str | Mode,
    directions: Directions,
    layer: int,
    *,
    dose: float | None = None,
    layers: Sequence[int] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> InsideStress:
    """Where does an attack act inside the child, and does adding the direction back undo it?

    Args:
        pair: the two models.
        probes: the set that was stressed.
        found: the stress test, whose thoughts and answers are read again.
        mode: which mode of it.
        directions: from `find_directions`, of this dimension, with the role `think_close[-1]`.
        layer: which direction is used.
        dose: by default the strongest of the mode.
        layers: where activations are patched in; by default everywhere.
        strengths: how much of the direction is added back, in units of the instruct model's class difference.
        seed: of the intervals.

    Returns:
        An `InsideStress`: `.along` has `side, condition, position, projection, low, high, n, families` (triggers less
        twins, in units of the instruct model's class difference; `condition` is plain, attack or change), `.patch` has
        `layer, role, effect, recovery`, `.undo` has `strength, effect, recovery`: the effect is in log-odds, the
        recovery a share of what the attack took.

    Raises:
        MechdriftError: for a mode of several turns, one that was not tried, and where too few thoughts were closed.

    Source:
        The refusal component under long reasoning: arXiv 2510.26418; the refusal cliff: arXiv 2510.06036.
    """
    mode = mode if isinstance(mode, Mode) else mode_of(mode)
    dose = mode.doses[-1] if dose is None else dose
    renderer = Renderer(pair.tokenizer("reasoning"))
    runs, answers = both_prompts(renderer, probes, found, mode, float(dose))
    reading = plan_reading(runs.probes, answers, directions, layer)
    along = []
    for side in SIDES:
        loaded = pair.open(side)
        if side == "reasoning" or mean_the_same(pair, runs.plain):
            values = {
                name: reading.project(_recorded(loaded, rendered, directions.site, layer, runs.columns))
                for name, rendered in ((PLAIN, runs.plain), (ATTACK, runs.attack))
            }
            along.append(_along(values, runs, seed).assign(side=side))
    child = pair.open("reasoning")
    return InsideStress(
        mode=mode.name,
        dose=float(dose),
        along=pd.concat(along, ignore_index=True),
        patch=patched(child, runs, layers if layers is not None else range(child.n_layers)),
        undo=undone(child, runs, directions, layer, strengths),
    )


def _recorded(
    loaded: LanguageModel, rendered: Sequence[Rendered], site: str, layer: int, columns: Sequence[str]
) -> Float[np.ndarray, "prompt position d_model"]:
    return record_roles(loaded, rendered, site, (layer,), columns).roles[:, 0].double().numpy()


def _along(values: Mapping[str, np.ndarray], runs: BothPrompts, seed: int) -> pd.DataFrame:
    """Triggers less twins at every position, plain, under the attack, and the change, with intervals over families."""
    values = {**values, "change": values[ATTACK] - values[PLAIN]}
    rows, items = [], runs.items
    for condition, table in values.items():
        for position, column in zip(runs.columns, table.T, strict=True):
            found = items.interval(column, UNBOUNDED, seed)
            rows.append(
                {
                    "condition": condition,
                    "position": position,
                    "projection": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "n": len(column),
                    "families": len(set(items.families)),
                }
            )
    return pd.DataFrame(rows)
