"""Does the model lose its judgement while it thinks? The projection on a direction, from the first thought to the
answer.

The *refusal cliff* (arXiv 2510.06036): a reasoning model may represent a request as harmful all through its thinking,
and drop that just before the answer. Here each activation x of the reasoning model on its own thinking, and of the
instruct model teacher-forced on the same tokens, is projected on the instruct model's unit direction u of one layer and
role (safety: Arditi et al., arXiv 2406.11717), in units of the instruct model's class difference there:

    projection   (x . u - n) / (t - n), where t and n are the means of x . u over trigger and neutral items in the
                 instruct model, at the layer and role of the direction: neutral prompts lie at 0 there, triggers at 1.

It is read at the quarters of the thinking (means), at its last token, after the closed think block (where the first
word of the answer is decided), at the first answer token and over the whole answer. Different kinds of tokens project
to different values whatever is asked. So read the *difference*, triggers minus neutral twins, which compares the same
kinds of tokens.

    fall     the difference after the closed block minus that of the last quarter: below 0, the model lets go of what it
             represented in its thinking
    cliff    the difference after the closed block minus that of the highest quarter. The highest of four noisy means is
             too high, so that even a flat curve has a cliff slightly below 0: with few families, rely on `fall`
    change   (a side of the table) the reasoning model's projection minus the instruct model's on the same tokens: what
             the weights do, and not the text

Intervals are percentiles over resampled families, with the same draws everywhere. Items without thinking, without an
answer, or whose thinking was not closed are left out with their twins, and counted.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechdrift.activations.capture import collect_side
from mechdrift.directions.best_layer import best_layer
from mechdrift.pairs.pair import Pair
from mechdrift.probes.roles import QUARTERS
from mechdrift.records import SIDES, Completion, Completions, Directions, MechdriftError, ProbeSet, Side
from mechdrift.statistics.resampling import family_draws

READOUT_ROLE = "think_close[-1]"
ROLES = ("think[quarters]", "think[-1]", "think_close[-1]", "answer[0]", "answer")
POSITIONS = (*(f"think[{quarter}]" for quarter in QUARTERS), *ROLES[1:])
COLUMNS = [
    "dimension",
    "layer",
    "role",
    "side",
    "contrast",
    "position",
    "projection",
    "low",
    "high",
    "n",
    "families",
    "left_out",
]
TABLE_COLUMNS = (*COLUMNS, "auroc", "below_null")  # of an audit


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingDrift:
    """Projections along the thinking, `[prompt, position]` per side, and their means with intervals: see `.frame`.

    `left_out` is the number of items that were not read, by reason.
    """

    dimension: str
    layer: int
    role: str
    probes: ProbeSet
    instruct: Float[np.ndarray, "prompt position"]
    reasoning: Float[np.ndarray, "prompt position"]
    left_out: Mapping[str, int]
    frame: pd.DataFrame


def along_thinking(
    pair: Pair,
    probes: ProbeSet,
    answers: Completions,
    directions: Directions,
    layer: int,
    role: str = READOUT_ROLE,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> ThinkingDrift:
    """Does the model let go of its judgement while it thinks? The projection on a direction along the thinking.

    The reasoning model's activations on its own thinking, and the instruct model's on the same tokens, are
    projected on the instruct model's direction. 0 is where neutral prompts lie at that layer and role, 1 is where
    triggers lie.

    Args:
        pair: the two models.
        probes: trigger items and their neutral twins.
        answers: the reasoning model's completions of `probes`. Items whose thinking is empty or was not closed are
            left out with their twins, and counted.
        directions: from `find_directions`.
        layer: the layer of the direction; both models run only up to this layer.
        role: the role of the direction.
        draws: how many times families are resampled.
        seed: of the draws.
        level: the probability with which an interval should hold the truth.

    Returns:
        A `ThinkingDrift`: `.instruct` and `.reasoning` `[prompt, place]`, and `.frame` with a row per place and
        side: the quarters of the thinking, its last token, after the closed block, the first answer token, the
        answer.

    Raises:
        MechdriftError: when `directions` has no such layer or role, and when too few answers have a closed think
            block.

    Source:
        The refusal cliff: https://arxiv.org/abs/2510.06036; the direction: Arditi et al.,
        https://arxiv.org/abs/2406.11717.

    Example:
        >>> try:
        ...     course = md.along_thinking(pair, probes, answers["reasoning"], dirs, layer=2)
        ... except md.MechdriftError as error:  # random models close no think block
        ...     print(error)
        safety: too few answers with a closed think block (0 of 16 items): give a larger budget.
    """
    reading = plan_reading(probes, answers, directions, layer, role)
    values = {side: reading.project_side(pair, side) for side in SIDES}
    return reading.summarise(values, draws=draws, seed=seed, level=level)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingReading:
    """What is read along the thinking of one probe set, decided before a model is opened.

    `probes` are the items whose thinking was closed and answered; `project` takes activations `[prompt, position,
    d_model]` to the scale on which the instruct model's neutral items have mean 0 and its triggers mean 1.
    """

    dimension: str
    site: str
    layer: int
    role: str
    probes: ProbeSet
    left_out: Mapping[str, int]
    answers: Completions
    project: Callable[[np.ndarray], np.ndarray]

    def project_side(self, pair: Pair, side: Side) -> Float[np.ndarray, "prompt position"]:
        """One model's projections on the reasoning model's thinking, in one pass up to the layer."""
        recorded = collect_side(
            pair,
            self.probes,
            side,
            site=self.site,
            roles=ROLES,
            layers=(self.layer,),
            think="own",
            answers=self.answers,
        )
        return self.project(recorded.of(self.site)[:, 0].double().numpy())

    def summarise(
        self, values: Mapping[Side, np.ndarray], *, draws: int = 2000, seed: int = 0, level: float = 0.95
    ) -> ThinkingDrift:
        """Both sides' projections with their means and intervals."""
        frame = _summarise(values, self.probes, draws, seed, level)
        place = {"dimension": self.dimension, "layer": self.layer, "role": self.role}
        frame = frame.assign(**place, left_out=sum(self.left_out.values()))[COLUMNS]
        return ThinkingDrift(**place, probes=self.probes, left_out=self.left_out, frame=frame, **values)


