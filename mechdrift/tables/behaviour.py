"""The tables of what the models answered, how it was judged and scored, and how far their distributions lie apart."""

from mechdrift.tables.schema import Column, Table

SIDE = Column(name="side", kind="text", meaning="which model of the pair: instruct or reasoning")
DIMENSION = Column(
    name="dimension", kind="text", meaning="safety, toxicity, bias, ethics, privacy, robustness, or reasoning"
)
ITEM = Column(name="item", kind="text", meaning="id of the probe item")
FAMILY = Column(name="family", kind="text", meaning="items that share a template or topic; the unit of resampling")
CONTRAST = Column(name="contrast", kind="text", meaning="trigger (it asks for what the dimension is about) or neutral")
THINK = Column(
    name="think",
    kind="text",
    meaning="think mode: none (not asked to think), off (an empty think block), own, or donor (the other model's)",
)
LAYER = Column(name="layer", kind="integer", unit="block", meaning="decoder block, counted from 0")
ROLE = Column(name="role", kind="text", meaning="named token position, such as template_tail[-1] or think_close[-1]")
N = Column(name="n", kind="integer", unit="items", meaning="items that the row rests on")
FAMILIES = Column(name="families", kind="integer", unit="families", meaning="families that the row rests on")


def interval(of: str, unit: str, prefix: str = "", kind_of: str = "95 % interval over families") -> tuple[Column, ...]:
    """The two ends of an interval."""
    return tuple(
        Column(name=f"{prefix}{end}", kind="number", unit=unit, meaning=f"{which} end of the {kind_of} of {of}")
        for end, which in (("low", "lower"), ("high", "upper"))
    )


JUDGED = (
    ITEM,
    Column(name="sample", kind="integer", meaning="which answer to the item, counted from 0", since=2, earlier=0),
    DIMENSION,
    FAMILY,
    CONTRAST,
    Column(name="prompt", kind="text", meaning="what the user says, before the chat template"),
    SIDE,
    THINK,
    Column(name="thinking", kind="text", meaning="text of the think block; empty where there is none"),
    Column(name="answer", kind="text", meaning="text after the think block"),
    Column(name="closed", kind="truth", meaning="the model ended its think block itself; always true without thinking"),
    Column(name="finished", kind="truth", meaning="the answer ended with the end-of-turn token, not by the budget"),
    Column(
        name="label",
        kind="text",
        meaning="compliance, partial, refusal, incoherent or incomplete; empty where the judge failed",
    ),
    Column(
        name="aligned",
        kind="truth",
        meaning="the answer is what an aligned model gives to this item; missing where thinking or answer was cut off",
    ),
    Column(name="why", kind="text", meaning="why the label, in a few words; where the judge failed, how"),
    Column(
        name="says",
        kind="text",
        meaning="what was read from the answer: a refusal, a verdict, a named option",
        since=2,
        earlier="",
    ),
    Column(name="failed", kind="truth", meaning="the outside judge gave no label", since=2, earlier=False),
    Column(name="judge", kind="text", meaning="the judge and its setting", since=2, earlier="rules"),
    *(
        Column(
            name=f"{kind}_{part}",
            kind="truth",
            meaning=f"the secret stands in the {part}, {how}",
            since=2,
            earlier=False,
        )
        for kind, how in (("leak", "however spelt"), ("exact", "as written"))
        for part in ("answer", "thinking")
    ),
    Column(
        name="stereotype",
        kind="number",
        unit="-1, 0 or 1",
        meaning="1: names the person whom the stereotype names, -1: the other one, 0: unknown; missing: neither",
        since=2,
    ),
    Column(
        name="fault", kind="text", meaning="why the answer makes no sense; empty where it does", since=2, earlier=""
    ),
    Column(
        name="toxicity",
        kind="number",
        unit="probability",
        meaning="that the answer is toxic, by the built-in classifier; missing outside that dimension",
        since=2,
    ),
    Column(
        name="harm",
        kind="number",
        unit="0 to 1",
        meaning="StrongREJECT's score by the outside judge; missing unless that judge scores harm",
        since=3,
    ),
)
TOKENS = tuple(
    Column(
        name=f"{part}_tokens", kind="integer", unit="tokens", meaning=f"length of the {what}", since=2, required=False
    )
    for part, what in (("think", "thinking"), ("answer", "answer"))
)
MISSING = Column(
    name="missing",
    kind="text",
    meaning="why nothing can be judged: cut or loop (the budget ended the thinking), stopped (the model ended its turn "
    "in the think block), answer (the budget ended the answer); empty where it can",
    since=2,
    required=False,
)
STOPPED = Column(
    name="stopped", kind="truth", meaning="the model ended its turn in its think block", since=2, required=False
)
CUT = (
    STOPPED,
    MISSING,
    Column(
        name="forced_label",
        kind="text",
        meaning="label of the answer behind a think block that was closed for the model; empty elsewhere",
        since=2,
        required=False,
    ),
    Column(name="forced_aligned", kind="truth", meaning="whether that answer is aligned", since=2, required=False),
    *TOKENS,
)
IDS = tuple(
    Column(name=f"{part}_ids", kind="token ids", meaning=f"token ids of the {part}", since=2)
    for part in ("thinking", "answer")
)
SCORE_COUNTS = tuple(
    Column(
        name=f"{count}_{side}", kind="integer", unit="answers", meaning=f"{meaning} ({side} model)", since=2, earlier=0
    )
    for count, meaning in (
        ("incomplete", "answers that are missing, because thinking or answer was cut off"),
        ("unanswered", "answers from which nothing can be read"),
        ("failed", "answers that the outside judge gave no label"),
    )
    for side in ("instruct", "reasoning")
)
ESTIMATES = (
    *(
        column
        for side in ("instruct", "reasoning")
        for column in (
            Column(name=side, kind="number", unit="as convention says", meaning=f"the metric in the {side} model"),
            *interval(f"the {side} model's", "as convention says", f"{side}_"),
        )
    ),
    Column(
        name="difference", kind="number", unit="as convention says", meaning="reasoning less instruct, item by item"
    ),
    *interval("the difference", "as convention says"),
)
BOUNDS = tuple(
    Column(
        name=f"{value}_{end}",
        kind="number",
        unit="as convention says",
        meaning=f"{value} at the {end}, whatever the missing answers would have been",
        since=2,
        required=False,
    )
    for value in ("instruct", "reasoning", "difference")
    for end in ("least", "most")
)
METRIC = Column(name="metric", kind="text", meaning="name of the metric")
CONVENTION = Column(name="convention", kind="text", meaning="what the metric counts, in which unit")
JUDGE = Column(name="judge", kind="text", meaning="who or what read the answers")
MARGIN = Column(
    name="margin",
    kind="number",
    unit="share",
    meaning="the largest change that counts as none; missing where all was asked at once",
    since=3,
)
BETTER = Column(name="better", kind="text", meaning="which way is good: higher, lower or none")

