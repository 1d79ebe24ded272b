"""A stress test from a pair to its table: ask both models under every mode, judge, compare.

    found = md.stress(pair, md.load_probes("safety"), modes=("puzzle", "zero-think"))
    found.frame      one row per dimension, side, mode and dose (`lifts` says what the columns are)
    found.answers    every answer, with thought and answer apart
    found.named      the modes that break the child, or that act like their placebo

With `out` it has a run folder, in which finished answers are kept as they come, so that a killed test goes on where it
stopped:

    OUT/run.json                 what was asked, of which models
    OUT/stress_answers.parquet   all answers, judged
    OUT/stress.parquet, .csv     the table
    OUT/stress_*.parquet         what was read inside, where modes were named for it
    OUT/stress.html, figures/    the page
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.audits.pipeline import asked_as, software
from mechdrift.audits.plan import think_modes
from mechdrift.behaviour.backends.choosing import check_servers
from mechdrift.behaviour.generation import default_budget
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.keeping import check_judge
from mechdrift.behaviour.labels import RULES
from mechdrift.behaviour.sampling import Budget, check_seed
from mechdrift.pairs.loading import fingerprint
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation, fast_float32
from mechdrift.records import SIDES, MechdriftError, ProbeSet, check_not_empty, several
from mechdrift.records.foreign import for_spreadsheets
from mechdrift.runs import Run, open_run
from mechdrift.stress_tests.answers import answers_table
from mechdrift.stress_tests.asking import Asked, Engine, StressPlan, ask_side, elicited_thoughts
from mechdrift.stress_tests.inside import INSIDE, inside_tables
from mechdrift.stress_tests.mode import Mode
from mechdrift.stress_tests.registry import modes_of
from mechdrift.stress_tests.result import StressTest
from mechdrift.stress_tests.table import stress_table


def stress(
    pair: Pair,
    probes: ProbeSet | Sequence[ProbeSet],
    *,
    modes: str | Mode | Iterable[str | Mode] | None = None,
    doses: Mapping[str, float | Sequence[float]] | None = None,
    budget: Budget | None = None,
    think_max: int | None = None,
    judge: RefusalJudge | None = None,
    engine: Engine = "hf",
    dtype: str | None = None,
    inside: str | Iterable[str] = (),
    seed: int = 0,
    out: str | Path | None = None,
) -> StressTest:
    """What breaks a reasoning model's alignment, and is the attack, the damaged prompt or the length the cause? Asks
    both models under every mode and dose, on triggers and twins, with placebos.

    Args:
        pair: the two models.
        probes: a probe set or benchmark, or several of different dimensions.
        modes: names of modes or `Mode`s; by default all (`mechdrift stress --list` shows them).
        doses: other doses by mode, in the mode's unit (tokens, shares, turns; the column `unit`), from the weakest to
            the strongest: `{"puzzle": (100, 1000)}`.
        budget: tokens to think and answer, as in `score`; the budget of the plain requests holds for all modes.
        think_max: the most tokens of thinking that the pilot tries.
        judge: a judge of refusals instead of the rules (`load_judge`). Thoughts are always judged by the rules.
        engine: what writes the answers: `"hf"`, `"vllm"`, a server's address, one for both models or by side, or a
            function that makes a backend (`Generator`) of a loaded model.
        dtype: number format in which answers are written; by default bfloat16 where the device computes in it natively.
        inside: names of modes whose effect is followed inside both models afterwards (`inside_tables`).
        seed: seed of puzzles, samples and all resampling.
        out: a run folder for tables, answers and the page; without it nothing is stored.

    Returns:
        A `StressTest`. `.frame` has a row per dimension, side (`instruct`, `reasoning`, or `difference`: child less
        parent), mode and dose: `change_trigger, change_twin, effect, lift` (shares of misaligned answers, each with
        `_low` and `_high`, 95 % over families), `p, p_holm` of the lift, `trend, trend_p` over doses, `unsafe_thought,
        overridden, leak_thinking` (shares of triggers), `think_tokens, think_change` (tokens), `d_prime, criterion`
        (standard deviations), and `finding`. A mode that does not apply is a row with its `left_out` reason.
        `.answers` has a row per answer, and `.inside` the tables of what was read inside. All columns:
        `mechdrift.tables.TABLES["stress"]`.

    Raises:
        MechdriftError: for an unknown mode, sets of the same dimension, a mode that returns ids outside the vocabulary
            or changes the request's own text, and a folder that holds another run.

    Source:
        Modes: their `paper`. Lifts, Holm, trend: `mechdrift.stress_tests.lifts`.

    Example:
        >>> few = md.Budget(think=8, answer=8)
        >>> found = md.stress(pair, probes, modes=("zero-think", "role-turns"), budget=few)
        >>> list(found.frame.columns[:4])
        ['dimension', 'side', 'mode', 'dose']
    """
    check_seed(seed)
    given = {name: several(some) for name, some in (doses or {}).items()}
    plan = StressPlan(
        sets=_by_dimension(probes),
        modes=tuple(with_doses(mode, given) for mode in _known(modes_of(modes), given)),
        think=think_modes(pair.child_thinks),
        budget=budget or default_budget(pair),
        think_max=think_max,
        seed=seed,
        engine=engine,
        dtype=dtype or default_dtype_for_generation(),
        inside=tuple(dict.fromkeys(several(inside))),
        judge=judge or RULES,
    )
    _check_inside(plan)
    check_judge(judge)
    if out is None:
        with fast_float32():
            answers, skipped, _ = ask_both(pair, plan)
            tables, _ = _inside(pair, plan, answers)
        table = stress_table(answers, plan.modes, skipped, seed)
        return StressTest(pair=pair.name, answers=answers, frame=table, inside=tables, seed=seed)
    run = open_run(Path(out), _identity(pair, plan), _manifest(pair, plan))
    with run.locked("stress test"), fast_float32():
        _finish_stages(run, pair, plan)
    tables = {"frame": run.table("stress"), "answers": run.table("stress_answers")}
    seen = {name: run.table(table) for name, table in INSIDE.items() if plan.inside and run.has(f"{table}.parquet")}
    found = StressTest(pair=pair.name, run=run, seed=seed, inside=seen, **tables)
    run.report()
    return found


def ask_both(pair: Pair, plan: StressPlan, run: Run | None = None) -> tuple[pd.DataFrame, dict[Any, str], dict]:
    """The answers of both models, why modes did not apply, and facts for the manifest."""
    tables, skipped, facts = [], {}, {"budgets": {}, "weights": {}}
    elicited: dict[str, str] = {}
    begun = run is not None and any(run.folder.glob("answers-*.partial.jsonl"))
    check_servers(pair, plan.engine_of, is_begun=begun)
    for side in SIDES:
        loaded = pair.open(side, plan.dtype)
        weights = fingerprint(loaded.model)
        store = run and run.folder / f"answers-{side}-{weights}"
        asked = ask_side(loaded, side, plan, elicited, store)
        tables.append(answers_table(asked, plan, side))
        skipped |= {(side, *key): text for key, text in _reasons(asked, plan).items()}
        elicited = elicited or elicited_thoughts(asked)
        think, answer = asked.budget.tokens
        facts["budgets"] |= {f"{side} think": think, f"{side} answer": answer}
        facts["weights"][side] = weights
        del loaded
        pair.close(plan.dtype)
    return pd.concat(tables, ignore_index=True), skipped, facts


def _finish_stages(run: Run, pair: Pair, plan: StressPlan) -> None:
    """Ask both models, then compare. Stages that are finished and intact are not run again."""
    if damaged := run.damaged_stages():
        run.forget(("answers", "lifts", "inside") if "answers" in damaged else damaged)
    if "answers" not in run.finished:
        start = time.perf_counter()
        answers, skipped, facts = ask_both(pair, plan, run)
        run.write_table("stress_answers", answers)
        facts["skipped"] = [[*key, text] for key, text in skipped.items()]
        run.finish("answers", time.perf_counter() - start, ("stress_answers.parquet",), **facts)
    if "lifts" not in run.finished:
        start = time.perf_counter()
        skipped = {(*key,): text for *key, text in run.manifest["skipped"]}
        table = stress_table(run.table("stress_answers"), plan.modes, skipped, plan.seed)
        run.write_table("stress", table)
        run.write_text("stress.csv", for_spreadsheets(table).to_csv(index=False, float_format="%.5g"))
        run.finish("lifts", time.perf_counter() - start, ("stress.parquet",))
    if plan.inside and ("inside" not in run.finished or run.manifest["inside"] != list(plan.inside)):
        start = time.perf_counter()
        tables, left_out = _inside(pair, plan, run.table("stress_answers"))
        for name, file in INSIDE.items():  # those of modes that were named before must not stay
            if name not in tables:
                (run.folder / f"{file}.parquet").unlink(missing_ok=True)
        for name, table in tables.items():
            run.write_table(INSIDE[name], table)
        files = tuple(f"{INSIDE[name]}.parquet" for name in tables)
        facts = {"inside": list(plan.inside), "not inside": [list(each) for each in left_out]}
        run.finish("inside", time.perf_counter() - start, files, **facts)


def _inside(pair: Pair, plan: StressPlan, answers: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list]:
    """What the named modes do inside; nothing where none was named."""
    modes = [mode for mode in plan.modes if mode.name in plan.inside]
    return inside_tables(pair, plan.sets, answers, modes, plan.seed) if modes else ({}, [])


def _check_inside(plan: StressPlan) -> None:
    names = [mode.name for mode in plan.modes]
    if strange := [name for name in plan.inside if name not in names]:
        raise MechdriftError(f"{strange[0]!r} is to be read inside and is not among the modes: {', '.join(names)}.")


def _reasons(asked: Asked, plan: StressPlan) -> dict[tuple[str, str, float], str]:
    """Why modes did not apply, in words; with counts, where they applied to other items."""
    sizes = {name: len(probes) for name, probes in plan.sets.items()}
    return {key: _told(counts, sizes[key[0]]) for key, counts in asked.skipped.items()}


def _told(counts: Counter, size: int) -> str:
    if counts.total() == size and len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{reason} ({count} of {size} items)" for reason, count in counts.items())


def _by_dimension(probes: ProbeSet | Sequence[ProbeSet]) -> dict[str, ProbeSet]:
    sets = [probes] if isinstance(probes, ProbeSet) else list(probes)
    found: dict[str, ProbeSet] = {}
    for each in sets:
        check_not_empty(each)
        if each.dimension in found:
            raise MechdriftError(
                f"{found[each.dimension].name!r} and {each.name!r} are both of {each.dimension}: stress one at a time."
            )
        found[each.dimension] = each
    if not found:
        raise MechdriftError("no probe set was given: give one, such as load_probes('safety').")
    return found


def _known(modes: tuple[Mode, ...], doses: Mapping[str, Sequence[float]]) -> tuple[Mode, ...]:
    """The modes; raises where doses were given for a mode that is not among them."""
    names = [mode.name for mode in modes]
    if strange := [name for name in doses if name not in names]:
        raise MechdriftError(f"doses were given for {strange[0]!r}, which is not among the modes: {', '.join(names)}.")
    return modes


def with_doses(mode: Mode, doses: Mapping[str, Sequence[float]]) -> Mode:
    """The mode with the doses that were given for it, if any."""
    if mode.name not in doses:
        return mode
    least, most = mode.limits
    if not doses[mode.name] or not all(least <= dose <= most for dose in doses[mode.name]):
        raise MechdriftError(
            f"the doses of {mode.name} ({mode.unit}) should be from {least:g} to {most:,.0f}, the strongest last."
        )
    if mode.is_count and any(dose != int(dose) for dose in doses[mode.name]):
        raise MechdriftError(f"the doses of {mode.name} ({mode.unit}) should be whole numbers.")
    return replace(mode, doses=tuple(doses[mode.name]))


def _identity(pair: Pair, plan: StressPlan) -> dict[str, Any]:
    """What must not differ when a stress test goes on."""
    asked = [(item.id, item.prompt) for item in plan.items]
    budget = {"think": plan.budget.think, "answer": plan.budget.answer, "think_max": plan.think_max}
    identity: dict[str, Any] = {
        "stress": {mode.name: list(mode.doses) for mode in plan.modes},
        "pair": pair.name,
        "models": [pair.source(side).path for side in SIDES],
        "dimensions": list(plan.sets),
        "items": hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
        "seed": plan.seed,
        "budget": budget,
        "judge": plan.judge.name,
        "asked": asked_as(pair),
        "generation dtype": plan.dtype,
    }
    if pair.number_formats:  # a caller's own models have no name that says which they are
        identity |= {"weights": {side: fingerprint(pair.open(side).model) for side in SIDES}}
    return identity


def _manifest(pair: Pair, plan: StressPlan) -> dict[str, Any]:
    sizes = {name: {"n": len(probes), "families": len(probes.families)} for name, probes in plan.sets.items()}
    told = {"pair": pair.name, "dimensions": list(plan.sets), "seed": plan.seed}
    modes = {mode.name: {"what": mode.what, "paper": mode.paper, "unit": mode.unit} for mode in plan.modes}
    return {"config": told, "probes": sizes, "modes": modes, "route": pair.route} | software()
