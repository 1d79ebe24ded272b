"""Stage `waves`: both models are asked wave by wave, until each dimension is decided.

After each wave the answers are judged and looked at (`behaviour.looks`). Dimensions that are decided are not asked
further; the others get their next wave of families. What was asked in the end is the run's selection for all later
stages (`plan.as_asked`), which find the answers in the run folder. The page is written after the first wave, and again
after each further one.

A killed stage begins again, finds its answers kept, and comes to the same looks; so it goes on at its wave, with the
boundaries it had. An audit of a fixed design has no such stage.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from mechdrift.audits.plan import AuditPlan, Facts, Stage, Waves, counts_of, generation_dtype
from mechdrift.audits.stages.answers import ask_one, kept_judge, with_ids
from mechdrift.behaviour.backends.written import check_engines
from mechdrift.behaviour.judges.keeping import check_judged
from mechdrift.behaviour.labels import judge_all
from mechdrift.behaviour.looks import take_looks, with_looks
from mechdrift.behaviour.scores import score_table
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, Side
from mechdrift.records.progress import tell
from mechdrift.report.page import write_report
from mechdrift.runs import Run


def ask_in_waves(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Ask, judge and look, until every dimension is decided or all of its families were asked."""
    waves = waves_of(plan)
    judged, asked, going_on = pd.DataFrame(), dict.fromkeys(waves.sets, 0), list(waves.sets)
    for wave in range(waves.count):
        sets = {name: waves.part(name, wave) for name in going_on}
        sets = {name: probes for name, probes in sets.items() if len(probes)}
        if not sets:
            break
        judged = pd.concat([judged, ask_wave(run, pair, replace(plan, sets=sets), wave)], ignore_index=True)
        asked |= dict.fromkeys(sets, wave + 1)
        looks = looks_of(plan, judged)
        show(run, plan, judged, asked, looks)
        going_on = undecided(looks)
    return {"waves": {"asked": asked}, "probes": counts_of(waves.until(asked))}


def waves_of(plan: AuditPlan) -> Waves:
    """The waves of an audit that has some."""
    assert plan.waves is not None
    return plan.waves


def undecided(looks: pd.DataFrame) -> list[str]:
    """The dimensions that are not decided yet."""
    last = looks.drop_duplicates("dimension", keep="last")
    return last.dimension[last.decision == "go on"].tolist()


def looks_of(plan: AuditPlan, judged: pd.DataFrame) -> pd.DataFrame:
    """The interim looks at the answers so far: a row per dimension and wave."""
    return take_looks(judged, waves_of(plan).families, plan.config.margin, plan.seed)


def ask_wave(run: Run, pair: Pair, plan: AuditPlan, wave: int) -> pd.DataFrame:
    """Both models' judged answers to one wave. The model that was asked last is asked first in the next wave, so that a
    pair too large for memory is loaded once less."""
    order = SIDES if wave % 2 else tuple(reversed(SIDES))
    engines: dict[Side, Any] = {}
    found = [part for side in order for part in ask_side(run, pair, plan, side, engines)]
    check_engines(engines)
    judged = pd.concat(found, ignore_index=True)
    check_judged(plan.refusal_judge, judged)
    return judged


def ask_side(run: Run, pair: Pair, plan: AuditPlan, side: Side, engines: dict[Side, Any]) -> list[pd.DataFrame]:
    """One model's judged answers, a table per dimension. The engine that wrote them is entered in `engines`."""
    loaded = pair.open(side, generation_dtype(plan.config))
    questions = [Question(id=item.id, prompt=item.prompt) for probes in plan.sets.values() for item in probes]
    answers, judge = ask_one(run, plan, loaded, side, questions, plan.config.sampling), kept_judge(run, plan)
    engines[side] = answers.engines
    return [with_ids(judge_all(probes, answers.of(probes), judge), answers.of(probes)) for probes in plan.sets.values()]


def show(run: Run, plan: AuditPlan, judged: pd.DataFrame, asked: Mapping[str, int], looks: pd.DataFrame) -> None:
    """Write the tables and the page of what is known so far. They belong to no finished stage yet: later stages write
    them again, complete."""
    scores = with_looks(score_table(judged, seed=plan.seed).frame, looks)
    for name, table in (("completions", judged), ("scores", scores), ("waves", looks)):
        run.write_table(name, table)
    run.write_manifest(run.manifest | {"probes": counts_of(waves_of(plan).until(asked))})
    write_report(run, is_running=True)
    said = looks.drop_duplicates("dimension", keep="last").set_index("dimension").decision.to_dict()
    tell(f"after {int(looks.wave.max())} of {waves_of(plan).count} waves: " + ", ".join(map(": ".join, said.items())))


STAGE = Stage(
    name="waves",
    what="both models are asked in waves, until each dimension is decided",
    files=(),
    run=ask_in_waves,
)
