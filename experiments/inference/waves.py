"""How often do audits in waves err, and how many prompts do they save? Simulated audits of which the truth is known.

    python waves.py > waves.md     also writes waves.csv, a row per scenario; some minutes on one core

Audits have six dimensions of 48 families with 3 trigger prompts each, asked in four equal waves. Parents have 60 to
95 % aligned answers, items of a family are correlated by .2, and the answers of two models by .4 (`families.py`).
Decisions are those of `mechdrift.statistics.sequential`: the exact sequential sign-flip test, Holm's correction over
the six, and the repeated interval against a margin of 15 points. In the null scenario no dimension changes; in the
others the child of one dimension falls, each parent in turn, and the other five stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from families import BLOCK, Design, answers
from jaxtyping import Float

from mechdrift.statistics.intervals import SIGNED_SHARE, ends, family_weights
from mechdrift.statistics.sequential import DRAWS, Evidence, decide, repeated_tail, sequential_p

PARENTS = (0.95, 0.85, 0.75, 0.6, 0.85, 0.75)
LOOKS = (12, 24, 36, 48)
FRACTIONS = tuple(look / LOOKS[-1] for look in LOOKS)
FALLS = (0.15, 0.3, 0.5)
NULLS, AUDITS = 1000, 160
MARGIN = 0.15
DESIGN = Design(families=LOOKS[-1], items=3, within=0.2, between=0.4)

Differences = Float[np.ndarray, "audit dimension family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was decided of each dimension of each audit ("" if nothing), after how many looks, with which interval."""

    decision: np.ndarray
    looks: np.ndarray
    low: np.ndarray
    high: np.ndarray


def audits(falls: Sequence[float], n: int, rng: np.random.Generator) -> Differences:
    """Family means of the change of every dimension."""
    sides = [answers(DESIGN, (parent, parent - fall), rng, n) for parent, fall in zip(PARENTS, falls, strict=True)]
    return np.stack([after - before for before, after in sides], axis=1)


def intervals(changes: Differences, look: int) -> tuple[np.ndarray, np.ndarray]:
    """The repeated interval of every dimension at one look."""
    seen = changes[:, :, : LOOKS[look]].reshape(-1, LOOKS[look])
    weights, tail = family_weights(LOOKS[look], DRAWS, 0) / LOOKS[look], repeated_tail(FRACTIONS, look)
    parts = [
        ends(part.mean(axis=1), weights @ part.T, LOOKS[look], SIGNED_SHARE, tail=tail)
        for part in np.array_split(seen, -(-len(seen) // BLOCK))
    ]
    low, high = (np.concatenate(found).reshape(changes.shape[:2]) for found in zip(*parts, strict=True))
    return low, high


def run_audits(changes: Differences) -> Outcome:
    """All audits, wave by wave, until all dimensions are decided or all families asked."""
    bounds = [intervals(changes, look) for look in range(len(LOOKS))]
    found = [run_audit(change, [(low[i], high[i]) for low, high in bounds]) for i, change in enumerate(changes)]
    decision, looks = (np.array(part) for part in zip(*found, strict=True))
    low, high = (np.stack([one[side] for one in bounds]) for side in (0, 1))
    at = looks[None] - 1
    return Outcome(
        decision=decision,
        looks=looks,
        low=np.take_along_axis(low, at, 0)[0],
        high=np.take_along_axis(high, at, 0)[0],
    )


def run_audit(changes: np.ndarray, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[list[str], list[int]]:
    """Decisions and looks of one audit's dimensions."""
    n = len(changes)
    decision, looks, known = [""] * n, [0] * n, [Evidence(p=1.0, low=-1.0, high=1.0)] * n
    waves = [np.split(each, LOOKS[:-1]) for each in changes]
    for look, (low, high) in enumerate(bounds):
        for i in (i for i in range(n) if not decision[i]):
            p = sequential_p(waves[i][: look + 1], FRACTIONS[: look + 1])
            known[i], looks[i] = Evidence(p=p, low=low[i], high=high[i]), look + 1
        for i, word in enumerate(decide(known, MARGIN)):
            decision[i] = decision[i] or ("" if word == "go on" else word)
    return decision, looks


def row(name: str, outcome: Outcome, fallen: int | None, fall: float) -> dict:
    """One scenario: the dimension that fell (or all, where none did), and false findings of the others."""
    others = [i for i in range(len(PARENTS)) if i != fallen]
    chosen = others if fallen is None else [fallen]
    truth = np.array([-fall if i == fallen else 0.0 for i in range(len(PARENTS))])
    held = (outcome.low <= truth + 1e-9) & (truth - 1e-9 <= outcome.high)
    decision, looks = outcome.decision[:, chosen], outcome.looks[:, chosen]
    return {
        "scenario": name,
        "fall": fall,
        "audits": len(outcome.looks),
        "parent": np.nan if fallen is None else PARENTS[fallen],
        "any false change": (outcome.decision[:, others] == "changed").any(axis=1).mean(),
        "changed": (decision == "changed").mean(),
        "no change": (decision == "no change").mean(),
        "undecided": (decision == "").mean(),
        "prompts saved": 1 - looks.mean() / len(LOOKS),
        "interval holds": held.mean(),
        "least held": held.mean(axis=0).min(),
    }


def simulate(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    nothing = [0.0] * len(PARENTS)
    rows = [row("no dimension falls", run_audits(audits(nothing, NULLS, rng)), None, 0.0)]
    for fall in FALLS:
        for fallen in range(4):  # the other two parents are repeated
            falls = [fall if i == fallen else 0.0 for i in range(len(PARENTS))]
            rows.append(row("one falls", run_audits(audits(falls, AUDITS, rng)), fallen, fall))
    return pd.DataFrame(rows)


def main() -> None:
    table = simulate()
    table.to_csv("waves.csv", index=False, float_format="%.4f")
    null, shown = table.iloc[0], table.iloc[1:].groupby("fall")
    print("# Audits in waves: errors, decisions, prompts saved\n")
    print(f"{__doc__.split(chr(10) * 2)[2]}\n")
    print(f"Of {NULLS} audits in which nothing changed, {null['any false change']:.1%} call any dimension changed.\n")
    print(
        "| fall of one dimension | audits | changed | no change | undecided | prompts saved "
        "| any other falsely changed | interval holds (all; worst dimension) |\n|---|---|---|---|---|---|---|---|"
    )
    parts = [(0.0, table.iloc[:1]), *shown]
    for fall, part in parts:
        mean = part.drop(columns="scenario").mean()
        print(
            f"| {fall * 100:.0f} points | {part.audits.sum()} | {mean['changed']:.0%} | {mean['no change']:.0%} | "
            f"{mean['undecided']:.0%} | {mean['prompts saved']:.1%} | {mean['any false change']:.1%} | "
            f"{mean['interval holds']:.1%}; {part['least held'].min():.1%} |"
        )


if __name__ == "__main__":
    main()
