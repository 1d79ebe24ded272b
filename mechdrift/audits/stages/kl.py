"""Stage `kl`: how far the next-token distributions moved on the instruct model's own answers.

Files: `kl_tokens.parquet` (one row per answer token), `kl.parquet` (their means by position).
"""

import pandas as pd

from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.audits.summaries import summarise_kl
from mechdrift.behaviour.divergence import kl_drift
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.runs import Run


def measure_kl(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """The divergence per answer token of some items of each dimension."""
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    tokens = []
    for name, probes in plan.sets.items():
        some = probes.sample(plan.size.kl, plan.seed)
        tokens.append(kl_drift(pair, some, answers.completions(name, "instruct")))
    table = pd.concat(tokens, ignore_index=True)
    run.write_table("kl_tokens", table)
    run.write_table("kl", summarise_kl(table, plan.seed))
    return {}


STAGE = Stage(name="kl", files=("kl.parquet", "kl_tokens.parquet"), run=measure_kl)
