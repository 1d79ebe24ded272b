"""Stage `patch`: where the change passes through (patches) and where it originates (grafts), in both directions.

patch, patch_items     grids over layer and role: means with inference, and every item's effect
placebos               some of the same cells with values from elsewhere: unrelated prompts, random vectors, and a
                       null model, where the pair has one
grafts                 grids over windows of blocks

Every model is opened once for all dimensions, except the instruct model, which is opened twice: it is the donor first
and the recipient last.

    instruct model     gives activations, readouts and weights
    null model         gives activations
    reasoning model    takes all of these, and gives its own
    instruct model     takes those

Between the two, what a donor gives is stored in the run folder, so that one model in memory is enough.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mechdrift.audits.answers import RunAnswers
from mechdrift.audits.parts import Part, in_order
from mechdrift.audits.plan import AuditPlan, Facts, Stage
from mechdrift.audits.stages.readouts import less_reliable_side
from mechdrift.audits.summaries import summarise_both_ways, summarise_grid
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.patching.grafts import GraftPlan, donor_readouts, graft_recipient
from mechdrift.patching.grid import PatchPlan, patch_recipient, plan_patch, run_donors
from mechdrift.patching.passes import DonorPass
from mechdrift.patching.swaps import keep_weights
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, PatchGrid, Side
from mechdrift.runs import Run

TABLES = ("patch", "patch_items", "placebos", "grafts")
PLACEBOS = ("unrelated", "random")  # values that should restore nothing
NULL_MODEL = "null model"  # a placebo's source in the tables: the pair's null model
WAYS: tuple[tuple[Side, Side], ...] = (SIDES, SIDES[::-1])  # donor, recipient: what restores, and what breaks
ITEM_COLUMNS = ["dimension", "donor", "recipient", "item", "layer", "role", "effect"]
GridId = tuple[str, str, Side]
"""One grid of a dimension: the dimension, what is made (`patch`, `graft`, or a placebo's source), and the donor."""
Plans = Mapping[GridId, PatchPlan | GraftPlan]
Grids = dict[GridId, PatchGrid]


def patch_both_ways(run: Run, pair: Pair, plan: AuditPlan) -> Facts:
    """Patches and grafts in both directions, and placebos of the patches."""
    return join_patch(run, plan, [read_patch(run, pair, plan)])


def read_patch(run: Run, pair: Pair, plan: AuditPlan) -> Part:
    """All grids of the plan's dimensions, summarised."""
    answers = RunAnswers.read(run, plan.sets, Renderer(pair.tokenizer("reasoning")))
    plans = plan_grids(pair, plan, answers, pair.open("instruct").n_layers)
    with run.scratch() as folder:
        give(pair.open("instruct"), _given_by("instruct", plans), folder)
        if plan.size.grafts and (beside := pair.with_null_model()):
            pair.close()  # three models at once take more memory than any other stage
            give(beside.open("instruct"), _given_by(NULL_MODEL, plans), folder)
            beside.close()
        grids = take(pair.open("reasoning"), _given_by("instruct", plans) | _given_by(NULL_MODEL, plans), folder)
        give(pair.open("reasoning"), _given_by("reasoning", plans), folder)
        grids |= take(pair.open("instruct"), _given_by("reasoning", plans), folder)
    validation = run.table("readout_validation").query("think == 'off'").set_index(["dimension", "side"])
    both_ways = [grid for (_, kind, _), grid in grids.items() if kind in ("patch", "graft")]
    return Part(
        tables={
            name: pd.concat(found, ignore_index=True)
            for name, found in summarise_grids(plan, grids, validation).items()
            if found
        },
        facts={
            "identity_patch_error": float(max(0.0, *(grid.identity_error for grid in both_ways))),
            "patch_engine": sorted({grid.engine for (_, kind, _), grid in grids.items() if kind == "patch"}),
        },
    )


def join_patch(run: Run, plan: AuditPlan, parts: Sequence[Part]) -> Facts:
    """The tables of all dimensions; the null model's placebos come last."""
    names = list(plan.sets)
    for name in ("patch", "patch_items", "grafts"):
        run.write_table(name, in_order(parts, name, names))
    placebos = in_order(parts, "placebos", names)
    if len(placebos):
        placebos = placebos.iloc[(placebos.source == NULL_MODEL).argsort(kind="stable")].reset_index(drop=True)
    run.write_table("placebos", placebos)
    found = {
        "identity_patch_error": max(part.facts.get("identity_patch_error", 0.0) for part in parts),
        "patch_engine": ", ".join(sorted({engine for part in parts for engine in part.facts.get("patch_engine", ())})),
    }
    return {"self_tests": run.manifest["self_tests"] | found}


# What is asked.


def plan_grids(pair: Pair, plan: AuditPlan, answers: RunAnswers, n_layers: int) -> dict[GridId, PatchPlan | GraftPlan]:
    """All grids of all dimensions. Placebos take every other patched layer, always the last, of the last role."""
    layers = tuple(sorted({*range(0, n_layers, plan.size.layer_step), n_layers - 1}))
    plans: dict[GridId, PatchPlan | GraftPlan] = {}
    for name, probes in plan.sets.items():
        triggers = probes.sample(plan.size.patched, plan.seed).where("trigger")
        readout = answers.readout(name)
        for donor, recipient in WAYS:
            main = plan_patch(pair, triggers, donor=donor, recipient=recipient, layers=layers, readout=readout)
            plans[name, "patch", donor] = main
            if plan.size.grafts:
                starts = range(0, n_layers, plan.size.layer_step)
                plans[name, "graft", donor] = GraftPlan(grid=main.grid, layers=starts, windows="to_next")
        if plan.size.grafts:
            some = {"roles": main.grid.columns[-1:], "layers": layers[(len(layers) - 1) % 2 :: 2], "readout": readout}
            for source in PLACEBOS:
                plans[name, source, "instruct"] = plan_patch(pair, triggers, source=source, **some)
            if beside := pair.with_null_model():
                plans[name, NULL_MODEL, "instruct"] = plan_patch(beside, triggers, **some)
    return plans


def _given_by(giver: str, plans: Plans) -> dict[GridId, PatchPlan | GraftPlan]:
    """The grids that one of the three models gives to: a side of the pair, or the null model in the instruct model's
    place."""
    return {key: plan for key, plan in plans.items() if giver == (NULL_MODEL if key[1] == NULL_MODEL else key[2])}


# What one model gives and another takes.


def give(loaded: LanguageModel, plans: Plans, folder: Path) -> None:
    """Write everything that the grids take from one model: activations, readouts, and its weights once for all."""
    for key, plan in plans.items():
        place = _place(folder, key)
        if isinstance(plan, GraftPlan):
            np.save(place / "readouts.npy", donor_readouts(plan, loaded))
        else:
            for number, given in enumerate(run_donors(plan, loaded)):
                given.save(place / f"{number}.safetensors")
    if grafts := [(key, plan) for key, plan in plans.items() if isinstance(plan, GraftPlan)]:
        keep_weights(loaded, grafts[0][1].modules, _place(folder, ("weights", *grafts[0][0][1:])))


def take(loaded: LanguageModel, plans: Plans, folder: Path) -> Grids:
    """The grids of one recipient."""
    grids: Grids = {}
    for key, plan in plans.items():
        place = _place(folder, key)
        if isinstance(plan, GraftPlan):
            stored = _place(folder, ("weights", *key[1:]))
            weights = [stored / f"{layer}.safetensors" for layer in range(loaded.n_layers)]
            grids[key] = graft_recipient(plan, loaded, weights, np.load(place / "readouts.npy"))
        else:
            given = (DonorPass.load(place / f"{number}.safetensors") for number in range(len(plan.grid.batches)))
            grids[key] = patch_recipient(plan, loaded, given)
    return grids


def _place(folder: Path, key: tuple[str, ...]) -> Path:
    place = folder.joinpath(*key)
    place.mkdir(parents=True, exist_ok=True)
    return place


# What is kept.


def summarise_grids(plan: AuditPlan, grids: Grids, validation: pd.DataFrame) -> dict[str, list[pd.DataFrame]]:
    """The rows of each table as a list of tables, in the order of the dimensions."""
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for name in plan.sets:
        weaker = less_reliable_side(validation, name)
        patches = [grids[name, "patch", donor] for donor in SIDES]
        tables["patch"].append(summarise_both_ways(patches, weaker, plan.seed))
        tables["patch_items"] += [grid.frame[ITEM_COLUMNS] for grid in patches]
        if plan.size.grafts:
            grafts = [grids[name, "graft", donor] for donor in SIDES]
            tables["grafts"].append(summarise_both_ways(grafts, weaker, plan.seed))
            tables["placebos"] += [summarise_grid(grids[name, s, "instruct"], weaker, plan.seed) for s in PLACEBOS]
    for name in plan.sets:
        if grid := grids.get((name, NULL_MODEL, "instruct")):
            summary = summarise_grid(grid, less_reliable_side(validation, name), plan.seed)
            tables["placebos"].append(summary.assign(source=NULL_MODEL))
    return tables


STAGE = Stage(
    name="patch", what="activations are patched", files=tuple(f"{name}.parquet" for name in TABLES), run=patch_both_ways
)
