"""What a user can say of a stress test on the command line. Nothing heavy is imported."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mechdrift.audits.options import QUESTIONS, EngineOptions, ModelOptions, Tokens
from mechdrift.records import DIMENSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class StressOptions(ModelOptions, EngineOptions):
    """Options of `mechdrift stress`."""

    probes: Annotated[tuple[str, ...], Parameter(group=QUESTIONS)] = field(default_factory=lambda: tuple(DIMENSIONS))
    """Probe sets, or one benchmark (see `mechdrift probes`)."""
    path: Annotated[Path | None, Parameter(group=QUESTIONS)] = None
    """The benchmark's file or folder, as published. Default: the Hugging Face hub."""
    pairs: Annotated[int, Parameter(group=QUESTIONS)] = 32
    """Ask at most so many twin pairs of each set, drawn evenly over families; of a benchmark, twice as many items."""
    modes: Annotated[tuple[str, ...], Parameter(group=QUESTIONS)] = ()
    """Which modes (see --list). Default: all."""
    doses: Annotated[tuple[str, ...], Parameter(group=QUESTIONS)] = ()
    """Doses of a mode, from the weakest to the strongest, instead of its own: puzzle=250,1000."""
    inside: Annotated[tuple[str, ...], Parameter(group=QUESTIONS)] = ()
    """Modes whose effect is followed inside both models afterwards: along a direction, by patching, by steering."""
    think: Tokens = None
    """The most tokens that a model may think. Default: as in audits."""
    answer: Tokens = None
    """The most tokens that an answer may have. Default: as in audits."""
    think_max: Annotated[int | None, Parameter(group=QUESTIONS)] = None
    """The most tokens that --think auto tries."""
    judge: Annotated[Path | None, Parameter(group=QUESTIONS)] = None
    """A TOML file that describes a judge of refusals. Default: the built-in rules."""
    seed: Annotated[int, Parameter(group=QUESTIONS)] = 0
    """Seed of sub-sampling, of puzzles, of sampled answers and of all resampling."""
    out: Path | None = None
    """The run folder. Default: runs/PAIR-stress."""
