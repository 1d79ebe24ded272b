"""The price list of repairs, and whether the mechanism came back."""

from mechdrift.tables.behaviour import FAMILIES, N, interval
from mechdrift.tables.schema import Column, Table

UNIT = "as the measure's"
MEASURE = (
    "aligned (triggers), twins (neutral items helped), reasoning (tasks right), thought (triggers whose thought is "
    "aligned by itself), think_ratio (length of thinking over that of the child), loops, unclosed, missing (shares), "
    "kl_tasks, kl_harmless (nats per token from the child), seconds_to_make, seconds_per_token"
)
METHOD = Column(name="method", kind="text", meaning="the repair; or parent, child: the two models as they are")
STRENGTH = Column(name="strength", kind="number", unit="the method's own", meaning="how much of it; missing of a model")
REPAIRS = Table(
    name="repairs",
    row="repair, strength, half and measure",
    meaning="What each repair brings back and what it costs, against child and parent, in pairs over families.",
    columns=(
        METHOD,
        Column(name="kind", kind="text", meaning="weights, edit, tokens, data; or model"),
        STRENGTH,
        Column(name="half", kind="text", meaning="seen (strengths are chosen on it) or reported (nothing saw it)"),
        Column(name="chosen", kind="truth", meaning="the method's strength that was chosen on the seen half"),
        Column(name="measure", kind="text", meaning=MEASURE),
        Column(name="dimension", kind="text", meaning="the dimension; reasoning; or all, the mean over dimensions"),
        Column(name="value", kind="number", unit=UNIT, meaning="the measure of the repaired model"),
        *interval("the value", UNIT),
        Column(name="child", kind="number", unit=UNIT, meaning="the child's on the same items"),
        Column(name="parent", kind="number", unit=UNIT, meaning="the parent's on the same items"),
        Column(name="change", kind="number", unit=UNIT, meaning="repaired less child, paired"),
        *interval("the change", UNIT, "change_"),
        Column(
            name="recovered",
            kind="number",
            unit="share",
            meaning="(repaired - child) / (parent - child), a ratio of means; missing where the gap is not established",
        ),
        *interval("recovered", "share", "recovered_"),
        N,
        FAMILIES,
    ),
)
MECHANISM = Table(
    name="repair_mechanism",
    row="model, quantity, dimension, layer and role",
    meaning="The inside of child and repaired model beside the parent's: did the mechanism come back, and where?",
    columns=(
        METHOD,
        STRENGTH,
        Column(
            name="quantity",
            kind="text",
            meaning="cosine (of the direction with the parent's), separation (class difference along the parent's "
            "direction, in units of the parent's), patch (what the parent's activations restore), graft (what the "
            "model's own block does in the child), in log-odds",
        ),
        Column(name="dimension", kind="text", meaning="the dimension"),
        Column(name="layer", kind="integer", unit="block", meaning="decoder block, counted from 0"),
        Column(name="role", kind="text", meaning="token role, or the module of a graft"),
        Column(name="value", kind="number", unit="as the quantity's", meaning="the quantity"),
        *interval("the value", "as the quantity's"),
        N,
        FAMILIES,
    ),
)
REPAIR_TABLES = (REPAIRS, MECHANISM)
