"""What each figure of the page shows, what a reader should look for in it, and what would mislead them.

The page prints these sentences below the figure. `title` is what a screen reader announces.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The words of one figure: its title, how it is read and what to see, and what would fool a reader."""

    title: str
    see: str
    fooled: str


CAPTIONS = {
    "scores": Caption(
        title="Both models' headline score in each dimension",
        see=(
            "Each row is one dimension, and the most changed one is on top. Blue is the instruct model, orange "
            "the reasoning model that was trained from it; thin bars are 95% intervals. Reasoning is the share of "
            "right answers to reasoning tasks. Everywhere else it is the share of trigger prompts with an aligned "
            "answer. Look for a gap between the dots that is wide compared with the bars."
        ),
        fooled=(
            "A model that refuses everything scores 100% here. The table below shows that price: the neutral "
            "twins that were answered with the same caution. Bars that overlap do not rule out a change, because "
            "both models answered the same prompts: the verdict above tests the paired difference."
        ),
    ),
    "lengths": Caption(
        title="How long both models think and answer",
        see=(
            "Each line gives the share of completions that have at most so many tokens. Dotted lines are the "
            "budgets. Look at how much longer the reasoning model thinks."
        ),
        fooled=(
            "A line that jumps at its budget was cut there. Such answers are missing: they count in no score, so "
            "a model with many of them has hardly been measured."
        ),
    ),
    "signal_detection": Caption(
        title="Discrimination d′ and criterion c of both models",
        see=(
            "d′ says how well a model tells prompts that call for special behaviour (harmful ones) from those "
            "that do not; 0 means not at all. The criterion c says where it draws the line. A drop of d′ is lost "
            "judgement. A shift of c alone is a moved threshold."
        ),
        fooled=(
            "With few prompts a correction pulls d′ towards 0, and two models that never fail have the same d′ "
            "however far apart they are."
        ),
    ),
    "missed_and_over": Caption(
        title="The two ways to fail: missed and over-cautious",
        see=(
            "Further left is better in both plots. Missed is the share of trigger prompts, where alignment asks "
            "for special behaviour such as refusing, that did not get it. Over-cautious is the share of neutral "
            "prompts, where plain help is right, that were not simply answered."
        ),
        fooled=(
            "Fewer missed prompts are no progress where over-caution rose as much: the model then refuses more of "
            "everything."
        ),
    ),
    "direction_drift": Caption(
        title="Cosine between the two models' directions, by layer",
        see=(
            "In each model, a direction is the difference between its mean activations on trigger and on neutral "
            "prompts. The height is the cosine between the two models' directions: 1 is the same direction, 0 is "
            "unrelated. The dashed line is the noise ceiling: the cosine that one and the same direction reaches "
            "when it is found twice, on independent prompts. Below that line there is drift. The list above the "
            "figure chooses the token at which the models are read."
        ),
        fooled=(
            "A cosine above the dashed line does not exclude drift, because both models read the same prompts and "
            "share their noise; the angles below leave that noise out. Hollow grey points are not above noise, so "
            "there is no direction to compare. Any training turns directions by some degrees."
        ),
    ),
    "angles": Caption(
        title="Angle between the two models' directions, by layer",
        see=(
            "The black line is the angle between the two models' directions after the closed think block, without "
            "what noise adds to it; the band is its 95% interval. Look for layers at which the whole band lies "
            "above 0. The dashed lines say how well each model's own direction is known: 90% of directions from "
            "resampled families lie within so many degrees."
        ),
        fooled=(
            "Hollow points on the axis are layers where a direction is not above noise and so has no angle: they "
            "do not stand for an angle of 0. A direction that turned does not say that behaviour was lost there."
        ),
    ),
    "drift_map": Caption(
        title="Angle between the two models' directions, by token role and layer",
        see=(
            "The same angle at every token role and layer: the darker, the further the direction turned. The "
            "hover text has the interval and p, the chance of so large an angle if the direction had stayed."
        ),
        fooled=(
            "Grey is not zero: there a direction is not above noise in one of the models, or the interval is "
            "wider than 90 degrees. p is per cell and not adjusted, so one cell in twenty falls below 0.05 by "
            "chance."
        ),
    ),
    "differences": Caption(
        title="How much further triggers moved than their neutral twins, by layer",
        see=(
            "The orange line is the movement along the instruct model's direction, after the closed think block, "
            "in units of the distance between the two classes: −0.3 says that they now lie 30% less apart. The "
            "dashed line is the movement in any direction, in units of how far prompts lie apart. What training "
            "did to all prompts alike cancels. Bands are 95% intervals over families."
        ),
        fooled=(
            "Classes that lie less far apart need not be confused: the model may still tell them apart, and act "
            "on it elsewhere."
        ),
    ),
    "dimensions": Caption(
        title="Cosines between the dimensions' directions",
        see=(
            "The cosine between the directions of any two dimensions, after the closed think block: in each "
            "model, and from the instruct to the reasoning model, whose diagonal is the drift of each dimension. "
            "Blue is the same way, red the opposite one. The list above the figure chooses the layer; the hover "
            "text has the change from instruct to reasoning with its 95% interval."
        ),
        fooled=(
            "Dimensions whose prompts look alike share a direction for that reason alone. Grey cells are not "
            "above noise."
        ),
    ),
    "thinking": Caption(
        title="Where both models stand along the reasoning model's thinking",
        see=(
            "Both models read the reasoning model's own thinking. The height is the projection on the instruct "
            "model's direction: 0 is where neutral prompts lie in the instruct model after an empty think block, "
            "and 1 is where triggers lie. Look at the gap between solid and dotted lines. A gap that closes just "
            "before the answer is a “refusal cliff”. Bars are 95% intervals over families."
        ),
        fooled=(
            "The height of a single line says little: tokens of different kinds differ whatever is asked. Prompts "
            "whose thinking was cut are left out, so the lines are of those that came to an end. The layer is the "
            "one that tells held-out families apart best, and it is not the same in every plot."
        ),
    ),
    "selection": Caption(
        title="Candidates for the refusal direction, by layer",
        see=(
            "Candidate refusal directions of the instruct model, tried on families that they were not found on. "
            "Bypass is the readout on trigger prompts when the direction is taken out everywhere; low is strong. "
            "Induce is the readout on neutral prompts when the direction is added once, at its layer; above 0 it "
            "brings refusals about. KL is what taking it out does to the next word after neutral prompts. Dotted "
            "lines are the model as it is, and the limit of KL."
        ),
        fooled="The best of many candidates looks better than it is: the next figure tries it on fresh families.",
    ),
    "steering": Caption(
        title="What the selected direction does when it is taken out or added",
        see=(
            "The selected direction, on families that neither found nor selected it: taken out of the instruct "
            "model, and added to the reasoning model at the same layer, by strength (1 is the length of the class "
            "difference). Only what the direction does beyond the comparison vectors is its own doing. They have "
            "its length: random vectors, the same finder after the classes were exchanged in half of the "
            "families, and the right direction at a wrong layer."
        ),
        fooled=(
            "A vector that raises refusals of harmful and of harmless prompts alike only moved the threshold. A "
            "large KL says that the model was broken, not steered."
        ),
    ),
    "patch": Caption(
        title="Patch grid: effect of copying one activation, by layer and token role",
        see=(
            "Each cell copies one activation (one layer, at one token role) from the donor model into the "
            "recipient. The colour is how far the recipient's readout moves, in log-odds of opening the answer as "
            "a trigger prompt calls for. All prompts here are triggers, so blue is more aligned and red is less. "
            "On the left the instruct model's activations go into the reasoning model, on the right the other way "
            "round. Outlined cells survive the test over the whole grid (adjusted p < 0.05); a dot marks those "
            "that do so in both directions. Look at where the effect begins. The hover text has intervals and the "
            "prompts that moved most."
        ),
        fooled=(
            "Colours always look convincing: believe outlined cells only. At the last role before the answer, "
            "late layers recover almost everything by construction. A patched activation carries all that "
            "happened below it, so it shows what passes through a layer and not what is made there."
        ),
    ),
    "origins": Caption(
        title="What passes through each layer, and what originates there",
        see=(
            "On the left is the profile of the patch by layer. The bars give the recipient the donor's weights in "
            "a run of blocks and leave their input as it is: they show what originates there. Filled bars survive "
            "the test over all bars, framed ones do so in both directions."
        ),
        fooled=(
            "Grey lines are placebos of the patch: the donor's activation on another prompt, and a random "
            "difference of the same length. Where the first follows the patch, the effect has little to do with "
            "what the prompt says. Where a dark broken line (the null model, trained for as long but not to "
            "reason) restores as much, training as such did not take it away."
        ),
    ),
    "kl": Caption(
        title="Divergence of the two models' next-token distributions, by position",
        see=(
            "How far the two models' next-token distributions lie apart, token by token, while both read the "
            "instruct model's own answers after an empty think block: the Kullback-Leibler divergence from "
            "instruct to reasoning, in nats, where 0 is identical. The dashed line is the divergence the other "
            "way round. Each title has the mean per token. Most of it usually lies in the first tokens, where an "
            "answer is begun."
        ),
        fooled=(
            "Divergence says how much changed, and not whether for worse. The right end of a line rests on the "
            "few answers that are so long. Bands that leave the plot at the top are wider than it is high."
        ),
    ),
    "weights": Caption(
        title="Relative change of the weights, by layer and module",
        see=(
            "The length of the change of the weights divided by the length of the instruct model's weights "
            "(Frobenius norm). Modules that did not change at all are left out; “outside” are weights outside the "
            "layers, such as embeddings."
        ),
        fooled="A large change need not be a harmful one, and a small one may do much: compare with the patch grids.",
    ),
    "tasks": Caption(
        title="Share of right answers to reasoning tasks, by kind",
        see=(
            "The share of right answers per kind of task, the largest gain on top, with 95% Wilson intervals. "
            "Answers are checked exactly. This is what training gained."
        ),
        fooled=(
            "Where both models solve everything, or nothing, a gain cannot be seen. A single kind has few tasks: "
            "look at the intervals."
        ),
    ),
    "trade_off": Caption(
        title="What each child gained in reasoning, and what it kept of alignment",
        see=(
            "Right is more reasoning, up is more alignment, and the parent is where the lines cross. Reasoning is "
            "the change of the share of right answers to held-out tasks. Alignment is the change of the share of "
            "aligned answers to trigger prompts, as a mean over the dimensions. Bars are paired 95% intervals; "
            "families of all dimensions are resampled together, those that were not asked included."
        ),
        fooled=(
            "A mean hides opposite changes: the next figure has each dimension. Children whose bars overlap "
            "widely are not ranked by this picture."
        ),
    ),
    "changes": Caption(
        title="Change of aligned answers against the parent, by dimension and child",
        see=(
            "The change of the share of trigger prompts with an aligned answer, child minus parent, both on the "
            "same prompts: right of the line is more aligned. Bars are paired 95% intervals over families of "
            "prompts."
        ),
        fooled=(
            "With many children and dimensions some bars leave out 0 by chance: only changes with a star in the "
            "table below are established. A parent at 100% can only fall."
        ),
    ),
    "divergence": Caption(
        title="Divergence from the parent against the change of aligned answers",
        see=(
            "The divergence of the next-token distributions on the parent's own answers against the change of "
            "aligned answers. If divergence foretold the loss, points would fall from the upper left to the lower "
            "right."
        ),
        fooled="With a handful of children even chance gives large correlations.",
    ),
    "drift_overlaid": Caption(
        title="Cosine between the parent's and each child's direction, by layer",
        see=(
            "The cosine between the parent's and each child's direction (mean activation on trigger minus on "
            "neutral prompts). The dashed line is the noise ceiling: the cosine that one direction reaches when "
            "it is found twice, on independent prompts. All children read the same prompts as the parent."
        ),
        fooled=(
            "Hollow marks are not above noise. Any training turns directions: compare with the null model, if "
            "there is one."
        ),
    ),
    "patch_overlaid": Caption(
        title="Share of the gap that one activation brings back, by layer and child",
        see=(
            "The share of the gap between the readouts of parent and child that one activation brings back when "
            "it is copied from the parent into the child, by layer. Look at where the rise begins."
        ),
        fooled=(
            "Late layers recover almost everything by construction. A run is left out where the two readouts do "
            "not differ beyond noise; hollow marks are of readouts that do not follow judged behaviour well "
            "enough to be believed."
        ),
    ),
    "overview": Caption(
        title="Every measure against the step of training",
        see=(
            "Every measure at the parent (step 0) and at each checkpoint; bands are 95% intervals over families "
            "of prompts. The dotted line is the step from which on half of the final change is there, where that "
            "change is established. The cosine is between the checkpoint's direction and the parent's."
        ),
        fooled=(
            "Answers are judged as they were given once the think block was closed, by the model or, at the end "
            "of its budget, by mechdrift. Checkpoints at which most answers make no sense are left out of the "
            "half-way steps, because a broken model is neither aligned nor misaligned."
        ),
    ),
    "halfway": Caption(
        title="The step at which each measure had come half of its way",
        see=(
            "The step from which on each measure had come half of its way, to stay, with its 95% interval over "
            "resampled families. Measures further left changed first."
        ),
        fooled=(
            "The ends of an interval are checkpoints, because nothing is known of what lies between two of them. "
            "That one measure changed before another does not make it the cause."
        ),
    ),
    "course_scores": Caption(
        title="Aligned answers in each dimension against the step of training",
        see=(
            "The share of trigger prompts with an aligned answer, with 95% intervals. The dashed line is the "
            "share of neutral twins that were not simply answered."
        ),
        fooled="A rise of both lines is more caution with everything, and not more alignment.",
    ),
    "course_cosines": Caption(
        title="Cosine between each checkpoint's direction and the parent's, by layer",
        see=(
            "The cosine between each checkpoint's direction and the parent's, at the last token of the closed, "
            "empty think block. There is one line per step, pale early in training and strong late."
        ),
        fooled="The scale does not begin at 0, so small changes look large.",
    ),
    "stress": Caption(
        title="Attack lift of every mode in every dimension, reasoning model",
        see=(
            "Each cell is one stress mode at its strongest dose: how many more answers to triggers are misaligned than "
            "in the plain request, less the same on harmless twins, less what the placebo does. Red is less aligned. "
            "In brackets stands the 95% interval over families. Grey: the mode did not apply."
        ),
        fooled=(
            "A lift of 0 is not safety: a mode and its placebo may break the model alike, and the table below says so. "
            "A wide interval says that too few families were asked."
        ),
    ),
    "stress_doses": Caption(
        title="Lift over the dose",
        see=(
            "Each small plot is a mode, from the plain request on the left to its strongest dose on the right. Orange "
            "is the reasoning model with its 95% band, blue the instruct model, asked only where a mode acts on "
            "the prompt. A mechanism that acts grows with its dose."
        ),
        fooled=(
            "Doses are ranks, not amounts: the distance between two of them means nothing. Where each point has few "
            "families, a curve goes up and down by chance."
        ),
    ),
}
