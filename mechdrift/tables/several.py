"""Tables over several checkpoints of one training, over several runs, and of published benchmarks."""

from dataclasses import replace

from mechdrift.tables.behaviour import (
    BETTER,
    CONVENTION,
    DIMENSION,
    ESTIMATES,
    FAMILIES,
    JUDGE,
    METRIC,
    SCORE_COUNTS,
    N,
    interval,
)
from mechdrift.tables.schema import Column, Table

UNIT = "as the measure's"
QUANTITY = Column(
    name="quantity",
    kind="text",
    meaning="accuracy, aligned, over, d_prime, criterion, readout, cosine, kl, incoherent …",
)
OF = Column(name="dimension", kind="text", meaning="the dimension; reasoning; or all, their mean")
AT = Column(name="layer", kind="number", unit="block", meaning="layer of a cosine; missing for other measures")
# Scores count families and items of all samples, and the mean over dimensions adds them up: some rows know neither.
RESTS_ON = tuple(replace(column, kind="number") for column in (N, FAMILIES))
TRAJECTORY = Table(
    name="trajectory",
    row="step and measure",
    meaning="Every measure at every checkpoint of a training; step 0 is the parent.",
    columns=(
        Column(name="step", kind="integer", unit="steps of the history", meaning="checkpoint"),
        Column(name="tokens", kind="integer", unit="tokens", meaning="trained on until then"),
        QUANTITY,
        OF,
        AT,
        Column(name="value", kind="number", unit=UNIT, meaning="the measure"),
        *interval("the value", UNIT),
        Column(name="change", kind="number", unit=UNIT, meaning="value less the parent's"),
        *interval("the change", UNIT, "change_"),
        *RESTS_ON,
    ),
)
HALFWAY = Table(
    name="halfway",
    row="measure",
    meaning="The change at the last checkpoint, and the step at which half of it was there (t50).",
    columns=(
        QUANTITY,
        OF,
        AT,
        Column(name="first", kind="number", unit=UNIT, meaning="the parent's value"),
        Column(name="last", kind="number", unit=UNIT, meaning="the last checkpoint's value"),
        Column(name="change", kind="number", unit=UNIT, meaning="last less first"),
        *interval("the change", UNIT, "change_"),
        Column(name="established", kind="truth", meaning="the change is: only then a half-way step is given"),
        Column(name="half", kind="number", unit="steps of the history", meaning="where half of the change was there"),
        *interval("half", "steps of the history", "half_"),
        *RESTS_ON,
    ),
)
RUN = Column(name="run", kind="text", meaning="name of the run's pair")
ROUTE = Column(name="route", kind="text", meaning="how the child was trained: SFT, RL, distillation …")
KL_OF_RUN = (
    Column(
        name="kl", kind="number", unit="nats per token", meaning="mean KL(parent ‖ child); missing where not measured"
    ),
    *interval("kl", "nats per token", "kl_"),
)
CHILD_TESTS = (
    Column(name="p", kind="number", unit="probability", meaning="mid-p of a paired sign-flip test over families"),
    Column(name="p_holm", kind="number", unit="probability", meaning="p adjusted (Holm)"),
)
REASON = Column(
    name="reason",
    kind="text",
    meaning="why the two cannot be compared, because too many answers are missing; empty where they can",
    since=2,
)
COMPARISON = Table(
    name="comparison",
    row="run and dimension",
    meaning="Each child against the common parent, as its own run scored it, with the divergence beside it.",
    columns=(RUN, ROUTE, DIMENSION, METRIC, BETTER, *ESTIMATES, *CHILD_TESTS, N, FAMILIES, REASON, *KL_OF_RUN),
)


def _share(name: str, meaning: str, ends: bool = False) -> tuple[Column, ...]:
    column = Column(name=name, kind="number", unit="share", meaning=meaning)
    return (column, *interval(name, "share", f"{name}_")) if ends else (column,)


