"""Every greedy stress mode on one model, for tests that compare two engines."""

import numpy as np

from mechdrift.audits.plan import think_modes
from mechdrift.behaviour.sampling import Budget
from mechdrift.probes.sets import load_probes
from mechdrift.stress_tests.asking import Asked, StressPlan, ask_side
from mechdrift.stress_tests.registry import modes_of
from mechdrift.stress_tests.run import with_doses

SHORT = {"puzzle": (300,), "decoy": (3,)}


def ask_all(loaded, engine: str) -> Asked:
    """One twin pair under every mode that draws no samples."""
    probes = load_probes("ethics").sample(1)
    plan = StressPlan(
        sets={"ethics": probes},
        modes=tuple(with_doses(mode, SHORT) for mode in modes_of(None) if not mode.draws),
        think=think_modes(True),
        budget=Budget(think=10, answer=8),
        engine=engine,
    )
    return ask_side(loaded, "reasoning", plan, {item.id: "A thought of the parent." for item in probes})


def share_alike(one: Asked, other: Asked) -> float:
    """The share of cases with the same thoughts, answers and turns, by ids."""
    assert [case for case, _ in one.cases] == [case for case, _ in other.cases]
    assert {case.mode for case, _ in one.cases} >= {"puzzle", "decoy", "persistence", "more-think", "prefill-donor"}
    kept = [[(r.completion.thinking_ids, r.completion.answer_ids, r.turns) for _, r in a.cases] for a in (one, other)]
    return float(np.mean([first == second for first, second in zip(*kept, strict=True)]))
