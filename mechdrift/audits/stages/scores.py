"""Stage `scores`: what the answers say, per dimension and metric, with paired intervals. Files: `scores.parquet`."""

from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.behaviour.scores import score_table
from mechdrift.pairs.pair import Pair
from mechdrift.runs import Run


def compute_scores(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Score the tables of the stage `answers`; opens no model."""
    extra = {
        name: run.table(name) if run.has(f"{name}.parquet") else None for name in ("variants", "everyday", "sentences")
    }
    table = score_table(run.table("completions"), run.table("tasks"), **extra, seed=plan.seed)
    run.write_table("scores", table.frame)
    return {}


STAGE = Stage(name="scores", what="the answers are scored", files=("scores.parquet",), run=compute_scores)
