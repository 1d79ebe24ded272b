"""Stage `patch`: where the change passes through (patches) and where it originates (grafts), in both directions.

patch, patch_items     grids over layer and role: means with inference, and every item's effect
placebos               some of the same cells with values from elsewhere: unrelated prompts, random vectors, and a
                       null model, where the pair has one
grafts                 grids over windows of blocks
"""

from collections.abc import Sequence

import pandas as pd

from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.audits.stages.readouts import less_reliable_side
from mechdrift.audits.summaries import summarise_both_ways, summarise_grid
from mechdrift.pairs.pair import Pair
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import patch
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Side
from mechdrift.runs import Run

TABLES = ("patch", "patch_items", "placebos", "grafts")
PLACEBOS = ("unrelated", "random")  # donors that have nothing to restore
WAYS: tuple[tuple[Side, Side], ...] = (SIDES, SIDES[::-1])  # donor, recipient: what restores, and what breaks


def patch_both_ways(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Patches and grafts in both directions, and placebos of the patches."""
    worst, engines = 0.0, set()
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    validation = run.table("readout_validation").query("think == 'off'").set_index(["dimension", "side"])
    layers = patched_layers(pair, plan)
    for name, probes in plan.sets.items():
        triggers = probes.sample(plan.size.patched, plan.seed).where("trigger")
        readout, weaker = answers.readout(name), less_reliable_side(validation, name)
        grids = [
            patch(pair, triggers, donor=donor, recipient=recipient, layers=layers, readout=readout)
            for donor, recipient in WAYS
        ]
        worst, engines = (
            max(worst, *(grid.identity_error for grid in grids)),
            engines | {grid.engine for grid in grids},
        )
        tables["patch"].append(summarise_both_ways(grids, weaker, plan.seed))
        tables["patch_items"] += [
            grid.frame[["dimension", "donor", "recipient", "item", "layer", "role", "effect"]] for grid in grids
        ]
        if not plan.size.grafts:
            continue
        tables["placebos"] += [
            patch_placebo(pair, plan, answers, name, grids[0].roles, weaker, source) for source in PLACEBOS
        ]
        windows = {"layers": range(0, layers[-1] + 1, plan.size.layer_step), "windows": "to_next"}
        grafts = [
            graft(pair, triggers, donor=donor, recipient=recipient, readout=readout, **windows)
            for donor, recipient in WAYS
        ]
        worst = max(worst, *(grid.identity_error for grid in grafts))
        tables["grafts"].append(summarise_both_ways(grafts, weaker, plan.seed))
    if plan.size.grafts:
        tables["placebos"] += patch_from_null_model(pair, plan, answers, tables["patch"], validation)
    for name, found in tables.items():
        run.write_table(name, pd.concat(found, ignore_index=True) if found else pd.DataFrame({"dimension": []}))
    engine = ", ".join(sorted(engines))
    return {"self_tests": run.manifest["self_tests"] | {"identity_patch_error": worst, "patch_engine": engine}}


def patch_placebo(
    pair: Pair,
    plan: AuditPlan,
    answers: RunAnswers,
    name: str,
    roles: Sequence[str],
    weaker: pd.Series,
    source: str,
) -> pd.DataFrame:
    """What a grid of one dimension is to be compared with: every other layer of its last role, with values from
    elsewhere."""
    triggers = plan.sets[name].sample(plan.size.patched, plan.seed).where("trigger")
    layers = patched_layers(pair, plan)
    placebo = patch(
        pair,
        triggers,
        roles=roles[-1:],
        layers=layers[(len(layers) - 1) % 2 :: 2],  # the last layer is always among them
        source=source,
        readout=answers.readout(name),
    )
    return summarise_grid(placebo, weaker, plan.seed)


def patch_from_null_model(
    pair: Pair, plan: AuditPlan, answers: RunAnswers, patched: Sequence[pd.DataFrame], validation: pd.DataFrame
) -> list[pd.DataFrame]:
    """The same cells with the values of a model that was trained for as long, but not to reason: what these restore as
    well, training as such did not take away."""
    if (beside := pair.with_control()) is None:
        return []
    pair.close()  # three models at once take more memory than any other stage
    found = [
        patch_placebo(
            beside, plan, answers, name, list(dict.fromkeys(table.role)), less_reliable_side(validation, name), "same"
        )
        for name, table in zip(plan.sets, patched, strict=True)
    ]
    beside.close()
    return [table.assign(source="control") for table in found]


def patched_layers(pair: Pair, plan: AuditPlan) -> tuple[int, ...]:
    """Every `layer_step`-th layer, and always the last."""
    count = pair.open("instruct").n_layers
    return tuple(sorted({*range(0, count, plan.size.layer_step), count - 1}))


STAGE = Stage(name="patch", files=tuple(f"{name}.parquet" for name in TABLES), run=patch_both_ways)
