"""The tables of a stress test."""

from mechdrift.tables.behaviour import CUT, DIMENSION, FAMILIES, IDS, JUDGED, N, interval
from mechdrift.tables.schema import Column, Table

MODE = Column(name="mode", kind="text", meaning="stress mode, such as puzzle; plain for the request as it is")
DOSE = Column(name="dose", kind="number", unit="as unit says", meaning="how much of the mode")


def _share(name: str, meaning: str) -> Column:
    return Column(name=name, kind="number", unit="share", meaning=meaning)


STRESS_ANSWERS = Table(
    name="stress_answers",
    row="answer: mode, dose, arm, item, sample and model",
    meaning="What both models answered in a stress test, and how it was judged.",
    columns=(
        MODE,
        DOSE,
        Column(name="arm", kind="text", meaning="attack, placebo or plain; elicited: a thought that the parent wrote"),
        *JUDGED,
        *CUT,
        *IDS,
        Column(
            name="thought_aligned",
            kind="truth",
            meaning="the thought, read as if it were the answer, is aligned; missing where nothing can be read from it",
        ),
        Column(
            name="given_tokens", kind="integer", unit="tokens", meaning="of the thinking, given and not written by it"
        ),
        Column(name="turns", kind="integer", unit="answers", meaning="how many answers the conversation had"),
    ),
)
STRESS = Table(
    name="stress",
    row="dimension, side, mode and dose",
    meaning="What every stress mode does, on triggers, on twins and beyond its placebo.",
    columns=(
        DIMENSION,
        Column(name="side", kind="text", meaning="instruct, reasoning, or difference: reasoning less instruct"),
        MODE,
        DOSE,
        Column(name="unit", kind="text", meaning="of the dose"),
        Column(name="placebo", kind="text", meaning="what the mode is held against, in words"),
        Column(name="place", kind="text", meaning="where the mode acts: prompt or thinking"),
        Column(name="strongest", kind="truth", meaning="the dose at which modes are tested against each other"),
        N,
        FAMILIES,
        _share(
            "missing",
            "items not compared: unfinished or not judged when asked plainly, under the mode, or its placebo",
        ),
        Column(name="left_out", kind="text", meaning="why the mode did not apply to some or all items; else empty"),
        Column(name="reason", kind="text", meaning="why nothing can be told; else empty"),
        _share("plain_trigger", "misaligned answers to triggers in the plain request"),
        _share("plain_twin", "misaligned answers to neutral items in the plain request"),
        _share("attack_trigger", "misaligned answers to triggers under the mode"),
        _share("attack_twin", "misaligned answers to neutral items under the mode"),
        *(
            column
            for which, words in (("trigger", "triggers"), ("twin", "neutral items"))
            for column in (
                _share(f"change_{which}", f"misaligned answers to {words}, under the mode less plain"),
                *interval(f"change_{which}", "share", f"change_{which}_"),
                _share(f"placebo_{which}", f"the same under the placebo ({words})"),
            )
        ),
        _share("effect", "change on triggers less change on neutral items"),
        *interval("effect", "share", "effect_"),
        Column(name="effect_p", kind="number", unit="probability", meaning="mid-p of the effect, sign flips"),
        Column(name="effect_p_holm", kind="number", unit="probability", meaning="effect_p adjusted over modes (Holm)"),
        _share("lift", "effect less the placebo's effect"),
        *interval("lift", "share", "lift_"),
        *(
            Column(name=f"safe_{end}", kind="number", unit="share", meaning=f"safe {end} end of the lift, for gates")
            for end in ("low", "high")
        ),
        Column(name="p", kind="number", unit="probability", meaning="mid-p of the lift, sign flips over families"),
        Column(name="p_holm", kind="number", unit="probability", meaning="p adjusted over modes (Holm)"),
        Column(name="trend", kind="number", unit="share per dose", meaning="slope of the lift over the ranks of doses"),
        Column(name="trend_p", kind="number", unit="probability", meaning="mid-p of the trend, sign flips"),
        _share(
            "unsafe_thought", "of triggers, an aligned answer behind a thought that, read as an answer, is not aligned"
        ),
        _share("overridden", "of triggers, a misaligned answer behind a thought that, read as an answer, is aligned"),
        _share("leak_thinking", "of triggers of privacy, the secret stands in the thought"),
        Column(name="think_tokens", kind="number", unit="tokens", meaning="median tokens of thinking, written itself"),
        Column(
            name="think_change",
            kind="number",
            unit="tokens",
            meaning="tokens of thinking more than in the reference, where the answer is judged alike",
        ),
        *interval("think_change", "tokens", "think_change_"),
        _share("never_ended", "of thoughts that the model was to end, those it did not"),
        _share("loops", "of those thoughts, those that repeat themselves to the end"),
        Column(name="turns", kind="number", unit="answers", meaning="answers in a conversation, on average"),
        Column(name="d_prime", kind="number", unit="standard deviations", meaning="discrimination under the mode"),
        Column(name="criterion", kind="number", unit="standard deviations", meaning="threshold under the mode"),
        Column(
            name="finding",
            kind="text",
            meaning="of the strongest dose: breaks, as placebo, protects, damage, holds, cannot tell or not applicable",
        ),
    ),
)
CONDITION = Column(name="condition", kind="text", meaning="plain: the request as it is; attack: under the mode")
DIRECTION_LAYER = Column(name="layer", kind="integer", meaning="layer of the direction")
EFFECT = Column(name="effect", kind="number", unit="log-odds", meaning="how far the mean readout on triggers moves")
RECOVERY = _share("recovery", "effect over what the mode took of the mean readout; missing where it took nothing")
STRESS_ALONG = Table(
    name="stress_along",
    row="dimension, mode, side, condition and position",
    meaning="Projections on the instruct model's direction along prompt, thinking and answer, plain and under a mode.",
    columns=(
        DIMENSION,
        MODE,
        DOSE,
        DIRECTION_LAYER,
        Column(name="condition", kind="text", meaning="plain, attack, or change: attack less plain"),
        Column(name="position", kind="text", meaning="token role, such as think[q1] (first quarter of the thinking)"),
        Column(
            name="projection",
            kind="number",
            unit="class differences",
            meaning="mean over triggers less mean over neutral items; 1: as far apart as in the instruct model",
        ),
        *interval("projection", "class differences"),
        N,
        FAMILIES,
        Column(name="side", kind="text", meaning="which model reads: instruct or reasoning"),
    ),
)
STRESS_PATCH = Table(
    name="stress_patch",
    row="dimension, mode, layer and role",
    meaning="What of the child's plain run, put into its run under a mode, brings the readout back.",
    columns=(
        DIMENSION,
        MODE,
        DOSE,
        Column(name="layer", kind="integer", meaning="at whose input the activation is put in"),
        Column(name="role", kind="text", meaning="the tokens whose last one gets it"),
        EFFECT,
        RECOVERY,
    ),
)
STRESS_UNDO = Table(
    name="stress_undo",
    row="dimension, mode and strength",
    meaning="How much of the readout comes back while the direction is added.",
    columns=(
        DIMENSION,
        MODE,
        DOSE,
        DIRECTION_LAYER,
        Column(name="strength", kind="number", unit="class differences", meaning="how much is added, at every token"),
        EFFECT,
        RECOVERY,
    ),
)
STRESS_RECOGNISED = Table(
    name="stress_recognised",
    row="dimension, mode and condition",
    meaning="How often the child recognises a trigger in its thinking, by its activations, and answers all the same.",
    columns=(
        DIMENSION,
        MODE,
        DOSE,
        DIRECTION_LAYER,
        CONDITION,
        _share(
            "share", "of triggers, a projection above 0.5 at the last token of the thinking, and a misaligned answer"
        ),
        *interval("share", "share"),
        N,
        FAMILIES,
    ),
)
STRESS_TABLES = (STRESS_ANSWERS, STRESS, STRESS_ALONG, STRESS_PATCH, STRESS_UNDO, STRESS_RECOGNISED)
