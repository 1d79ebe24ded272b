"""The tables of where the change acts and comes from: readouts, patches, placebos, grafts; and of the weights.

The formulas stand in `activations.readouts`, `patching.grid`, `patching.grafts` and `audits.summaries`.
"""

from dataclasses import replace

from mechdrift.tables.behaviour import CONTRAST, DIMENSION, FAMILIES, ITEM, LAYER, SIDE, THINK, N, interval
from mechdrift.tables.schema import Column, Table

NATS = "log-odds, nats"
BAND = "simultaneous 95 % band (all cells at once)"
DONOR = Column(name="donor", kind="text", meaning="model whose values are put in")
RECIPIENT = Column(name="recipient", kind="text", meaning="model that they are put into")
PART = Column(
    name="role", kind="text", meaning="token position that is patched; of grafts the module, or layer for all of them"
)
CELL = (
    LAYER,
    PART,
    Column(
        name="effect",
        kind="number",
        unit=NATS,
        meaning="mean change of the recipient's readout, patched less unpatched",
    ),
    *interval("the effect", NATS, kind_of=BAND),
    Column(
        name="p_adjusted",
        kind="number",
        unit="probability",
        meaning="family-wise adjusted over the grid (max-T, sign flips)",
    ),
    Column(
        name="detectable",
        kind="number",
        unit=NATS,
        meaning="smallest effect that this design finds in 80 % of cases",
        since=2,
    ),
    Column(
        name="recovery",
        kind="number",
        unit="share of the gap",
        meaning="effect over gap: 1 is the whole way to the donor; missing where the gap is noise",
    ),
    DIMENSION,
    DONOR,
    RECIPIENT,
    Column(name="site", kind="text", meaning="what is replaced: resid_pre and the like, or weights"),
    Column(name="think", kind="text", meaning="think mode of the prompts", since=2, earlier="off"),
    Column(
        name="source",
        kind="text",
        meaning="prompt that the values come from: same; of placebos unrelated, random or null model",
        since=2,
        earlier="same",
        renamed={3: {"control": "null model"}},
    ),
    Column(
        name="engine",
        kind="text",
        meaning="replay (fast), or forward (one whole pass a cell)",
        since=2,
        earlier="replay",
    ),
    Column(name="gap", kind="number", unit=NATS, meaning="mean readout of the donor less that of the recipient"),
    N,
    FAMILIES,
    Column(
        name="reliable", kind="truth", meaning="the readout follows judged behaviour in both models (AUROC 0.7 or more)"
    ),
    Column(
        name="auroc",
        kind="number",
        unit="AUROC",
        meaning="of the readout against judged behaviour, in the model where it follows it less",
        since=2,
    ),
    *(replace(end, since=2) for end in interval("auroc", "AUROC", "auroc_")),
)
BOTH_WAYS = Column(
    name="both_ways",
    kind="truth",
    meaning="the cell carries the change in both directions: significant in either, each towards its donor",
    since=2,
    earlier=False,
)
READOUTS = Table(
    name="readouts",
    row="item, model and think mode",
    meaning="How strongly a model leans to the aligned opening, at the first answer position.",
    columns=(
        ITEM,
        DIMENSION,
        Column(name="family", kind="text", meaning="family of the item; of trajectories only", required=False),
        CONTRAST,
        SIDE,
        replace(THINK, since=2, earlier="off"),
        Column(
            name="readout",
            kind="number",
            unit=NATS,
            meaning="of opening as triggers are answered, against as neutral ones",
        ),
    ),
)
READOUT_VALIDATION = Table(
    name="readout_validation",
    row="dimension, model and think mode",
    meaning="Does the readout follow what the model was judged to do? Below 0.7 its grids are marked unreliable.",
    columns=(
        DIMENSION,
        replace(SIDE, since=2, earlier="instruct"),
        replace(THINK, since=2, earlier="off"),
        Column(name="auroc", kind="number", unit="AUROC", meaning="of the readout against judged behaviour"),
        *interval("auroc", "AUROC"),
        Column(name="n", kind="integer", unit="items", meaning="items with a behaviour that was judged"),
        Column(
            name="n_behaving",
            kind="integer",
            unit="items",
            meaning="of them, behaved as triggers are answered",
            since=2,
        ),
        Column(name="reliable", kind="truth", meaning="auroc is 0.7 or more"),
        Column(name="aligned_tokens", kind="text", meaning="openings of an aligned answer", since=2, earlier=""),
        Column(name="misaligned_tokens", kind="text", meaning="openings of a misaligned answer", since=2, earlier=""),
    ),
)
PASSAGE = Table(
    name="passage",
    row="dimension and path",
    meaning="Does the readout change through the thinking, or through the weights that read it? On trigger items.",
    columns=(
        DIMENSION,
        Column(
            name="path",
            kind="text",
            meaning="all, thinking alone, weights alone, or weights after the thinking",
        ),
        Column(name="effect", kind="number", unit=NATS, meaning="change of the readout along the path"),
        *interval("the effect", NATS),
        N,
        FAMILIES,
    ),
)
PATCH = Table(
    name="patch",
    row="dimension, donor, layer and role",
    meaning="Where the change passes through: one activation replaced by the other model's, in both directions.",
    columns=(*CELL, BOTH_WAYS),
)
PATCH_ITEMS = Table(
    name="patch_items",
    row="dimension, donor, item, layer and role",
    meaning="The same effects prompt by prompt.",
    columns=(
        DIMENSION,
        DONOR,
        RECIPIENT,
        ITEM,
        LAYER,
        PART,
        Column(name="effect", kind="number", unit=NATS, meaning="patched less unpatched readout"),
    ),
)
PLACEBOS = Table(
    name="placebos",
    row="dimension, source and layer",
    meaning="Patches that have nothing to restore, to hold the others against: values from elsewhere.",
    columns=CELL,
)
GRAFTS = Table(
    name="grafts",
    row="dimension, donor, layer and module",
    meaning="Where the change originates: a layer's or a module's weights taken from the other model.",
    columns=(*CELL, BOTH_WAYS),
)
WEIGHTS = Table(
    name="weights",
    row="layer and module",
    meaning="How far training moved the weights.",
    columns=(
        Column(name="layer", kind="integer", unit="block", meaning="decoder block from 0; -1 outside the blocks"),
        Column(name="module", kind="text", meaning="name of the module, such as q_proj"),
        Column(name="norm", kind="number", unit="weight²", meaning="squared norm of the instruct model's weights"),
        Column(
            name="change", kind="number", unit="ratio", meaning="norm of the difference over the norm of the weights"
        ),
    ),
)
PATCHING = (WEIGHTS, READOUTS, READOUT_VALIDATION, PASSAGE, PATCH, PATCH_ITEMS, PLACEBOS, GRAFTS)
