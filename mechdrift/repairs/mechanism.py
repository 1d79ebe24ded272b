"""Did the parent's mechanism come back, or was a new one built? Child and repaired model are compared with the parent
inside, on the reported half.

    cosine       of the model's direction with the parent's, by layer, at the readout position
    separation   the model's class difference along the parent's direction, in units of the parent's own: 1 is what the
                 parent has; at 0 triggers and neutral twins do not differ along it
    patch        what copying the parent's residual stream into the model restores, in log-odds: the smaller, the more
                 of it is there already
    graft        what one block does in the child, in log-odds: the parent's block (row `parent`) and the repaired
                 model's

Where the repaired model's blocks work in the same places as the parent's, their graft effects rise and fall together:
`agreement` is the correlation of the two profiles over layers.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.activations.capture import collect
from mechdrift.activations.readouts import Readout
from mechdrift.directions.finders import find_directions
from mechdrift.directions.thinking import READOUT_ROLE
from mechdrift.pairs.pair import Pair, give_back_memory
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import patch
from mechdrift.records import PatchGrid, ProbeSet
from mechdrift.repairs.evidence import SITE
from mechdrift.repairs.making import Repaired
from mechdrift.statistics.intervals import UNBOUNDED
from mechdrift.statistics.resampling import cluster_bootstrap

PATCHED = 8  # twin pairs per dimension
PARENT, CHILD = "parent", "child"


def mechanism_table(
    fixed: Repaired, sets: Mapping[str, ProbeSet], readouts: Mapping[str, Readout | None], seed: int = 0
) -> pd.DataFrame:
    """The table `repair_mechanism` of one repair of weights."""
    pairs = {CHILD: (fixed.original, float("nan")), fixed.repair.name: (fixed.pair, fixed.strength)}
    rows: list[dict] = []
    for dimension, probes in sets.items():
        triggers = probes.sample(PATCHED, seed).where("trigger")
        for method, (pair, strength) in pairs.items():
            place = {"method": method, "strength": strength, "dimension": dimension}
            rows += [place | row for row in _directions(pair, probes)]
            grid = patch(pair, triggers, roles=(READOUT_ROLE,), readout=readouts[dimension])
            rows += [place | row for row in _grid("patch", grid)]
        for method, (donor, strength) in grafted(fixed).items():
            place = {"method": method, "strength": strength, "dimension": dimension}
            rows += [place | row for row in _grid("graft", graft(donor, triggers, readout=readouts[dimension]))]
        give_back_memory()
    return pd.DataFrame(rows)


def grafted(fixed: Repaired) -> dict[str, tuple[Pair, float]]:
    """Pairs whose first model gives its blocks to the child: the parent, and the repaired model."""
    own = fixed.pair
    models = {**own.models, "instruct": own.models["reasoning"], "reasoning": fixed.original.models["reasoning"]}
    swapped = replace(own, instruct=own.reasoning, reasoning=fixed.original.reasoning, models=models)
    return {PARENT: (fixed.original, float("nan")), fixed.repair.name: (swapped, fixed.strength)}


def _directions(pair: Pair, probes: ProbeSet) -> list[dict]:
    """Cosine and separation by layer."""
    found = find_directions(collect(pair, probes, site=SITE, roles=(READOUT_ROLE,)), splits=1)
    parent, own = found.instruct[:, 0], found.reasoning[:, 0]
    cosines = (parent * own).sum(dim=-1)
    separations = cosines * found.norm_reasoning[:, 0] / found.norm_instruct[:, 0].clamp(min=1e-12)
    common = {"role": READOUT_ROLE, "low": np.nan, "high": np.nan, "n": len(probes), "families": len(probes.families)}
    return [
        {"quantity": name, "layer": layer, "value": float(value)} | common
        for name, values in (("cosine", cosines), ("separation", separations))
        for layer, value in zip(found.layers, values, strict=True)
    ]


def _grid(quantity: str, grid: PatchGrid) -> list[dict]:
    rows = []
    for place, layer in enumerate(grid.layers):
        effect: Float[np.ndarray, " prompt"] = grid.effect[:, place, 0]
        found = cluster_bootstrap(effect, grid.families, bounds=UNBOUNDED, draws=500)
        ends = {"value": found.estimate, "low": found.low, "high": found.high}
        sizes = {"n": len(effect), "families": len(set(grid.families))}
        rows.append({"quantity": quantity, "layer": layer, "role": grid.roles[0]} | ends | sizes)
    return rows


def agreement(table: pd.DataFrame, dimension: str) -> float:
    """The correlation over layers between the graft effects of the parent's blocks and of the repaired model's; NaN
    where one of the profiles is constant."""
    grafts = table[(table.quantity == "graft") & (table.dimension == dimension)]
    profiles = [part.sort_values("layer").value.to_numpy() for _, part in grafts.groupby("method", sort=False)]
    if len(profiles) < 2 or min(profile.std() for profile in profiles) < 1e-9:
        return float("nan")
    return float(np.corrcoef(profiles[0], profiles[1])[0, 1])


def mechanism_sentences(table: pd.DataFrame) -> list[str]:
    """What the table says: one sentence per dimension."""
    found = []
    for dimension, part in table.groupby("dimension", sort=False):
        own = part[~part.method.isin((PARENT, CHILD))]
        before, after = (rows[rows.quantity == "separation"] for rows in (part[part.method == CHILD], own))
        layer = int(before.layer.iloc[(1 - before.value).abs().argmax()])
        was, now = (float(rows[rows.layer == layer].value.iloc[0]) for rows in (before, after))
        same = agreement(table, str(dimension))
        told = "" if np.isnan(same) else f"; its blocks work where the parent's do with r = {same:.2f} over layers"
        found.append(
            f"{dimension}: at layer {layer}, where the child differs most, the classes lie {now:.2f} of the parent's "
            f"difference apart along the parent's direction (child: {was:.2f}){told}."
        )
    return found