def plan_reading(
    probes: ProbeSet, answers: Completions, directions: Directions, layer: int, role: str = READOUT_ROLE
) -> ThinkingReading:
    """The reading that `along_thinking` makes of these items; raises as it does."""
    if layer not in directions.layers or role not in directions.roles:
        raise MechdriftError(
            f"there is no direction at layer {layer}, role {role!r}: choose one of the layers and roles of the "
            "directions."
        )
    kept, left_out = closed_twins(probes, answers)
    if not {item.contrast for item in kept} == {"trigger", "neutral"}:
        raise MechdriftError(
            f"{probes.name}: too few answers with a closed think block ({len(kept)} of {len(probes)} items): give "
            "a larger budget."
        )
    return ThinkingReading(
        dimension=directions.dimension,
        site=directions.site,
        layer=layer,
        role=role,
        probes=kept,
        left_out=left_out,
        answers=answers,
        project=_projection(directions, layer, role),
    )


def closed_twins(probes: ProbeSet, answers: Completions) -> tuple[ProbeSet, dict[str, int]]:
    """The items that have closed thinking and an answer, as have their twins; and the number of those left out, by
    reason."""
    rows = {row.item_id: row for row in answers.first}
    why = {item.id: _left_out(rows.get(item.id)) for item in probes}
    for item in probes:
        if not why[item.id] and why.get(item.twin, "twin of one" if item.twin else ""):
            why[item.id] = "twin of one"
    kept = replace(probes, items=tuple(item for item in probes if not why[item.id]))
    return kept, dict(Counter(reason for reason in why.values() if reason))


def _left_out(row: Completion | None) -> str:
    if row is None or not row.answer_ids:
        return "no answer"
    if not row.closed:
        return "thinking not closed"
    return "" if row.thinking_ids else "no thinking"


