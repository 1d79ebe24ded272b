"""How far training moved each class of items, along the direction and altogether.

Shifts are in units of the instruct model's class difference. Differences in differences (`did_…`) subtract what moves
both classes alike, as all training does; `directions.drift` defines the columns.
"""

import numpy as np
from jaxtyping import Float

from mechdrift.directions.drift_design import Design, Layer, quantiles
from mechdrift.statistics.geometry import ratio

Cells = Float[np.ndarray, " role"]
FamilyProducts = Float[np.ndarray, "role 2 2 class_family class_family"]


def shift_columns(layer: Layer, direction: Float[np.ndarray, "role d_model"]) -> dict[str, Cells]:
    """The class means' moves in units of the instruct model's class difference."""
    before = layer.means["instruct"]
    unit = np.linalg.norm(before[0] - before[1], axis=-1)
    columns = {}
    for name, moved in zip(("trigger", "neutral"), layer.means["reasoning"] - before, strict=True):
        along = (moved * direction).sum(axis=-1)
        columns[f"shift_along_{name}"] = ratio(along, unit)
        columns[f"shift_across_{name}"] = ratio(np.linalg.norm(moved - along[:, None] * direction, axis=-1), unit)
    return columns


def did_columns(products: FamilyProducts, layer: Layer, design: Design) -> dict[str, Cells]:
    """Triggers' change less that of neutral items: along the instruct direction of other families, and in length."""
    sizes = design.sums.sum(axis=1).reshape(2, -1).sum(axis=1)
    whole = np.repeat([1, -1] / sizes, len(design.sums) // 2)
    contrasts = np.vstack([whole, design.contrasts])  # the first draw is the data
    family = np.arange(len(design.sums)) % (len(design.sums) // 2)
    apart = products * (family[:, None] != family)
    within, across = (((contrasts @ apart[:, 0, side]) * contrasts).sum(axis=-1) for side in (0, 1))
    along, moved = ratio(across - within, within), layer.moved @ design.sums.T @ contrasts.T
    columns = {}
    for name, drawn in (("did_along", along), ("did_moved", moved)):
        ends, known = np.full((3, len(drawn)), np.nan), ~np.isnan(drawn[:, 1:]).all(axis=1)
        ends[:, known] = np.nanquantile(drawn[known, 1:], quantiles(design.level), axis=1)
        columns |= {name: drawn[:, 0], f"{name}_low": ends[0], f"{name}_high": ends[2]}
    classes = {f"moved_{name}": layer.moved[:, rows].mean(axis=1) for name, rows in design.classes.items()}
    return classes | columns
