"""What to audit and how thoroughly: one record that is the configuration, the command line, its help, and what a run
stores."""

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from mechdrift.behaviour.sampling import COLDEST, HOTTEST, MOST_SAMPLES, Budget, Sampling, check_seed
from mechdrift.errors import warn_renamed
from mechdrift.pairs.chat import ChatOptions
from mechdrift.pairs.pair_files import is_pair_file
from mechdrift.records import DIMENSIONS, SIDES, MechdriftError

Preset = Literal["quick", "standard", "full"]
NumberFormat = Literal["auto", "float32", "bfloat16"]
ENGINE = Parameter(group=Group("Engine"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much an audit asks and patches. Numbers are per dimension, in twin pairs; tasks are the held-out reasoning
    tasks.

    `variants` counts the twin pairs that are also asked without their style, with the verdicts in the other order, and
    so on; `patched`, `kl` and `thinking` those that are patched, compared token by token, and followed inside while the
    model thinks; `steered` those that a direction is selected on, and those that it is steered on (0: no steering).
    `grafts` says whether weights are grafted and placebos patched beside the grids, those of the null model among them.
    `most` is how many twin pairs are asked at most where an audit goes on until all is decided; None: as many as
    `pairs`.
    """

    pairs: int
    variants: int
    tasks: int
    patched: int
    kl: int
    thinking: int
    steered: int
    layer_step: int = 1
    grafts: bool = True
    most: int | None = None
    budget: Budget = field(default_factory=Budget)


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
class EngineOptions:
    """What writes the answers, where, and in which numbers. A group of options of its own on the command line."""

    engine: Annotated[str, ENGINE] = "hf"
    """What writes the answers: hf (this process), vllm, or the address of a server of vLLM or llama.cpp."""
    instruct_engine: Annotated[str | None, ENGINE] = None
    """The engine of the instruct model alone, such as its server's address."""
    reasoning_engine: Annotated[str | None, ENGINE] = None
    """The engine of the reasoning model alone."""
    device: Annotated[str, ENGINE] = "auto"
    """Such as cuda:0; auto is cuda, then mps, then cpu."""
    dtype: Annotated[NumberFormat, ENGINE] = "auto"
    """Number format of what is measured inside; auto is float32."""
    generation_dtype: Annotated[NumberFormat, ENGINE] = "auto"
    """Number format of what writes the answers; auto is bfloat16 where the device computes in it natively."""
    device_map: Annotated[str | None, ENGINE] = None
    """Such as auto: place a large model with accelerate."""

    def engine_of(self, side: str) -> str:
        """The engine that writes one model's answers."""
        return (self.instruct_engine if side == "instruct" else self.reasoning_engine) or self.engine

    def check_engines(self) -> None:
        """Raise where the two models would be written by different kinds of engine."""
        if len({_kind_of(self.engine_of(side)) for side in SIDES}) > 1:
            raise MechdriftError(
                "both models should be asked through one kind of engine, or its numerics are taken for drift: give "
                "--instruct-engine and --reasoning-engine of the same kind."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit(EngineOptions):
    """What to audit and how thoroughly. This one record is the configuration, the command line, its help, and what a
    run stores."""

    pair: str = "smollm2-sft"
    """An embedded pair (see `mechdrift pairs`) or a pair file (pair.toml); ignored when --instruct is given."""
    instruct: str | None = None
    """Hugging Face id or folder of the instruct model."""
    reasoning: str | None = None
    """Hugging Face id or folder of the reasoning model trained from it."""
    adapter: str | None = None
    """Instead of --reasoning: a LoRA adapter for the instruct model."""
    null_model: str | None = None
    """Hugging Face id or folder (or LoRA adapter for the instruct model) of a null model: trained for as long from the
    instruct model, but not to reason. Its values are patched beside the instruct model's. Embedded pairs have theirs.
    """
    revision: str | None = None
    """Revision of both models on the hub."""
    preset: Preset = "standard"
    """How much to ask: quick, standard or full."""
    dimensions: tuple[str, ...] = field(default_factory=lambda: tuple(DIMENSIONS))
    """Which dimensions to audit."""
    until_decided: Annotated[bool | None, Parameter(negative="--no-until-decided")] = None
    """Ask in up to four waves, until each dimension is decided: changed, or no change larger than the margin. Default
    yes, and for the embedded pairs no: they have a fixed design, as in their table."""
    margin: float = 0.15
    """Of --until-decided: the largest change that counts as none, as a share of answers (0.15 is 15 points)."""
    out: Path | None = None
    """The run folder; default runs/<pair>."""
    think: int | Literal["auto"] | None = None
    """Tokens that a model may think: a number, or auto, which measures on a few items how long each model thinks.
    Default auto, and for the embedded pairs the preset's."""
    answer: int | Literal["auto"] | None = None
    """Tokens that an answer may have, likewise."""
    think_max: int | None = None
    """Of --think auto: the most that is tried; default 16,384, or what the model's context leaves."""
    samples: int = 1
    """Answers per item: 1 is greedy, more are drawn at the temperature."""
    temperature: float = 0.7
    """Of the samples, where there are several."""
    judge: Path | None = None
    """A TOML file that describes another judge of refusals than the rules."""
    seed: int = 0
    """Seed of sub-sampling, of samples and of all resampling."""
    trust_remote_code: bool = False
    """Let the models' own code run. Never needed for models that transformers knows."""
    layout: Path | None = None
    """A TOML or JSON file that says where the modules of an architecture are that TransformerLens does not know."""
    chat: Annotated[ChatOptions, Parameter(name="*")] = field(default_factory=ChatOptions)
    """How the models are asked: system messages, template arguments, think markers."""
    control: InitVar[str | None] = None
    """The old name of `null_model`."""

    def __post_init__(self, control: str | None):
        if control is not None:
            warn_renamed("control (--control)", "null_model (--null-model)")
            object.__setattr__(self, "null_model", control)
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


def _kind_of(engine: str) -> str:
    return "server" if engine.startswith(("http://", "https://")) else engine