def _projection(directions: Directions, layer: int, role: str) -> Callable[[np.ndarray], np.ndarray]:
    """From activations to the scale on which the instruct model's neutral items have mean 0 and its triggers mean 1."""
    place = directions.layers.index(layer), directions.roles.index(role)
    unit = directions.instruct[place].double().numpy()
    activations = directions.activations
    along = activations.instruct[:, place[0], place[1]].double().numpy() @ unit
    trigger, neutral = along[activations.is_trigger].mean(), along[~activations.is_trigger].mean()
    if not trigger > neutral:
        raise MechdriftError(
            f"the instruct model has no {directions.dimension} direction at layer {layer}, {role}: choose another "
            "place."
        )
    return lambda values: (values @ unit - neutral) / (trigger - neutral)


def _summarise(values: Mapping[str, np.ndarray], probes: ProbeSet, draws: int, seed: int, level: float) -> pd.DataFrame:
    """Means per side, contrast and position, and the figures that follow from them; draws in which a class is missing
    are left out."""
    families, family = np.unique([item.family for item in probes], return_inverse=True)
    weights = np.vstack([np.ones(len(families)), family_draws(len(families), draws, seed)])[:, family]
    is_trigger = np.array([item.is_trigger for item in probes])
    means = {side: _by_contrast(table, weights, is_trigger) for side, table in values.items()}
    means["change"] = {
        contrast: means["reasoning"][contrast] - means["instruct"][contrast] for contrast in means["instruct"]
    }
    sizes = {"trigger": int(is_trigger.sum()), "neutral": int((~is_trigger).sum()), "difference": len(probes)}
    rows = []
    for side, contrasts in means.items():
        for contrast, drawn in contrasts.items():
            for position, column in _figures(drawn).items():
                low, high = (
                    np.nanquantile(column[1:], [(1 - level) / 2, (1 + level) / 2])
                    if len(families) > 1
                    else (np.nan, np.nan)
                )
                rows.append(
                    {
                        "side": side,
                        "contrast": contrast,
                        "position": position,
                        "projection": column[0],
                        "low": low,
                        "high": high,
                        "n": sizes[contrast],
                        "families": len(families),
                    }
                )
    return pd.DataFrame(rows)


def _by_contrast(
    table: Float[np.ndarray, "prompt position"],
    weights: Float[np.ndarray, "draw prompt"],
    is_trigger: Bool[np.ndarray, " prompt"],
) -> dict[str, Float[np.ndarray, "draw position"]]:
    with np.errstate(invalid="ignore"):  # a draw without one class is NaN
        trigger, neutral = (
            weights[:, rows] @ table[rows] / weights[:, rows].sum(axis=1, keepdims=True)
            for rows in (is_trigger, ~is_trigger)
        )
    return {"trigger": trigger, "neutral": neutral, "difference": trigger - neutral}


def _figures(drawn: Float[np.ndarray, "draw position"]) -> dict[str, Float[np.ndarray, " draw"]]:
    """The curve's positions, then the fall and the cliff at its end."""
    curve = dict(zip(POSITIONS, drawn.T, strict=True))
    quarters = drawn[:, : len(QUARTERS)]
    end = curve[READOUT_ROLE]
    return curve | {"fall": end - quarters[:, -1], "cliff": end - quarters.max(axis=1)}


def plan_table(
    probes: ProbeSet, answers: Completions, directions: Directions, drift: pd.DataFrame
) -> ThinkingReading | None:
    """What an audit reads of one dimension, at the layer that separates best; None where too few items have closed
    thinking."""
    layer = best_layer(drift, READOUT_ROLE)
    kept, _ = closed_twins(probes, answers)
    if layer is None or min(len(kept.where(contrast).families) for contrast in ("trigger", "neutral")) < 2:
        return None
    return plan_reading(probes, answers, directions, layer)


def thinking_rows(found: ThinkingDrift, drift: pd.DataFrame) -> pd.DataFrame:
    """One dimension's rows of an audit. `auroc` and `below_null` say how reliable the direction is in the instruct
    model, where it was found."""
    place = drift[(drift.layer == found.layer) & (drift.role == READOUT_ROLE)].iloc[0]
    return found.frame.assign(auroc=float(place.auroc_instruct), below_null=bool(place.below_null_instruct))