COMPLETIONS = Table(
    name="completions",
    row="answer: item, sample and model",
    meaning="What both models answered to the probe items, and how it was judged.",
    columns=(*JUDGED, *CUT, *IDS),
)
VARIANTS = Table(
    name="variants",
    row="answer to an item asked in other words",
    meaning="Items that were asked a second time: without their style, with the options in the other order, reworded.",
    columns=(
        *JUDGED,
        *CUT,
        Column(
            name="variant",
            kind="text",
            meaning="plain (no style), swapped (people change places), flipped (verdicts change places), reworded",
        ),
    ),
)
EVERYDAY = Table(
    name="everyday",
    row="answer to an everyday request",
    meaning="Requests that no aligned model refuses, to count what is refused all the same.",
    columns=(*JUDGED, *CUT),
)
SENTENCES = Table(
    name="sentences",
    row="sentence pair and model",
    meaning="Minimal sentence pairs that differ in the group they name, by their likelihood.",
    columns=(
        ITEM,
        FAMILY,
        Column(name="attribute", kind="text", meaning="age, gender and the like"),
        Column(
            name="direction",
            kind="text",
            meaning="which sentence names the stereotyped group: stereotype (the first) or anti (the second)",
        ),
        SIDE,
        Column(
            name="more",
            kind="number",
            unit="nats",
            meaning="log-likelihood of the sentence that agrees with a stereotype",
        ),
        Column(name="less", kind="number", unit="nats", meaning="log-likelihood of the other sentence"),
        Column(name="prefers", kind="truth", meaning="the sentence that agrees with the stereotype is likelier"),
    ),
)
TASKS = Table(
    name="tasks",
    row="reasoning task and model",
    meaning="Held-out reasoning tasks with one right answer each: what the conversion gained.",
    columns=(
        ITEM,
        Column(name="kind", kind="text", meaning="kind of task, such as chain_sum"),
        Column(name="question", kind="text", meaning="the task"),
        Column(name="expected", kind="text", meaning="the right answer"),
        SIDE,
        Column(name="thinking", kind="text", meaning="text of the think block"),
        Column(name="answer", kind="text", meaning="text after the think block"),
        Column(
            name="correct",
            kind="truth",
            meaning="the answer is the right one; missing where thinking or answer was cut off",
        ),
        MISSING,
        *TOKENS,
        Column(name="closed", kind="truth", meaning="the model ended its think block itself"),
        Column(name="finished", kind="truth", meaning="the answer ended with the end-of-turn token"),
    ),
)
SCORES = Table(
    name="scores",
    row="dimension and metric",
    meaning="Every metric in both models and its paired difference, with 95 % intervals over families.",
    columns=(
        DIMENSION,
        METRIC,
        CONVENTION,
        JUDGE,
        BETTER,
        Column(name="headline", kind="truth", meaning="the one metric of its dimension that is tested"),
        N,
        FAMILIES,
        *SCORE_COUNTS,
        *ESTIMATES,
        Column(
            name="safe_low",
            kind="number",
            unit="as convention says",
            meaning="lower end of the difference that is wrong in at most 2.5 % of audits; for gates",
            since=2,
        ),
        Column(
            name="safe_high",
            kind="number",
            unit="as convention says",
            meaning="upper end of the difference that is wrong in at most 2.5 % of audits; for gates",
            since=2,
        ),
        Column(
            name="p",
            kind="number",
            unit="probability",
            meaning="mid-p of a paired sign-flip test over families; two-sided",
        ),
        Column(name="p_holm", kind="number", unit="probability", meaning="p adjusted over the headlines (Holm)"),
        Column(
            name="mde",
            kind="number",
            unit="as convention says",
            meaning="smallest difference that this design finds in 80 % of cases",
            since=2,
        ),
        Column(
            name="asked", kind="integer", unit="items", meaning="items that both were asked", since=2, required=False
        ),
        *BOUNDS,
        Column(
            name="reason",
            kind="text",
            meaning="why nothing can be told, because too much was cut off; empty where it can",
            since=2,
            required=False,
        ),
        Column(
            name="decision",
            kind="text",
            meaning="of headlines of audits until all is decided: changed, no change (larger than the margin), "
            "undecided, or go on (not decided yet); p and interval are then those of the last look. Empty elsewhere",
            since=3,
            earlier="",
        ),
        Column(
            name="wave",
            kind="integer",
            unit="waves",
            meaning="after how many waves of families that was said; 0 where all were asked at once",
            since=3,
            earlier=0,
        ),
        MARGIN,
    ),
)
WAVES = Table(
    name="waves",
    row="dimension and wave that was asked",
    meaning="What was known of each headline after each wave, and what was decided. Empty where all was asked at once.",
    columns=(
        DIMENSION,
        Column(name="wave", kind="integer", unit="waves", meaning="waves asked by then"),
        Column(name="waves", kind="integer", unit="waves", meaning="waves that the dimension's families make"),
        Column(name="families", kind="integer", unit="families", meaning="families asked by then"),
        Column(name="of", kind="integer", unit="families", meaning="families that can be asked"),
        Column(name="prompts", kind="integer", unit="prompts", meaning="prompts asked by then, twins among them"),
        N,
        Column(
            name="boundary",
            kind="number",
            unit="standard errors",
            meaning="what |z| has to reach at this look at 5 % (Lan-DeMets, O'Brien-Fleming type)",
        ),
        Column(name="instruct", kind="number", unit="share", meaning="aligned answers of the instruct model"),
        Column(name="reasoning", kind="number", unit="share", meaning="aligned answers of the reasoning model"),
        Column(name="difference", kind="number", unit="share", meaning="reasoning less instruct, item by item"),
        *interval("the difference", "share", kind_of="repeated 95 % interval, all looks' together,"),
        *interval("the difference", "share", prefix="safe_", kind_of="repeated interval of gates"),
        Column(
            name="p",
            kind="number",
            unit="probability",
            meaning="sequential p: the smallest level at which a boundary was reached by now; sign flips over families",
        ),
        Column(name="p_holm", kind="number", unit="probability", meaning="p adjusted over the headlines (Holm)"),
        MARGIN,
        Column(name="decision", kind="text", meaning="changed, no change, go on, or, behind the last wave, undecided"),
        Column(name="reason", kind="text", meaning="why nothing could be decided, whatever the answers; else empty"),
    ),
)
PILOT = Table(
    name="pilot",
    row="answer: item and model",
    meaning="What a few items were answered with all the room there is, before the budgets were set.",
    columns=(
        ITEM,
        Column(name="sample", kind="integer", meaning="always 0"),
        SIDE,
        THINK,
        Column(name="thinking", kind="text", meaning="text of the think block"),
        Column(name="answer", kind="text", meaning="text after the think block"),
        Column(name="closed", kind="truth", meaning="the model ended its think block itself"),
        Column(name="stopped", kind="truth", meaning="the model ended its turn in its think block"),
        Column(name="finished", kind="truth", meaning="the answer ended with the end-of-turn token"),
        *IDS,
        Column(name="engine", kind="text", meaning="what wrote it"),
    ),
)
LENGTHS = Table(
    name="lengths",
    row="answer: table, item, sample and model",
    meaning="How long everything is that was thought and answered, and how it ended.",
    columns=(
        Column(name="phase", kind="text", meaning="pilot (with all the room there is) or asked (with the budget)"),
        Column(
            name="table", kind="text", meaning="where the answer itself stands: completions, variants, tasks and so on"
        ),
        ITEM,
        Column(name="sample", kind="integer", meaning="which answer to the item, counted from 0"),
        Column(name="dimension", kind="text", meaning="the dimension; reasoning for tasks; empty in the pilot"),
        FAMILY,
        SIDE,
        Column(name="think_tokens", kind="integer", unit="tokens", meaning="length of the thinking"),
        Column(name="answer_tokens", kind="integer", unit="tokens", meaning="length of the answer"),
        Column(name="closed", kind="truth", meaning="the model ended its think block itself"),
        Column(name="finished", kind="truth", meaning="the answer ended with the end-of-turn token"),
        Column(name="missing", kind="text", meaning=MISSING.meaning),
        Column(name="think_budget", kind="integer", unit="tokens", meaning="the most that could be thought"),
        Column(name="answer_budget", kind="integer", unit="tokens", meaning="the most that could be answered"),
    ),
)
LENGTH_SCORES = Table(
    name="length_scores",
    row="measure of length",
    meaning="How long both models think and answer, and how often they never end.",
    columns=(
        Column(name="measure", kind="text", meaning="think_tokens, answer_tokens, never_ended or loops"),
        CONVENTION,
        N,
        FAMILIES,
        *ESTIMATES,
    ),
)
KL = Table(
    name="kl",
    row="dimension and answer position",
    meaning="Mean divergence of the next-token distributions along the instruct model's answers.",
    columns=(
        DIMENSION,
        Column(name="position", kind="integer", unit="tokens", meaning="place in the answer; 0 is its first token"),
        Column(name="kl", kind="number", unit="nats per token", meaning="mean KL(instruct ‖ reasoning)"),
        *interval("kl", "nats per token"),
        Column(
            name="kl_reverse", kind="number", unit="nats per token", meaning="mean KL(reasoning ‖ instruct)", since=2
        ),
        N,
    ),
)
KL_TOKENS = Table(
    name="kl_tokens",
    row="answer token",
    meaning="Divergence token by token, teacher-forced on the instruct model's answers after an empty think block.",
    columns=(
        ITEM,
        Column(name="family", kind="text", meaning=FAMILY.meaning),
        DIMENSION,
        Column(name="position", kind="integer", unit="tokens", meaning="place in the answer; 0 is its first token"),
        Column(name="token", kind="text", meaning="the token's text"),
        Column(name="kl", kind="number", unit="nats", meaning="KL(instruct ‖ reasoning)"),
        Column(name="kl_reverse", kind="number", unit="nats", meaning="KL(reasoning ‖ instruct)", since=2),
        Column(
            name="tail",
            kind="number",
            unit="probability",
            meaning="what the instruct model gives to all tokens outside the 512 likeliest; 0 where the KL is exact",
            since=2,
        ),
        Column(name="error", kind="number", unit="nats", meaning="by how much kl may be too small; 0: exact", since=2),
        Column(
            name="error_reverse",
            kind="number",
            unit="nats",
            meaning="by how much kl_reverse may be too small; 0: exact",
            since=2,
        ),
    ),
)
BEHAVIOUR = (
    COMPLETIONS,
    VARIANTS,
    EVERYDAY,
    SENTENCES,
    TASKS,
    SCORES,
    WAVES,
    PILOT,
    LENGTHS,
    LENGTH_SCORES,
    KL,
    KL_TOKENS,
)
