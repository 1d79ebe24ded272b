"""Stage `pilot`: how long each model thinks and answers, where budgets are measured before the models are asked
everything.

`pilot.parquet` holds the answers, given with the largest budget that there is room for. The manifest holds the budgets
that follow from them, under `pilot` and `budgets`. An audit whose budgets are given by hand, or by the preset of an
embedded pair, has no such stage."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from mechdrift.audits.plan import AuditPlan, Facts, Stage, generation_dtype
from mechdrift.audits.stages.questions import asked_of, task_questions
from mechdrift.behaviour.backends.choosing import close_engines, make_generator
from mechdrift.behaviour.generation import ask
from mechdrift.behaviour.pilot import Pilot, run_pilot
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, Side
from mechdrift.runs import Run


def measure_lengths(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Both models' pilots."""
    groups = question_groups(plan)
    pilots = {side: measure_side(run, pair, plan, side, groups) for side in SIDES}
    tables = [pilot.answers.frame.assign(engine=[row.engine for row in pilot.answers]) for pilot in pilots.values()]
    run.write_table("pilot", pd.concat(tables, ignore_index=True))
    return {"pilot": {side: pilot.facts for side, pilot in pilots.items()}, "budgets": flat_budgets(pilots)}


def measure_side(run: Run, pair: Pair, plan: AuditPlan, side: Side, groups: Sequence[Sequence[Question]]) -> Pilot:
    """One model's pilot. Its answers are kept in the run folder as they come."""
    dtype, think = generation_dtype(plan.config), plan.modes[side]
    loaded = pair.open(side, dtype)
    generator = make_generator(plan.config.engine_of(side), loaded)
    pilot = run_pilot(
        partial(ask, loaded, side=side, think=think, generator=generator, description=f"Pilot, {side}"),
        loaded,
        groups,
        side,
        think,
        wanted=plan.config.budget,
        think_max=plan.config.think_max,
        sampling=plan.config.sampling,
        store=run.folder / f"pilot-{side}",
    )
    del loaded
    pair.close(dtype)
    close_engines()
    return pilot


def question_groups(plan: AuditPlan) -> list[list[Question]]:
    """All questions in groups: one per probe set, one of variants and everyday requests, one of tasks."""
    sets, others = asked_of(plan)
    groups = [[Question(id=item.id, prompt=item.prompt) for item in probes] for probes in sets]
    rest = [Question(id=item.id, prompt=item.prompt) for probes in others for item in probes]
    return [*groups, rest, task_questions(plan)]


def flat_budgets(pilots: dict[Side, Pilot]) -> dict[str, int]:
    """The budgets as the manifest names them."""
    think, answer = pilots["reasoning"].budget.tokens
    return {"think": think, "answer": answer, "instruct_answer": pilots["instruct"].budget.tokens[1]}


STAGE = Stage(
    name="pilot", what="how long each model thinks is measured", files=("pilot.parquet",), run=measure_lengths
)
