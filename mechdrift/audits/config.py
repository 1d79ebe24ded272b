"""What to audit and how thoroughly: one record that is the configuration, the command line, its help, and what a run
stores."""

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mechdrift.audits.options import CHAT, MODELS, QUESTIONS, EngineOptions, ModelOptions, Tokens
from mechdrift.behaviour.sampling import COLDEST, HOTTEST, MOST_SAMPLES, Budget, Sampling, check_seed
from mechdrift.errors import warn_renamed
from mechdrift.pairs.chat import ChatOptions
from mechdrift.pairs.pair_files import is_pair_file
from mechdrift.records import DIMENSIONS, MechdriftError, make_tuples

Preset = Literal["quick", "standard", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much an audit asks and patches. Twin pairs are counted per dimension."""

    pairs: int
    """Twin pairs that are asked."""
    variants: int
    """Twin pairs that are also asked in another form: without their style, with the verdicts in the other order, …"""
    tasks: int
    """Held-out reasoning tasks."""
    patched: int
    """Twin pairs that are patched."""
    kl: int
    """Twin pairs whose answers are compared token by token."""
    thinking: int
    """Twin pairs that are followed inside while the model thinks."""
    steered: int
    """Twin pairs that a direction is selected on, and as many that it is steered on. 0: no steering."""
    layer_step: int = 1
    """Every which layer is patched."""
    grafts: bool = True
    """Whether weights are grafted, and placebos (those of the null model among them) are patched beside the grids."""
    most: int | None = None
    """The most twin pairs that an audit until decided may ask. None: as many as `pairs`."""
    budget: Budget = field(default_factory=Budget)
    """The most tokens of a thought and of an answer."""


# The fixed design of the embedded pairs asks the first families of each set, as many as it held when their table
# was made. Families added later come after them, so the table's numbers stay comparable.
FIXED_FAMILIES = 50
# Eight families are the fewest with which the sign-flip test survives Holm's correction over six dimensions by some
# margin (mid-p 6 / 2^8 < 0.05), and six the fewest with which a cell of a patch grid can pass its family-wise test (2 /
# 2^6): a quick audit shows grids, and names no place. A standard audit asks one twin pair of every embedded family: at
# the same number of prompts, more families tell more than more items of a family.
PRESETS: dict[Preset, Size] = {
    "quick": Size(
        pairs=8, variants=2, tasks=12, patched=2, kl=2, thinking=4, steered=0, layer_step=6, grafts=False, most=48
    ),
    "standard": Size(
        pairs=50, variants=16, tasks=96, patched=8, kl=4, thinking=16, steered=8, layer_step=3, most=10_000
    ),
    "full": Size(
        pairs=10_000, variants=10_000, tasks=240, patched=16, kl=10_000, thinking=10_000, steered=24, most=10_000
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit(ModelOptions, EngineOptions):
    """What to audit and how thoroughly. This one record is the configuration, the command line, its help, and what a
    run stores."""

    null_model: Annotated[str | None, Parameter(group=MODELS)] = None
    """A null model, trained from the instruct model for as long, but not to reason: a Hugging Face id, a folder, or a
    LoRA adapter. Its values are patched beside the instruct model's. Embedded pairs have theirs."""
    preset: Annotated[Preset, Parameter(group=QUESTIONS)] = "standard"
    """How much to ask."""
    dimensions: Annotated[tuple[str, ...], Parameter(group=QUESTIONS)] = field(
        default_factory=lambda: tuple(DIMENSIONS)
    )
    """Which dimensions to audit."""
    until_decided: Annotated[bool | None, Parameter(group=QUESTIONS, negative="--no-until-decided")] = None
    """Ask in up to four waves, until each dimension is decided: changed, or no change larger than the margin. This is
    the default, except for embedded pairs, which have the fixed design of their published table."""
    margin: Annotated[float, Parameter(group=QUESTIONS)] = 0.15
    """With --until-decided: the largest change that counts as none, as a share of answers; 0.15 is 15 points."""
    think: Tokens = None
    """The most tokens that a model may think. auto measures on a few items how long each model thinks. Default: auto;
    for embedded pairs the preset's number."""
    answer: Tokens = None
    """The most tokens that an answer may have. Default: as for --think."""
    think_max: Annotated[int | None, Parameter(group=QUESTIONS)] = None
    """The most tokens that --think auto tries. Default: 16,384, or what the model's context leaves."""
    samples: Annotated[int, Parameter(group=QUESTIONS)] = 1
    """Answers per item. One is greedy; several are drawn at the temperature."""
    temperature: Annotated[float, Parameter(group=QUESTIONS)] = 0.7
    """Temperature of the answers where --samples is above 1."""
    judge: Annotated[Path | None, Parameter(group=QUESTIONS)] = None
    """A TOML file that describes a judge of refusals. Default: the built-in rules."""
    seed: Annotated[int, Parameter(group=QUESTIONS)] = 0
    """Seed of sub-sampling, of sampled answers and of all resampling."""
    out: Path | None = None
    """The run folder. Default: runs/PAIR."""
    chat: Annotated[ChatOptions, Parameter(name="*", group=CHAT)] = field(default_factory=ChatOptions)
    """How the models are asked: system messages, template arguments, think markers."""
    control: InitVar[str | None] = None
    """The old name of `null_model`."""

    def __post_init__(self, control: str | None):
        if control is not None:
            warn_renamed("control (--control)", "null_model (--null-model)")
            object.__setattr__(self, "null_model", control)
        make_tuples(self, "dimensions")
        for name, value, known in (
            ("preset", {self.preset}, tuple(PRESETS)),
            ("dimensions", set(self.dimensions), DIMENSIONS),
        ):
            if not value or not value <= set(known):
                raise MechdriftError(f"{name} should be of {', '.join(known)}; it is {getattr(self, name)!r}.")
        self.check_engines()
        check_seed(self.seed)
        if not 0 < self.margin < 1:
            raise MechdriftError(
                "margin should be a share of answers between 0 and 1, such as 0.15 for 15 points: no number of prompts "
                f"can show a change of exactly 0; it is {self.margin:g}."
            )
        if not 1 <= self.samples <= MOST_SAMPLES or not COLDEST <= self.temperature <= HOTTEST:
            raise MechdriftError(
                f"samples should be 1 or more (at most {MOST_SAMPLES:,}) and the temperature above 0 ({COLDEST:g} to "
                f"{HOTTEST:g}); they are {self.samples:,} and {self.temperature:g}."
            )
        if self.think_max is not None and (self.think_max < 1 or self.budget.think != "auto"):
            raise MechdriftError(
                f"--think-max should be 1 or more, and goes with --think auto; it is {self.think_max} with --think "
                f"{self.budget.think}."
            )

    @property
    def budget(self) -> Budget:
        """The budget: --think and --answer where they are given, else auto for a pair of one's own and the preset's for
        an embedded pair."""
        preset, own = PRESETS[self.preset].budget, self.instruct is not None or is_pair_file(self.pair)
        return Budget(
            think=self.think if self.think is not None else "auto" if own else preset.think,
            answer=self.answer if self.answer is not None else "auto" if own else preset.answer,
        )

    @property
    def sampling(self) -> Sampling:
        return Sampling(samples=self.samples, temperature=self.temperature if self.samples > 1 else 0.0, seed=self.seed)

    @property
    def ordered_dimensions(self) -> tuple[str, ...]:
        return tuple(dimension for dimension in DIMENSIONS if dimension in self.dimensions)
