"""Stage `pair`: are the two models parent and child, and are their activations finite? Files: `weights.parquet`.

Weights that are finite can still make activations that are not. Each model reads some prompts of every dimension while
it is loaded: one that overflows ends the audit here and not hours later, with a message that names the layer and the
prompt.
"""

from dataclasses import replace

import torch

from mechdrift.activations.capture import collect
from mechdrift.activations.recording import check_finite
from mechdrift.audits.plan import AuditPlan, Facts, Stage, counts_of
from mechdrift.pairs.lineage import audit_pair
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import blocks
from mechdrift.runs import Run

CHECKED, LAST_ROLE = 4, "template_tail[-1]"  # prompts of each dimension that are read for their numbers, and where


def audit_pair_stage(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Compare weights, templates and tokens of the pair (see `pairs.lineage`), and say what the run asks."""
    with run.scratch() as folder:
        prompts = [item.prompt for probes in plan.sets.values() for item in probes]
        found = audit_pair(pair, prompts, folder, lambda _, loaded: check_numbers(loaded, plan))
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
        "null_model": pair.null_model.name if pair.null_model else "",
    }
    return {"pair": described, "probes": counts_of(plan.sets), "self_tests": {"surface_error": found.surface_error}}


def check_numbers(loaded: LanguageModel, plan: AuditPlan) -> None:
    """Raise, naming model, layer and item, where the longest prompts of a dimension give activations that are not
    finite, or whose squares are not (normalisation layers add squares up). The last token attends to all others, so it
    shows what went wrong at any of them. `audit_pair` names damaged weights; the activations of other prompts are
    checked when they are recorded."""
    weights = (weight for weight in loaded.model.parameters() if weight.device.type != "meta")
    if all(bool(rows.sum(dtype=torch.float64).isfinite()) for weight in weights for (rows,) in blocks(weight)):
        for probes in plan.sets.values():
            longest = sorted(probes, key=lambda item: len(item.prompt))[-CHECKED:]
            found = collect(loaded, replace(probes, items=tuple(longest)), site="resid_post", roles=(LAST_ROLE,))
            squares = found.of("resid_post").square()
            check_finite(squares, found.model, found.items, found.layers, found.roles)


STAGE = Stage(
    name="pair", what="weights, templates and tokens are compared", files=("weights.parquet",), run=audit_pair_stage
)
