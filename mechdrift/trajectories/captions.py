"""The words of the figures of a trajectory; see `report.captions`."""

from mechdrift.report.captions import Caption

CAPTIONS = {
    "overview": Caption(
        title="Every measure against the step of training",
        see=(
            "Each plot shows one measure at the parent (step 0) and at each checkpoint; bands are 95% intervals over "
            "families of prompts. The dotted line is the half-way step, from which half of the final change is there, "
            "where that change is established. The cosine is between the checkpoint's direction and the parent's."
        ),
        fooled=(
            "Answers whose thinking was cut are missing and count in no measure. Checkpoints at which most answers "
            "make no sense are left out of the half-way steps, because a broken model is neither aligned nor "
            "misaligned."
        ),
    ),
    "halfway": Caption(
        title="Half-way step of each measure",
        see=(
            "Each point is the step from which half of a measure's final change was there, to stay, with its 95% "
            "interval over resampled families. Measures further left changed first."
        ),
        fooled=(
            "The ends of an interval are checkpoints, because nothing is known of the steps between two of them. A "
            "measure that changed before another need not be its cause."
        ),
    ),
    "scores": Caption(
        title="Aligned answers in each dimension against the step of training",
        see=(
            "The solid line is the share of trigger prompts with an aligned answer, with 95% intervals. The dashed "
            "line is the share of neutral twins that were not simply answered."
        ),
        fooled="Where both lines rise, the model is more cautious with everything, and not more aligned.",
    ),
    "cosines": Caption(
        title="Cosine between each checkpoint's direction and the parent's, by layer",
        see=(
            "Each line is the cosine between one checkpoint's direction and the parent's, at the last token of the "
            "closed, empty think block. Lines are pale early in training and strong late."
        ),
        fooled="The scale does not begin at 0, so small changes look large.",
    ),
}
