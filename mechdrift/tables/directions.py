"""The tables of what differs inside the models, and of what a direction does.

The formulas stand where they are computed: `directions.drift`, `directions.thinking`, `directions.dimensions`,
`steering.selection` and `steering.curves`. u is the instruct model's unit direction, r its class difference.
"""

from mechdrift.tables.behaviour import DIMENSION, FAMILIES, LAYER, ROLE, SIDE, N, interval
from mechdrift.tables.schema import Column, Table


def _auroc(name: str, meaning: str, since: int = 1) -> Column:
    return Column(name=name, kind="number", unit="AUROC", meaning=meaning, since=since)


def _since(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The same as columns that schema 1 did not have from its beginning."""
    from dataclasses import replace

    return tuple(replace(column, since=2) for column in columns)


DIFFERENCE = "instruct class difference |r|"
COSINES = (
    Column(
        name="cosine",
        kind="number",
        unit="cosine",
        meaning="between the two models' directions; missing where one has none",
    ),
    *interval("cosine", "cosine", "cosine_"),
    Column(name="angle_degrees", kind="number", unit="degrees", meaning="the same as an angle, exact for tiny ones"),
    Column(
        name="norm_ratio",
        kind="number",
        unit="ratio",
        meaning="length of the class difference, reasoning over instruct: above 1 it grew",
    ),
    *(
        Column(
            name=f"split_half_{side}",
            kind="number",
            unit="cosine",
            meaning=f"between directions of two halves of the families, {side} model: how well half of them find it",
        )
        for side in ("instruct", "reasoning")
    ),
    Column(
        name="ceiling",
        kind="number",
        unit="cosine",
        meaning="to expect of one and the same direction found twice in data of full size (Spearman-Brown)",
    ),
    Column(
        name="cosine_over_ceiling",
        kind="number",
        unit="ratio",
        meaning="the cosine corrected for noise (attenuation, over opposite halves); missing below the null",
    ),
)
TRANSFER = (
    _auroc("auroc_instruct", "instruct direction on the instruct model's held-out families"),
    _auroc("auroc_transfer_to_reasoning", "instruct direction on the reasoning model's held-out families"),
    _auroc("auroc_reasoning", "reasoning direction on the reasoning model's held-out families"),
    _auroc("auroc_transfer_to_instruct", "reasoning direction on the instruct model's held-out families"),
    _auroc(
        "auroc_aligned_to_reasoning",
        "auroc_transfer_to_reasoning after the spaces were turned onto each other (Procrustes, on neutral items)",
        since=2,
    ),
    _auroc(
        "auroc_aligned_to_instruct",
        "auroc_transfer_to_instruct after the spaces were turned onto each other (Procrustes, on neutral items)",
        since=2,
    ),
)
MOVES = _since(
    (
        *(
            Column(
                name=f"shift_{way}_{contrast}",
                kind="number",
                unit=DIFFERENCE,
                meaning=f"how far the mean of {contrast} items moved {where} the instruct direction",
            )
            for contrast in ("trigger", "neutral")
            for way, where in (("along", "along"), ("across", "at right angles to"))
        ),
        *(
            Column(
                name=f"moved_{contrast}",
                kind="number",
                unit="spread of instruct items",
                meaning=f"mean length of the moves of {contrast} items from the instruct to the reasoning model",
            )
            for contrast in ("trigger", "neutral")
        ),
        Column(
            name="did_along",
            kind="number",
            unit=DIFFERENCE,
            meaning="how much further triggers moved along it than their neutral twins: -0.3 is 30 % less apart",
        ),
        *interval("did_along", DIFFERENCE, "did_along_"),
        Column(
            name="did_moved",
            kind="number",
            unit="spread of instruct items",
            meaning="moved_trigger less moved_neutral: above 0, triggers changed more, in whatever direction",
        ),
        *interval("did_moved", "spread of instruct items", "did_moved_"),
    )
)
GEOMETRY = _since(
    (
        Column(name="cka", kind="number", unit="0 to 1", meaning="linear CKA of both models' activations of all items"),
        Column(name="cka_unbiased", kind="number", unit="0 to 1", meaning="its unbiased form, which may be below 0"),
        *(
            Column(
                name=f"principal_angle_{which}",
                kind="number",
                unit="degrees",
                meaning=f"{which} angle between the spans of the first 4 principal components of twin differences",
            )
            for which in ("smallest", "largest")
        ),
        Column(
            name="noiseless_cosine",
            kind="number",
            unit="cosine",
            meaning="of angle: between the true mean differences, also above 1; missing below the null",
        ),
        *interval("noiseless_cosine", "cosine", "noiseless_"),
        Column(
            name="angle",
            kind="number",
            unit="degrees",
            meaning="between the two true mean differences, free of noise: how far the direction turned",
        ),
        *interval("angle", "degrees", "angle_"),
        Column(
            name="p_no_drift",
            kind="number",
            unit="probability",
            meaning="of so large a difference if both had one direction but for its length (sign flips of families)",
        ),
    )
)
NULLS = (
    *(
        Column(
            name=f"below_null_{side}",
            kind="truth",
            meaning=f"in the {side} model noise would look the same: no direction is shown",
            since=2,
            earlier=False,
        )
        for side in ("instruct", "reasoning")
    ),
    Column(name="below_null", kind="truth", meaning="below_null in either model"),
)
DRIFT = Table(
    name="drift",
    row="dimension, layer and role",
    meaning="Did the direction move? One dimension's directions in both models; AUROC is on held-out families.",
    columns=(DIMENSION, LAYER, ROLE, *COSINES, *TRANSFER, *MOVES, *GEOMETRY, *NULLS),
)
CONES = Table(
    name="cones",
    row="dimension, model, layer and role",
    meaning="How sharply a direction is known: directions of resampled families around that of all.",
    columns=(
        DIMENSION,
        Column(name="method", kind="text", meaning="how directions are found, such as mean_difference"),
        SIDE,
        LAYER,
        ROLE,
        Column(
            name="cone_median",
            kind="number",
            unit="degrees",
            meaning="median angle of resampled directions to the whole's",
        ),
        Column(name="cone_90", kind="number", unit="degrees", meaning="angle that holds 90 % of them"),
        Column(name="stability", kind="number", unit="cosine", meaning="mean over pairs of resampled directions"),
        Column(name="draws", kind="integer", meaning="resamplings"),
    ),
)
THINKING = Table(
    name="thinking",
    row="dimension, layer, model, contrast and position",
    meaning="Projection on the instruct direction along the reasoning model's thinking: 0 is where neutral prompts "
    "lie, 1 where triggers lie.",
    columns=(
        DIMENSION,
        LAYER,
        ROLE,
        Column(
            name="side",
            kind="text",
            meaning="instruct, reasoning, or change (reasoning less instruct)",
        ),
        Column(name="contrast", kind="text", meaning="trigger, neutral, or difference (trigger less neutral)"),
        Column(
            name="position",
            kind="text",
            meaning="quarter of the thinking (think[q1] …), its end, after the closed block, first answer token, "
            "whole answer; or fall and cliff",
        ),
        Column(name="projection", kind="number", unit=DIFFERENCE, meaning="mean projection"),
        *interval("the projection", DIFFERENCE),
        N,
        FAMILIES,
        Column(
            name="left_out",
            kind="integer",
            unit="items",
            meaning="items without a closed thought or an answer, and their twins",
        ),
        _auroc("auroc", "of the instruct direction at this layer and role, held out"),
        Column(name="below_null", kind="truth", meaning="noise would look the same there"),
    ),
)
DIMENSIONS = Table(
    name="dimensions",
    row="two dimensions, layer and role",
    meaning="Are the dimensions' directions entangled? Two dimensions' directions within each model and across.",
    columns=(
        Column(name="first", kind="text", meaning="one dimension"),
        Column(name="second", kind="text", meaning="another dimension"),
        LAYER,
        ROLE,
        Column(name="instruct", kind="number", unit="cosine", meaning="between both directions in the instruct model"),
        Column(
            name="reasoning", kind="number", unit="cosine", meaning="between both directions in the reasoning model"
        ),
        Column(
            name="instruct_to_reasoning",
            kind="number",
            unit="cosine",
            meaning="first dimension's direction in the instruct model, second's in the reasoning model",
        ),
        Column(
            name="reasoning_to_instruct",
            kind="number",
            unit="cosine",
            meaning="first dimension's direction in the reasoning model, second's in the instruct model",
        ),
        Column(
            name="change", kind="number", unit="cosine", meaning="reasoning less instruct: above 0 they came nearer"
        ),
        *interval("the change", "cosine", "change_"),
    ),
)
READOUT = "log-odds, nats"
SELECTION = Table(
    name="selection",
    row="candidate: layer and role",
    meaning="Which of the instruct model's directions does something (after Arditi et al., arXiv 2406.11717)?",
    columns=(
        LAYER,
        ROLE,
        Column(name="norm", kind="number", unit="activation", meaning="length of the candidate's raw vector"),
        _auroc("separation", "of the validation items' projections on the candidate"),
        Column(name="bypass_estimate", kind="number", unit=READOUT, meaning="bypass by a first-order estimate"),
        Column(name="induce_estimate", kind="number", unit=READOUT, meaning="induce by a first-order estimate"),
        Column(
            name="bypass", kind="number", unit=READOUT, meaning="mean readout on triggers with the candidate taken out"
        ),
        Column(
            name="induce", kind="number", unit=READOUT, meaning="mean readout on neutral items with the candidate added"
        ),
        Column(
            name="kl", kind="number", unit="nats", meaning="mean KL(unedited ‖ candidate taken out) on harmless items"
        ),
        Column(
            name="eligible", kind="truth", meaning="it may be chosen: depth, induce, kl and finite numbers are in order"
        ),
        Column(name="chosen", kind="truth", meaning="the eligible one with the least bypass"),
        Column(name="rank", kind="number", unit="place", meaning="place among the eligible by bypass, from 1"),
        Column(name="why", kind="text", meaning="why it is not eligible; empty where it is"),
        DIMENSION,
        Column(name="reason", kind="text", meaning="why none was chosen; empty where one was"),
        Column(name="used", kind="truth", meaning="the one that was steered with"),
        Column(name="baseline_trigger", kind="number", unit=READOUT, meaning="mean readout on triggers, unedited"),
        Column(name="baseline_neutral", kind="number", unit=READOUT, meaning="mean readout on neutral items, unedited"),
        Column(name="kl_at_most", kind="number", unit="nats", meaning="largest kl of an eligible candidate"),
        Column(name="n_trigger", kind="integer", unit="items", meaning="triggers that candidates were tried on"),
        Column(name="n_neutral", kind="integer", unit="items", meaning="neutral items that candidates were tried on"),
    ),
)
STEERING = Table(
    name="steering",
    row="arm, vector, strength and measure",
    meaning="Does the instruct model's direction bring the behaviour back in the reasoning model, and at what price?",
    columns=(
        Column(name="arm", kind="text", meaning="ablate (taken out of the selected model) or add (to the other)"),
        SIDE,
        Column(
            name="vector",
            kind="text",
            meaning="direction; a control (random, permuted, wrong layer); none; or other model, as it is",
        ),
        Column(
            name="draw",
            kind="number",
            unit="index",
            meaning="which of a control's draws, from 0; missing where there is one",
        ),
        Column(name="layer", kind="number", unit="block", meaning="layer of the direction whose curve this is"),
        Column(name="place", kind="number", unit="block", meaning="layer to whose input the vector was added"),
        Column(name="strength", kind="number", unit="lengths of the raw vector", meaning="how much of it was added"),
        Column(name="cosine", kind="number", unit="cosine", meaning="of the vector with the direction"),
        Column(
            name="measure",
            kind="text",
            meaning="trigger, neutral (readouts), their changes, differences over controls, kl, task, task_change",
        ),
        Column(
            name="estimate",
            kind="number",
            unit="nats",
            meaning="log-odds of the readout, KL, or log-probability per token",
        ),
        *interval("the estimate", "nats"),
        N,
        FAMILIES,
        DIMENSION,
        Column(name="eligible", kind="truth", meaning="the direction was eligible, not only the closest to it"),
    ),
)
DIRECTIONS = (DRIFT, CONES, THINKING, DIMENSIONS, SELECTION, STEERING)
