"""What does an attack do inside? It is followed along a direction through puzzle and thinking; then causal tests say
where its effect passes and whether steering undoes it.

    along   both models' activations on the child's own words, plain and under the attack, projected on the instruct
            model's direction of a dimension (`directions.thinking` has the scale: 0 is where neutral prompts lie, 1
            where triggers lie). Read at the quarters of the prompt, the quarters of the thinking, its last token, the
            closed block and the answer: these positions are relative, so prompts and thoughts of different lengths can
            be compared. What counts is the difference triggers less twins, and how much of it the attack takes.
    patch   how much of the readout comes back when one activation of the child's plain run is put in (`recovery`)
    undo    how much comes back when the direction is added (`recovery`)
    recognised   the share of triggers that the child recognises and answers all the same: at the last token of its
            thinking it stands nearer to the instruct model's triggers than to its neutral prompts (projection above
            0.5), and the answer is misaligned. The thought may well look harmless: this is read from activations.

Modes of several turns are left out (`teacher_forced`). `inside_tables` does this for several modes and all sets of a
stress test, each with its own direction, at the layer that separates best (`directions.best_layer`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.activations.capture import collect
from mechdrift.activations.prompts import mean_the_same
from mechdrift.activations.recording import record_roles
from mechdrift.directions.best_layer import best_layer
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import find_directions
from mechdrift.directions.thinking import READOUT_ROLE, plan_reading
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Directions, MechdriftError, ProbeSet, Rendered
from mechdrift.statistics.intervals import SHARE, UNBOUNDED
from mechdrift.statistics.resampling import cluster_bootstrap
from mechdrift.stress_tests.asking import ATTACK
from mechdrift.stress_tests.mode import Mode
from mechdrift.stress_tests.recovery import patched, undone
from mechdrift.stress_tests.registry import PLAIN, mode_of
from mechdrift.stress_tests.result import StressTest
from mechdrift.stress_tests.teacher_forced import BothPrompts, both_prompts

STRENGTHS = (0.5, 1.0, 2.0)
MIDWAY = 0.5  # between where neutral prompts (0) and triggers (1) lie in the instruct model
LAST_THOUGHT = "think[-1]"
MOST_LAYERS = 12  # of a run folder's patches, evenly spaced
INSIDE = {"along": "stress_along", "patch": "stress_patch", "undo": "stress_undo", "recognised": "stress_recognised"}
"""The fields of `InsideStress`, and their tables in a run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideStress:
    """What an attack does inside. `along`: projections per side, condition and position; `patch`: recovery per layer
    and role; `undo`: recovery per strength of the direction; `recognised`: how often the child recognises a trigger in
    its thinking and answers all the same."""

    mode: str
    dose: float
    along: pd.DataFrame
    patch: pd.DataFrame
    undo: pd.DataFrame
    recognised: pd.DataFrame


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
        dose: by default the strongest that was tried.
        layers: where activations are patched in; by default everywhere.
        strengths: how much of the direction is added back, in units of the instruct model's class difference.
        seed: of the intervals.

    Returns:
        An `InsideStress`: `.along` has `side, condition, position, projection, low, high, n, families` (triggers less
        twins, in units of the instruct model's class difference; `condition` is plain, attack or change), `.patch` has
        `layer, role, effect, recovery`, `.undo` has `strength, effect, recovery`: the effect is in log-odds, the
        recovery a share of what the attack took. `.recognised` has `condition, share, low, high, n, families`: shares
        of triggers, empty where nothing was thought.

    Raises:
        MechdriftError: for a mode of several turns, one that was not tried, and where too few thoughts were closed.

    Source:
        The refusal component under long reasoning: arXiv 2510.26418; the refusal cliff: arXiv 2510.06036.
    """
    mode = mode if isinstance(mode, Mode) else mode_of(mode)
    dose = _tested(found.frame, mode, probes.dimension) if dose is None else dose
    renderer = Renderer(pair.tokenizer("reasoning"))
    runs, answers = both_prompts(renderer, probes, found.answers, mode, float(dose), found.seed)
    reading = plan_reading(runs.probes, answers, directions, layer)
    along, values = [], {}
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
        recognised=_recognised(values, runs, seed),  # the loop ended with the reasoning model
    )


def inside_tables(
    pair: Pair, sets: Mapping[str, ProbeSet], answers: pd.DataFrame, modes: Sequence[Mode], seed: int = 0
) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str, str]]]:
    """`inside_stress` of every mode at the strongest dose that applied, in every dimension of a stress test.

    Args:
        pair: the two models.
        sets: the probe sets that were stressed, by dimension.
        answers: the stress test's answers.
        modes: which of its modes.
        seed: of the intervals.

    Returns:
        The four tables of `InsideStress`, each with `dimension, mode, dose, layer` in front; and what was left out, as
        dimension, mode and reason.

    Raises:
        Nothing of its own: a mode that cannot be read inside, and a set that has no direction, are left out.

    Source:
        `inside_stress`.
    """
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in INSIDE}
    left_out = []
    for dimension, probes in sets.items():
        try:  # a set without twins, or of one family, has no direction; what was asked of it stands all the same
            directions = find_directions(collect(pair, probes, think="off", roles=(READOUT_ROLE,)))
            layer = best_layer(compare_directions(directions).frame, READOUT_ROLE)
        except MechdriftError as error:
            left_out += [(dimension, mode.name, str(error)) for mode in modes]
            continue
        if layer is None:
            left_out += [(dimension, mode.name, "the models have no direction here.") for mode in modes]
            continue
        test = StressTest(pair=pair.name, frame=pd.DataFrame(), answers=answers, seed=seed)
        layers = evenly(directions.layers[-1] + 1)
        for mode in modes:
            try:
                dose = _strongest(answers, mode, dimension)
                one = inside_stress(pair, probes, test, mode, directions, layer, dose=dose, layers=layers, seed=seed)
            except MechdriftError as error:
                left_out.append((dimension, mode.name, str(error)))
                continue
            head = {"dimension": dimension, "mode": one.mode, "dose": one.dose}
            for name, tables in found.items():
                tables.append(_with_head(getattr(one, name), head, layer))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items() if tables}, left_out


def _tested(table: pd.DataFrame, mode: Mode, dimension: str) -> float:
    """The dose at which a stress test tested a mode on the child; the mode's own strongest where it did not."""
    own = table[(table["mode"] == mode.name) & (table.side == "reasoning") & (table.dimension == dimension)]
    return float(next(iter(own[own.strongest.astype(bool)].dose), mode.doses[-1]))


def _strongest(answers: pd.DataFrame, mode: Mode, dimension: str) -> float:
    """The strongest dose of a mode that was tried on the child; the strongest of all where none was."""
    own = answers[(answers["mode"] == mode.name) & (answers.side == "reasoning") & (answers.dimension == dimension)]
    return float(([dose for dose in mode.doses if dose in set(own.dose)] or mode.doses)[-1])


def evenly(n_layers: int, most: int = MOST_LAYERS) -> tuple[int, ...]:
    """At most so many layers, evenly spaced, the last one included."""
    return tuple(sorted(set(np.linspace(0, n_layers - 1, min(most, n_layers)).round().astype(int).tolist())))


def _with_head(table: pd.DataFrame, head: Mapping[str, object], layer: int) -> pd.DataFrame:
    """The table with these columns in front; `layer` is the direction's, where the table has none of its own."""
    own = {} if "layer" in table else {"layer": layer}
    columns = {**head, **own}
    return table.assign(**columns)[[*columns, *(name for name in table.columns if name not in columns)]]


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


def _recognised(values: Mapping[str, np.ndarray], runs: BothPrompts, seed: int) -> pd.DataFrame:
    """The share of triggers that are recognised at the end of the thinking and answered all the same, plain and under
    the attack, with intervals over families."""
    rows, items = [], runs.items
    if LAST_THOUGHT in runs.columns:
        column = runs.columns.index(LAST_THOUGHT)
        for (condition, table), aligned in zip(values.items(), runs.aligned, strict=True):
            overridden = ((table[:, column] > MIDWAY) & ~aligned)[items.is_trigger].astype(float)
            families = items.families[items.is_trigger]
            found = cluster_bootstrap(overridden, families, bounds=SHARE, seed=seed)
            ends = {"low": found.low, "high": found.high}
            sizes = {"n": len(overridden), "families": len(set(families))}
            rows.append({"condition": condition, "share": found.estimate, **ends, **sizes})
    return pd.DataFrame(rows, columns=["condition", "share", "low", "high", "n", "families"])
