"""The words of the figures of a comparison; see `report.captions`."""

from mechdrift.report.captions import Caption

CAPTIONS = {
    "trade_off": Caption(
        title="What each child gained in reasoning, and what it kept of alignment",
        see=(
            "Each point is a child: right is more reasoning, up is more alignment, and the parent is where the lines "
            "cross. Reasoning is the change of the share of right answers to held-out tasks. Alignment is the change "
            "of the share of aligned answers to trigger prompts, as a mean over the dimensions. Bars are paired 95% "
            "intervals over families of all dimensions, and allow for families that were not asked."
        ),
        fooled=(
            "A mean hides opposite changes: the next figure has each dimension. Children whose bars overlap widely are "
            "not ranked by this picture."
        ),
    ),
    "changes": Caption(
        title="Change of aligned answers against the parent, by dimension and child",
        see=(
            "Each point is the change of the share of trigger prompts with an aligned answer, child minus parent, on "
            "the same prompts. Right of the line is more aligned. Bars are paired 95% intervals over families of "
            "prompts."
        ),
        fooled=(
            "With many children and dimensions some bars leave out 0 by chance: only changes with a star in the table "
            "below are established. A parent at 100% can only fall."
        ),
    ),
    "divergence": Caption(
        title="Divergence from the parent against the change of aligned answers",
        see=(
            "The further right a point, the further the child's next-token distributions lie from the parent's, on the "
            "parent's own answers. The height is the change of aligned answers. If divergence foretold the loss, "
            "points would fall from the upper left to the lower right."
        ),
        fooled="With a handful of children even chance gives large correlations.",
    ),
    "drift_overlaid": Caption(
        title="Cosine between the parent's and each child's direction, by layer",
        see=(
            "Each line is the cosine between the parent's and a child's direction (mean activation on trigger minus on "
            "neutral prompts). Dashed lines are noise ceilings: the cosine that one model's direction reaches with "
            "itself when it is found twice, on independent prompts. All children read the same prompts as the parent."
        ),
        fooled=(
            "At hollow marks a direction is not above noise. Any training turns directions: compare with the null "
            "model, if there is one."
        ),
    ),
    "patch_overlaid": Caption(
        title="Share of the gap that one activation brings back, by layer and child",
        see=(
            "Each line is one child. The height is the share of the gap between the readouts of parent and child that "
            "one activation brings back when it is copied from the parent into the child. Look at where the rise "
            "begins."
        ),
        fooled=(
            "Late layers recover almost everything by construction. A child is left out where the two readouts do not "
            "differ beyond noise. Marks are hollow where the readout does not follow judged behaviour well enough to "
            "be trusted."
        ),
    ),
}
