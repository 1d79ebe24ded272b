"""What the figures of the directions show: how far they turned, the gap along the thinking, and what steering does."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechdrift.report.narrative.evidence import span
from mechdrift.report.words import capitalised, dimension_name, interval, listing, number, readout_role, role_name
from mechdrift.statistics.grids import ALPHA

ARMS = {
    "ablate": "taking the direction out of the instruct model",
    "add": "adding it to the reasoning model at strength {0:g}",
}
SECOND_BEST = (
    " No candidate met all limits. This one has the smallest KL of those that bring refusals about when they are "
    "added, and leave less than half of the gap between triggers and neutral prompts when they are taken out."
)


def describe_directions(
    manifest: Mapping[str, Any],
    drift: pd.DataFrame | None,
    thinking: pd.DataFrame | None,
    steering: pd.DataFrame | None = None,
) -> dict[str, str]:
    """A sentence for each figure ("drift", "thinking", "steering"), with the number of prompts that it rests on.

    Args:
        manifest: the run's; `probes` in it has the number of prompts and families of each dimension.
        drift: the run's table `drift`; None, or empty, where the run has none. Its sentence is then empty.
        thinking: likewise `thinking`.
        steering: likewise `steering`.
    """
    return {
        "drift": "" if drift is None or drift.empty else _drift_sentence(drift, manifest.get("probes", {})),
        "thinking": "" if thinking is None or thinking.empty else _thinking_sentence(thinking),
        "steering": "" if steering is None or steering.empty else _steering_sentence(steering),
    }


def _drift_sentence(drift: pd.DataFrame, probes: Mapping[str, Mapping[str, int]]) -> str:
    role = readout_role(drift.role)
    rows = drift[drift.role == role]
    known = rows[~rows.below_null.astype(bool)]
    text = (
        f"At {role_name(role)}, both models have a direction above noise in {len(known)} of {len(rows)} places, where "
        "a place is a layer in a dimension."
    )
    if known.p_no_drift.notna().any():
        turned = known[known.p_no_drift <= ALPHA]
        angles = (
            f", by {turned.angle.min():.0f} to {turned.angle.max():.0f} degrees" if turned.angle.notna().any() else ""
        )
        text += (
            f" In {len(turned)} of these it turned{angles} (p ≤ {ALPHA} each, not adjusted for the number of places)."
        )
    sizes = [(facts["n"], facts["families"]) for name, facts in probes.items() if name in set(drift.dimension)]
    if sizes:
        prompts, families = (span(values) for values in zip(*sizes, strict=True))
        text += f" Each dimension's directions rest on {prompts} prompts in {families} families."
    return text


def _thinking_sentence(thinking: pd.DataFrame) -> str:
    rows = thinking[
        (thinking.side == "reasoning") & (thinking.contrast == "difference") & (thinking.position == "fall")
    ]
    falls = [dimension_name(row.dimension).lower() for row in rows.itertuples() if row.high < 0]
    rises = [dimension_name(row.dimension).lower() for row in rows.itertuples() if row.low > 0]
    changes = [f"{verb} in {listing(names)}" for verb, names in (("falls", falls), ("rises", rises)) if names]
    change = listing(changes) if changes else "changes in no dimension beyond its interval"
    return (
        "From the last quarter of the reasoning model's thinking to the closed block, its gap between triggers and "
        f"neutral twins {change}. Each dimension rests on {span(rows.n)} prompts in {span(rows.families)} families; "
        f"{int(rows.left_out.sum())} prompts are left out, because their thinking or their twin's was not finished."
    )


def _steering_sentence(steering: pd.DataFrame) -> str:
    """What the direction does to triggers when it is taken out and added, and how much more than random vectors do."""
    effects = [effect for arm in ARMS if (effect := _effect(steering, arm))]
    if not effects:
        return ""
    triggers = steering[steering.measure == "trigger"]
    size = f"These are {int(triggers.n.max())} triggers in {int(triggers.families.max())} families, with 95% intervals."
    return f"{capitalised(', '.join(effects))}. {size}{'' if steering.eligible.all() else SECOND_BEST}"


def _effect(steering: pd.DataFrame, arm: str) -> str:
    """One arm's largest change of the readout on triggers; empty where it was not measured."""
    rows = steering[(steering.arm == arm) & (steering.vector == "direction")]
    changes = rows[rows.measure == "trigger_change"]
    if changes.empty:
        return ""
    row = changes.loc[changes.estimate.abs().idxmax()]
    over = rows[(rows.measure == "trigger_over_random") & (rows.strength == row.strength)]
    beyond = f"; beyond random vectors {_estimate(over.iloc[0])}" if len(over) else ""
    return f"{ARMS[arm].format(row.strength)} moves the readout on triggers by {_estimate(row)}{beyond}"


def _estimate(row: pd.Series) -> str:
    return f"{number(row.estimate, signed=True)} ({interval(row.low, row.high, signed=True)})"
