"""The layer where a direction separates best: one rule for the audit, the page, the card and trajectories.

    Of the layers below 80 % of the depth (beyond it a direction writes words rather than judgements, Arditi et al.
    2406.11717), take those where the instruct model's direction is above noise, if there are any. Of these, take the
    one that separates trigger and neutral prompts of held-out families best, by its AUROC in the instruct model. Ties
    go to the layer where directions found on two halves of the families agree best.

The instruct model decides, because the question is what happened to *its* direction.
"""

import pandas as pd

DEEPEST = 0.8  # share of the layers


def best_layer(drift: pd.DataFrame, role: str) -> int | None:
    """The best layer of one dimension's drift table, by the rule of the module's text; None where the models have no
    direction at this role."""
    rows = drift[(drift.role == role) & (drift.layer < DEEPEST * (drift.layer.max() + 1)) & drift.cosine.notna()]
    if rows.empty:
        return None
    above = rows[~rows.below_null_instruct.astype(bool)]
    ranked = (above if len(above) else rows).sort_values(
        ["auroc_instruct", "split_half_instruct"], ascending=False, kind="stable"
    )
    return int(ranked.layer.iloc[0])


def best_layers(drift: pd.DataFrame, role: str) -> dict[str, int]:
    """`best_layer` of every dimension that has one."""
    found = {str(name): best_layer(part, role) for name, part in drift.groupby("dimension")}
    return {name: layer for name, layer in found.items() if layer is not None}
