"""What a user can say of a stress test on the command line. Loads nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mechdrift.records import DIMENSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class StressOptions:
    """Options of `mechdrift stress`; all but `pairs` are arguments of `stress` and of `Audit`, as there."""

    instruct: str | None = None
    """Hugging Face id or folder of the instruct model."""
    reasoning: str | None = None
    """Hugging Face id or folder of the reasoning model."""
    adapter: str | None = None
    """Instead of --reasoning: a LoRA adapter for the instruct model."""
    revision: str | None = None
    """Revision of both models on the hub."""
    probes: tuple[str, ...] = field(default_factory=lambda: tuple(DIMENSIONS))
    """Probe sets, or one benchmark (see `mechdrift probes`)."""
    path: Path | None = None
    """Of a benchmark: its file or folder, as published; default the Hugging Face hub."""
    pairs: int = 32
    """Ask at most so many twin pairs of each set, drawn evenly over families; of a benchmark, twice as many items."""
    modes: tuple[str, ...] = ()
    """Which modes; default all (see --list)."""
    doses: tuple[str, ...] = ()
    """Other doses, from the weakest to the strongest: puzzle=250,1000."""
    think: int | Literal["auto"] | None = None
    """Tokens that a model may think, or auto; as in audits."""
    answer: int | Literal["auto"] | None = None
    """Tokens that an answer may have, or auto."""
    think_max: int | None = None
    """Of --think auto: the most that is tried."""
    judge: Path | None = None
    """A TOML file that describes another judge of refusals than the rules."""
    engine: str = "hf"
    """What writes: hf (this process), vllm, or the address of a server of vLLM or llama.cpp."""
    device: str = "auto"
    """Such as cuda:0; auto is cuda, then mps, then cpu."""
    seed: int = 0
    """Seed of sub-sampling, puzzles, samples and all resampling."""
    out: Path | None = None
    """The run folder; default runs/PAIR-stress."""
