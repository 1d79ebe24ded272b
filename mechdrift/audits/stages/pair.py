"""Stage `pair`: are the two models parent and child? Files: `weights.parquet`."""

from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.pairs.lineage import audit_pair
from mechdrift.pairs.pair import Pair
from mechdrift.probes.sets import load_probes
from mechdrift.runs import Run


def audit_pair_stage(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Compare weights, templates and tokens of the pair (see `pairs.lineage`), and say what the run asks."""
    with run.scratch() as folder:
        found = audit_pair(pair, [item.prompt for probes in plan.sets.values() for item in probes], folder)
    run.write_table("weights", found.frame)
    described = {
        "name": pair.name,
        "route": pair.route,
        "instruct": {"name": pair.instruct.name},
        "reasoning": {"name": pair.reasoning.name},
        "warnings": list(found.warnings),
        "facts": found.facts,
        "templates": found.templates,
        "same_tokens": found.same_tokens,
        "stated_parent": found.stated_parent,
        "fingerprints": found.fingerprints,
        "same_weights": bool((found.frame.change == 0).all()),
        "control": pair.control.name if pair.control else "",
    }
    counts = {
        name: {"n": len(probes), "families": len(probes.families), "sampled_from": len(load_probes(name))}
        for name, probes in plan.sets.items()
    }
    return {"pair": described, "probes": counts, "self_tests": {"surface_error": found.surface_error}}


STAGE = Stage(name="pair", files=("weights.parquet",), run=audit_pair_stage)