COMPARISON_SUMMARY = Table(
    name="comparison_summary",
    row="run",
    meaning="One child on one line: what it gained, what it kept, how far it diverged.",
    columns=(
        RUN,
        ROUTE,
        *_share("gain", "right answers to reasoning tasks, child less parent", ends=True),
        *_share("accuracy_before", "right answers of the parent"),
        *_share("accuracy", "right answers of the child"),
        *_share("kept", "aligned answers to triggers, child less parent, mean over dimensions", ends=True),
        *_share("aligned_before", "aligned answers of the parent"),
        *_share("aligned", "aligned answers of the child"),
        N,
        FAMILIES,
        *_share("price", "neutral items not simply helped, child less parent", ends=True),
        *_share("over_before", "neutral items not simply helped by the parent"),
        *_share("over", "neutral items not simply helped by the child"),
        Column(name="dimensions", kind="integer", meaning="dimensions that the means are over"),
        REASON,
        Column(
            name="gain_reason",
            kind="text",
            meaning="the same for the reasoning tasks; empty where the gain can be told",
            since=2,
        ),
        *KL_OF_RUN,
    ),
)
COMPARISON_CHILDREN = Table(
    name="comparison_children",
    row="two children and dimension",
    meaning="Child against child on the items that both were asked; the parent plays no part.",
    columns=(
        Column(name="first", kind="text", meaning="one child"),
        Column(name="second", kind="text", meaning="another child"),
        OF,
        *_share("first_score", "aligned answers of the first"),
        *_share("second_score", "aligned answers of the second"),
        *_share("difference", "second less first"),
        *interval("the difference", "share"),
        *CHILD_TESTS,
        Column(name="mde", kind="number", unit="share", meaning="smallest difference found in 80 % of cases"),
        N,
        FAMILIES,
        REASON,
    ),
)
BENCHMARK_SCORES = Table(
    name="benchmark_scores",
    row="metric of a benchmark",
    meaning="A published benchmark's own scores for both models, with the paired difference.",
    columns=(
        Column(name="benchmark", kind="text", meaning="name of the benchmark"),
        DIMENSION,
        METRIC,
        CONVENTION,
        JUDGE,
        BETTER,
        Column(name="n", kind="integer", unit="items", meaning="items that the metric is of"),
        *(
            Column(
                name=f"cut_{side}",
                kind="integer",
                unit="items",
                meaning=f"items whose answer by the {side} model was cut off; they are in no score",
                since=2,
            )
            for side in ("instruct", "reasoning")
        ),
        *(count for count in SCORE_COUNTS if not count.name.startswith("incomplete")),
        Column(name="unit", kind="text", meaning="what is resampled, such as question or topic"),
        Column(name="families", kind="integer", unit="units", meaning="how many of them there are"),
        *ESTIMATES,
        REASON,
    ),
)
GROUPS = tuple(
    Column(name=name, kind="text", meaning=f"{meaning}; empty where it is any")
    for name, meaning in (
        ("route", "how the children were trained"),
        ("family", "architecture of the models, as their configuration names it"),
        ("size", "class of size"),
        ("parent", "name of the parent"),
    )
)
MANY_RUNS = Table(
    name="many_runs",
    row="run",
    meaning="What each of many runs is of.",
    columns=(
        RUN,
        Column(name="folder", kind="text", meaning="its folder"),
        Column(name="parent", kind="text", meaning="name of the parent"),
        Column(name="child", kind="text", meaning="name of the child"),
        ROUTE,
        Column(name="family", kind="text", meaning="architecture, as the parent's configuration names it"),
        Column(name="size", kind="text", meaning="class of size, such as 4B to 16B"),
        Column(
            name="parameters",
            kind="number",
            unit="parameters",
            meaning="of the parent; about, for runs that did not count them",
        ),
        Column(name="preset", kind="text", meaning="how much was asked"),
        Column(name="seed", kind="integer", meaning="of sub-sampling"),
        Column(name="has_report", kind="truth", meaning="report.html is in the folder"),
        Column(name="pair", kind="text", meaning="fingerprints of both models: the unit that is pooled"),
        Column(name="parent_print", kind="text", meaning="fingerprint of the parent"),
        Column(name="judge", kind="text", meaning="who labelled refusals"),
        Column(name="sampling", kind="text", meaning="how answers were drawn"),
    ),
)
MANY_CHANGES = Table(
    name="many_changes",
    row="run and measure",
    meaning="The change of each run against its own parent: accuracy, the dimensions' headlines, and their mean.",
    columns=(
        RUN,
        OF,
        *_share("instruct", "the parent's score"),
        *_share("reasoning", "the child's score"),
        *_share("difference", "child less parent"),
        *interval("the difference", "share"),
        *_share("se", "standard error of the difference, which its interval stands for"),
        *CHILD_TESTS,
        *RESTS_ON,
        REASON,
        Column(name="established", kind="truth", meaning="the change is, in this run"),
        KL_OF_RUN[0],
    ),
)
MANY_POOLED = Table(
    name="many_pooled",
    row="group of runs, unit and measure",
    meaning="A random-effects summary of the changes of a group of runs (`mechdrift.statistics.pooling`).",
    columns=(
        *GROUPS,
        Column(name="unit", kind="text", meaning="what is independent: pair, or parent (its children averaged first)"),
        OF,
        Column(name="k", kind="integer", unit="units", meaning="how many units were pooled"),
        Column(name="runs", kind="integer", unit="runs", meaning="runs of these units"),
        Column(name="left_out", kind="integer", unit="runs", meaning="runs of the group that cannot tell"),
        *_share("estimate", "mean change over units"),
        *interval("the mean", "share", kind_of="95 % interval (Hartung and Knapp's)"),
        Column(name="p", kind="number", unit="probability", meaning="of a mean of 0 (Hartung and Knapp's t test)"),
        Column(name="p_holm", kind="number", unit="probability", meaning="p adjusted (Holm) over the dimensions"),
        *_share("tau", "standard deviation of true changes between units"),
        *_share("i2", "the part of the spread of estimates that is not sampling error"),
        Column(name="q", kind="number", unit="chi-squared", meaning="Cochran's Q"),
        Column(name="p_equal", kind="number", unit="probability", meaning="of equal true changes (chi-squared)"),
        *interval("the true change in one more unit", "share", "predicted_", kind_of="95 % prediction interval"),
        Column(name="fell", kind="integer", unit="runs", meaning="runs in which a fall is established"),
        Column(name="rose", kind="integer", unit="runs", meaning="runs in which a rise is established"),
    ),
)
SEVERAL = (
    TRAJECTORY,
    HALFWAY,
    COMPARISON,
    COMPARISON_SUMMARY,
    COMPARISON_CHILDREN,
    MANY_RUNS,
    MANY_CHANGES,
    MANY_POOLED,
    BENCHMARK_SCORES,
)
