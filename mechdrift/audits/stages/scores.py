"""Stage `scores`: what the answers say, per dimension and metric, with paired intervals.

Files: `scores.parquet`; `waves.parquet` (what was known after each wave, where an audit asks in waves).
"""

import pandas as pd

from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.audits.power import families_planned, power_of_design
from mechdrift.behaviour.looks import take_looks, with_looks
from mechdrift.behaviour.scores import score_table
from mechdrift.pairs.pair import Pair
from mechdrift.runs import Run


def compute_scores(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Score the tables of the stage `answers`; opens no model."""
    extra = {
        name: run.table(name) if run.has(f"{name}.parquet") else None for name in ("variants", "everyday", "sentences")
    }
    judged = run.table("completions")
    table = score_table(judged, run.table("tasks"), **extra, seed=plan.seed)
    looks = pd.DataFrame({"dimension": []})
    if plan.waves is not None:
        looks = take_looks(judged, plan.waves.families, plan.config.margin, plan.seed)
    run.write_table("waves", looks)
    run.write_table("scores", with_looks(table.frame, looks))
    whole, count = (plan.sets, 1) if plan.waves is None else (plan.waves.sets, plan.waves.count)
    return {"power": power_of_design(judged, families_planned(whole), count)}


STAGE = Stage(
    name="scores",
    what="the answers are scored",
    files=("scores.parquet", "waves.parquet"),
    run=compute_scores,
)
