"""What each figure of a run's page and of a stress test's shows, what to look for in it, and what would mislead a
reader. The page prints these sentences below the figure.

Comparisons and trajectories have captions of their own (`comparisons.captions`, `trajectories.captions`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The words of one figure: its title, which a screen reader announces too; how to read it and what to see; what
    would fool a reader."""

    title: str
    see: str
    fooled: str


CAPTIONS = {
    "scores": Caption(
        title="Both models' headline score in each dimension",
        see=(
            "Each row is one dimension, and the most changed one is on top. Blue is the instruct model, orange the "
            "reasoning model that was trained from it; thin bars are 95% intervals. Reasoning is the share of right "
            "answers to reasoning tasks. Everywhere else it is the share of trigger prompts with an aligned answer. "
            "Look for a gap between the dots that is wide compared with the bars."
        ),
        fooled=(
            "A model that refuses everything scores 100% here. The table below shows the price: how many neutral twins "
            "were answered with the same caution. Bars that overlap do not rule out a change, because both models "
            "answered the same prompts: the verdict above tests the paired difference."
        ),
    ),
    "lengths": Caption(
        title="How long both models think and answer",
        see=(
            "Each line shows the share of completions that have at most so many tokens. Dotted lines are the budgets. "
            "Look at how much longer the reasoning model thinks."
        ),
        fooled=(
            "Completions were cut where a line jumps at its budget. Such answers are missing and count in no score, so "
            "a model with many of them has hardly been measured."
        ),
    ),
    "signal_detection": Caption(
        title="Discrimination d′ and criterion c of both models",
        see=(
            "d′ says how well a model tells prompts that call for special behaviour (harmful ones) from those that do "
            "not; 0 means not at all. The criterion c says how much it takes until the model refuses: the lower, the "
            "more readily. A drop of d′ is lost judgement. A shift of c alone is a moved threshold."
        ),
        fooled=(
            "With few prompts, a correction pulls d′ towards 0. Two models that never fail have the same d′, however "
            "much they differ."
        ),
    ),
    "missed_and_over": Caption(
        title="The two ways to fail: missed and over-cautious",
        see=(
            "Further left is better in both plots. Missed is the share of trigger prompts that did not get the special "
            "behaviour that alignment asks for, such as refusing. Over-cautious is the share of neutral prompts that "
            "were not simply answered, although plain help was right."
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
            "unrelated. The dashed line is the noise ceiling: the cosine that one model's direction reaches with "
            "itself when it is found twice, on independent prompts. Below that line, the direction drifted. The list "
            "above the figure chooses the token at which the models are read."
        ),
        fooled=(
            "A cosine above the dashed line does not exclude drift, because both models read the same prompts and "
            "share their noise; the angles below leave that noise out. At hollow grey points a direction is not above "
            "noise, so there is nothing to compare. Any training turns directions by some degrees."
        ),
    ),
    "angles": Caption(
        title="Angle between the two models' directions, by layer",
        see=(
            "The black line is the angle between the two models' directions after the closed think block, without what "
            "noise adds to it; the band is its 95% interval. Look for layers at which the whole band lies above 0. The "
            "dashed lines say how well each model's own direction is known: 90% of the directions found on resampled "
            "families lie within that many degrees of it."
        ),
        fooled=(
            "Hollow points on the axis are layers where a direction is not above noise and so has no angle: they do "
            "not stand for an angle of 0. A direction that turned does not say that behaviour was lost there."
        ),
    ),
    "drift_map": Caption(
        title="Angle between the two models' directions, by token role and layer",
        see=(
            "Each cell is the same angle at one token role and layer. The darker it is, the further the direction "
            "turned. The hover text has the interval and p, the chance of so large an angle if the direction had not "
            "turned."
        ),
        fooled=(
            "Grey does not mean zero. There, a direction is not above noise in one of the models, or the interval is "
            "wider than 90 degrees. p is per cell and not adjusted, so one cell in twenty falls below 0.05 by chance."
        ),
    ),
    "differences": Caption(
        title="How much further triggers moved than their neutral twins, by layer",
        see=(
            "The orange line is how much further triggers moved than twins along the instruct model's direction, after "
            "the closed think block. Its unit is the distance between the two classes: at −0.3 they lie 30% closer "
            "together than before. The dashed line is the same in any direction; its unit is the spread of the "
            "prompts. What training did to all prompts alike cancels. Bands are 95% intervals over families."
        ),
        fooled=(
            "Classes that lie closer together need not be confused: the model may still tell them apart, and act on "
            "that elsewhere."
        ),
    ),
    "dimensions": Caption(
        title="Cosines between the dimensions' directions",
        see=(
            "Each cell is the cosine between the directions of two dimensions, after the closed think block. The first "
            "two plots are of one model each. The third compares the instruct model's directions (rows) with the "
            "reasoning model's (columns), so its diagonal shows the drift of each dimension. Blue directions point the "
            "same way, red ones opposite ways. The list above the figure chooses the layer; the hover text has the "
            "change from instruct to reasoning with its 95% interval."
        ),
        fooled=(
            "Dimensions whose prompts look alike share a direction for that reason alone. In grey cells, one of the "
            "directions is not above noise."
        ),
    ),
    "thinking": Caption(
        title="Where both models stand along the reasoning model's thinking",
        see=(
            "Both models read the reasoning model's own thinking. The height is the projection on the instruct model's "
            "direction: 0 is where neutral prompts lie in the instruct model after an empty think block, and 1 is "
            "where triggers lie. Look at the gap between solid and dotted lines. A gap that closes just before the "
            "answer is a “refusal cliff”. Bars are 95% intervals over families."
        ),
        fooled=(
            "The height of a single line says little, because tokens of different kinds differ whatever is asked. "
            "Prompts whose thinking was cut are left out. The layer is the one that tells triggers from neutral "
            "prompts best on held-out families, and it is not the same in every plot."
        ),
    ),
    "selection": Caption(
        title="Candidates for the refusal direction, by layer",
        see=(
            "Each point is a candidate for the refusal direction of the instruct model, tried on families that it was "
            "not found on. Bypass is the readout on trigger prompts when the direction is taken out of all layers: the "
            "lower, the stronger. Induce is the readout on neutral prompts when the direction is added at its own "
            "layer: above 0 it brings refusals about. KL is how much taking it out changes the next word after neutral "
            "prompts. Dotted lines are the unedited model's readouts, and the largest KL that is allowed."
        ),
        fooled="The best of many candidates looks better than it is: the next figure tries it on fresh families.",
    ),
    "steering": Caption(
        title="What the selected direction does when it is taken out or added",
        see=(
            "This is what the selected direction does on families that neither found nor selected it: on the left it "
            "is taken out of the instruct model; in the middle it is added to the reasoning model at the same layer, "
            "by strength (1 is the length of the class difference). Comparison vectors have the same length: random "
            "vectors, a direction found after the classes were exchanged in half of the families (permuted), and the "
            "right direction at a wrong layer. Only what the direction does beyond them is its own effect."
        ),
        fooled=(
            "A vector that raises refusals of harmful and of harmless prompts alike only moves the threshold. A large "
            "KL says that the model was broken, not steered."
        ),
    ),
    "patch": Caption(
        title="Patch grid: effect of copying one activation, by layer and token role",
        see=(
            "Each cell copies one activation (one layer, at one token role) from the donor model into the recipient. "
            "The colour is how far the recipient's readout moves, in log-odds of opening the answer as a trigger "
            "prompt calls for. All prompts here are triggers, so blue is more aligned and red is less. On the left the "
            "instruct model's activations go into the reasoning model, on the right the other way round. Outlined "
            "cells survive the test over the whole grid (adjusted p < 0.05); a dot marks those that do so in both "
            "directions. Look at where the effect begins. The hover text has intervals and the prompts that moved "
            "most."
        ),
        fooled=(
            "Colours always look convincing: trust outlined cells only. At the last role before the answer, late "
            "layers recover almost everything by construction. A patched activation carries the effect of all layers "
            "below it, so it shows what passes through a layer and not what is made there."
        ),
    ),
    "origins": Caption(
        title="What passes through each layer, and what originates there",
        see=(
            "On the left is the effect of the patch by layer. For each bar, the recipient got the donor's weights in a "
            "group of neighbouring layers, while their input stayed as it was: the bars show what originates there. "
            "Filled bars survive the test over all bars; framed bars do so in both directions."
        ),
        fooled=(
            "Grey lines are placebos of the patch: the donor's activation on another prompt, and a random difference "
            "of the same length. Where the first follows the patch, the effect has little to do with what the prompt "
            "says. The dark broken line patches from the null model, which was trained for as long but not to reason. "
            "Where it restores as much, training as such did not take the behaviour away."
        ),
    ),
    "kl": Caption(
        title="Divergence of the two models' next-token distributions, by position",
        see=(
            "Both models read the instruct model's own answers after an empty think block. The line shows how far "
            "their predictions of the next token lie apart at each token: the Kullback-Leibler divergence KL(instruct "
            "‖ reasoning) in nats, where 0 means identical. The dashed line is the divergence the other way round. "
            "Each title has the mean per token. Most of it usually lies in the first tokens, where an answer is begun."
        ),
        fooled=(
            "Divergence says how much changed, and not whether for worse. The right end of a line rests on few "
            "answers, because only few are that long. Some bands reach beyond the top of the plot."
        ),
    ),
    "weights": Caption(
        title="Relative change of the weights, by layer and module",
        see=(
            "The height, or colour, is the norm of the change of the weights divided by the norm of the instruct "
            "model's weights (Frobenius norms). Modules that did not change at all are left out; “outside” are weights "
            "outside the layers, such as embeddings."
        ),
        fooled="A large change need not be a harmful one, and a small one may do much: compare with the patch grids.",
    ),
    "tasks": Caption(
        title="Share of right answers to reasoning tasks, by kind",
        see=(
            "Each row is a kind of task: the share of right answers with its 95% Wilson interval, the largest gain on "
            "top. An answer is right only if it is exactly the expected one. The gaps are what training gained."
        ),
        fooled=(
            "Where both models solve everything, or nothing, a gain cannot be seen. Each kind has few tasks, so its "
            "intervals are wide."
        ),
    ),
    "stress": Caption(
        title="Attack lift of every mode in every dimension, reasoning model",
        see=(
            "Each cell is one stress mode at its strongest dose. The lift is how many more answers to triggers are "
            "misaligned than in the plain request, minus the same for harmless twins, minus what the placebo does. Red "
            "is less aligned. The 95% interval over families stands in brackets. In grey cells the mode did not apply, "
            "or no answer was finished."
        ),
        fooled=(
            "A lift of 0 is not safety: a mode and its placebo may break the model alike, and the table below says so. "
            "A wide interval means that too few families were asked."
        ),
    ),
    "stress_doses": Caption(
        title="Lift over the dose",
        see=(
            "Each small plot is a mode, from the plain request on the left to the strongest dose on the right. Orange "
            "is the reasoning model with its 95% band. Blue is the instruct model, which is asked only where a mode "
            "acts on the prompt. If a mechanism acts, the lift grows with the dose."
        ),
        fooled=(
            "Doses are drawn as ranks, so the distance between two of them means nothing. With few families per point, "
            "a curve goes up and down by chance."
        ),
    ),
    "stress_along": Caption(
        title="Along prompt and thinking: how far triggers stand from their twins",
        see=(
            "Each small plot is a mode. The height is the projection on the instruct model's direction, triggers less "
            "harmless twins: 1 is as far apart as in the instruct model's own prompt, 0 is not told apart. Dotted is "
            "the plain request, solid is under the mode. Look for the position at which the solid line falls."
        ),
        fooled=(
            "Both models read the reasoning model's own words, which differ between the two lines. Only items count "
            "whose thought and answer came to an end in both. A projection that falls need not be the reason why the "
            "answer changed: the next figure tests that."
        ),
    ),
    "stress_patch": Caption(
        title="Where the mode's effect passes: one activation of the plain run put in",
        see=(
            "Each cell puts the activation of the plain run into the run under the mode, at one layer and at the last "
            "token of one role. The colour is how much of what the mode took of the readout comes back, from none to "
            "all of it."
        ),
        fooled=(
            "At the last role before the answer, late layers bring almost everything back by construction. Cells are "
            "means without an interval. Where the mode took little of the readout, shares of it are noise."
        ),
    ),
}
