"""Stage `kl`: how far the next-token distributions moved on the instruct model's own answers.

Files: `kl_tokens.parquet` (one row per answer token), `kl.parquet` (their means by position).
"""

from collections.abc import Sequence

import pandas as pd

from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.parts import Part, in_order
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.audits.summaries import summarise_kl
from mechdrift.behaviour.divergence import answered_prompts, compare_with, keep_instruct, load_kept, save_kept
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.runs import Run


def measure_kl(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """The divergence per answer token of some items of each dimension, and its means."""
    return join_kl(run, plan, [read_kl(run, pair, plan)])


def read_kl(run: Run, pair: Pair, plan: AuditPlan) -> Part:
    """The divergence per answer token. The instruct model's distributions are kept in the run folder until the
    reasoning model has read the same tokens."""
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    some = {name: probes.sample(plan.size.kl, plan.seed) for name, probes in plan.sets.items()}
    prompts = {
        name: answered_prompts(pair, probes, answers.completions(name, "instruct")) for name, probes in some.items()
    }
    with run.scratch() as folder:
        for name, probes in some.items():
            save_kept(keep_instruct(pair, probes, prompts[name]), folder / f"{name}.safetensors")
        tokens = [
            compare_with(pair, probes, prompts[name], load_kept(folder / f"{name}.safetensors"))
            for name, probes in some.items()
        ]
    return Part(tables={"kl_tokens": pd.concat(tokens, ignore_index=True)})


def join_kl(run: Run, plan: AuditPlan, parts: Sequence[Part]) -> Facts:
    """All tokens, and their means by position."""
    table = in_order(parts, "kl_tokens", list(plan.sets))
    run.write_table("kl_tokens", table)
    run.write_table("kl", summarise_kl(table, plan.seed))
    return {}


STAGE = Stage(
    name="kl", what="next-token distributions are compared", files=("kl.parquet", "kl_tokens.parquet"), run=measure_kl
)
