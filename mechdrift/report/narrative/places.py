"""Where the change sits inside the model: the place whose patch restores most, and the layers that do so by their
weights.

A place is named only where the readout is reliable, the two models' readouts differ beyond noise, and the cell survives
the family-wise test (adjusted p below 0.05). Elsewhere a sentence says which of these fails. A cell may survive the
test and restore next to nothing, because an effect that is the same in every family has little noise: below a tenth of
the gap, the page says that no single place carries the change.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from mechdrift.records import order_dimensions
from mechdrift.report.words import THINK_NAMES, dimension_name, layer_range, listing, number, readout_role, role_name
from mechdrift.statistics.grids import ALPHA

FEWEST_PATCHED_FAMILIES = 6  # the smallest p of a sign-flip test is 2 / 2^families
NEAR_PEAK = 0.8  # of the peak's recovery: such layers are named together with it
LEAST = 0.1  # of the gap: what restores less is no place of the change
READOUT_ONLY = (
    " No change of the answers is established in this dimension: this is where the readout changed, which is measured "
    "more finely."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the change sits: (dimension, place) where it can be said, and a sentence for each reason why not."""

    places: tuple[tuple[str, str], ...]
    unsaid: tuple[str, ...]


def find_places(
    patch: pd.DataFrame | None, grafts: pd.DataFrame | None = None, established: Collection[str] | None = None
) -> Places:
    """The place of each dimension's change, or the reason why none can be named.

    Args:
        patch: the table of patch grids, or None where a run has none.
        grafts: the table of grafts; the layers whose weights restore most are named from it.
        established: the dimensions whose answers changed. For the others, the place is said to be one of the readout.
    """
    if patch is None or patch.empty:
        return Places(places=(), unsaid=("Where inside the change sits cannot be said: this run did no patching.",))
    places: list[tuple[str, str]] = []
    unsaid: dict[str, list[str]] = {"unreliable": [], "noise": [], "few": [], "unclear": []}
    for dimension in order_dimensions(patch.dimension):
        # Instruct is the donor: what of the instruct model brings its behaviour back in the reasoning model?
        grid = patch[(patch.dimension == dimension) & (patch.donor == "instruct")]
        restoring = _restoring(grid)
        if len(restoring):
            note = READOUT_ONLY if established is not None and dimension not in established else ""
            places.append((dimension_name(dimension), _place(restoring, grid) + _origin(grafts, dimension) + note))
        elif len(grid):
            unsaid[_why_none(grid)].append(dimension_name(dimension).lower())
    sentences = tuple(_why_unsaid(reason, names) for reason, names in unsaid.items() if names)
    return Places(places=tuple(places), unsaid=sentences)


def _restoring(rows: pd.DataFrame) -> pd.DataFrame:
    """The cells that restore, by a reliable readout and the family-wise test."""
    return rows[rows.reliable.astype(bool) & (rows.p_adjusted < ALPHA) & (rows.recovery > 0)]


def _why_none(grid: pd.DataFrame) -> str:
    """The first condition that fails in a grid without a restoring cell."""
    trusted = grid[grid.reliable.astype(bool)]
    if trusted.empty:
        return "unreliable"
    if trusted.recovery.isna().all():
        return "noise"
    return "few" if grid.families.max() < FEWEST_PATCHED_FAMILIES else "unclear"


def _why_unsaid(reason: str, names: Sequence[str]) -> str:
    one = len(names) == 1
    because = {
        "unreliable": f"{'its readout does' if one else 'their readouts do'} not follow judged behaviour well enough",
        "noise": "there the two models' readouts do not differ beyond noise",
        "few": f"that takes prompts of at least {FEWEST_PATCHED_FAMILIES} families, more than this preset patches",
        "unclear": "there no single place survives the family-wise test",
    }
    return f"Where it sits cannot be said for {listing(names)}: {because[reason]}."


def _place(restoring: pd.DataFrame, grid: pd.DataFrame) -> str:
    """The peak among the restoring cells of a grid, the layers near it, where it begins, and the best earlier role."""
    peak = restoring.loc[restoring.recovery.idxmax()]
    if peak.recovery < LEAST:
        most = _spot(restoring, sorted(set(grid.layer)))
        return f"no single activation restores a tenth of the gap. The most that survives the test: {most}."
    several = len(grid[["site", "think"]].drop_duplicates()) > 1
    restoring = restoring[(restoring.site == peak.site) & (restoring.think == peak.think)]
    layers, last = sorted(set(grid.layer)), readout_role(grid.role)
    begins = restoring[(restoring.role == peak.role) & (restoring.recovery >= peak.recovery / 2)].layer.min()
    text = f"{_spot(restoring, layers)}, and half of that from layer {begins} on"
    text += f" ({peak.site}, {THINK_NAMES.get(peak.think, peak.think)})" if several else ""
    earlier = restoring[(restoring.role != last) & (restoring.recovery >= LEAST)]
    if peak.role == last and len(earlier):
        text += f"; before that position, {_spot(earlier, layers)}"
    return f"{text}."


def _spot(restoring: pd.DataFrame, layers: Sequence[int]) -> str:
    """The best cell with its neighbouring layers: "layers 12 to 29 at the answer (98% of the gap at layer 20)"."""
    peak = restoring.loc[restoring.recovery.idxmax()]
    near = restoring[(restoring.role == peak.role) & (restoring.recovery >= NEAR_PEAK * peak.recovery)]
    run = unbroken_run(layers, set(near.layer), int(peak.layer))
    at_peak = "" if len(run) == 1 else f" at layer {peak.layer}"
    return f"{layer_range(run)} at {role_name(peak.role)} ({number(peak.recovery, share=True)} of the gap{at_peak})"


def unbroken_run(layers: Sequence[int], marked: Collection[int], start: int) -> list[int]:
    """The marked layers around `start` without a gap; `layers` are those of the grid, perhaps every third one only."""
    first = last = list(layers).index(start)
    while last + 1 < len(layers) and layers[last + 1] in marked:
        last += 1
    while first > 0 and layers[first - 1] in marked:
        first -= 1
    return list(layers[first : last + 1])


def _origin(grafts: pd.DataFrame | None, dimension: str) -> str:
    """The neighbouring layers whose weights restore most, where a graft survives the family-wise test."""
    if grafts is None or grafts.empty:
        return ""
    rows = grafts[(grafts.dimension == dimension) & (grafts.donor == "instruct")].sort_values("layer")
    restoring = _restoring(rows)
    if restoring.empty:
        return " No group of neighbouring layers restores it by its weights alone."
    peak, layers = restoring.loc[restoring.recovery.idxmax()], rows.layer.tolist()
    width = min((after - before for before, after in pairwise(layers)), default=1)
    grafted = layer_range({int(peak.layer), int(peak.layer) + width - 1})
    both = ", and the same layers of the reasoning model break the instruct model" if peak.both_ways else ""
    return (
        f" By weights alone, {grafted} of the instruct model restore most "
        f"({number(peak.recovery, share=True)} of the gap{both})."
    )
