"""Options that several commands share: which two models, and what writes their answers.

`Audit` takes these records' fields over, and so do the options of a stress test and of a score. The groups are the
headings under which `--help` lists the options, in this order. Nothing heavy is imported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from mechdrift.errors import MechdriftError
from mechdrift.records import SIDES

MODELS = Group("Models", sort_key=1)
QUESTIONS = Group("Questions and answers", sort_key=2)
ENGINE = Group("Engine", sort_key=3)
CHAT = Group("Chat template and thinking", sort_key=4)

NumberFormat = Literal["auto", "float32", "bfloat16"]
Tokens = Annotated[int | Literal["auto"] | None, Parameter(group=QUESTIONS)]
"""A budget in tokens, or `auto`: measured in a pilot. None is the default of the command."""


@dataclass(frozen=True, kw_only=True)  # without slots, so that a record can take over both
class ModelOptions:
    """Which pair: by name, by file, or by its two models."""

    pair: Annotated[str, Parameter(group=MODELS)] = "smollm2-sft"
    """An embedded pair (see `mechdrift pairs`) or a pair file (pair.toml). Ignored when --instruct is given."""
    instruct: Annotated[str | None, Parameter(group=MODELS)] = None
    """Hugging Face id or folder of the instruct model."""
    reasoning: Annotated[str | None, Parameter(group=MODELS)] = None
    """Hugging Face id or folder of the reasoning model that was trained from it."""
    adapter: Annotated[str | None, Parameter(group=MODELS)] = None
    """A LoRA adapter for the instruct model, instead of --reasoning."""
    revision: Annotated[str | None, Parameter(group=MODELS)] = None
    """Revision of both models on the hub."""
    trust_remote_code: Annotated[bool, Parameter(group=MODELS)] = False
    """Let the models' own code run. Models that transformers knows never need it."""
    layout: Annotated[Path | None, Parameter(group=MODELS)] = None
    """A TOML or JSON file that says where the modules are, for an architecture that TransformerLens does not know."""


@dataclass(frozen=True, kw_only=True)  # without slots, so that a record can take over both
class EngineOptions:
    """What writes the answers, on which device, and in which number format."""

    engine: Annotated[str, Parameter(group=ENGINE)] = "hf"
    """What writes the answers: hf (this process), vllm, or the address of a vLLM or llama.cpp server."""
    instruct_engine: Annotated[str | None, Parameter(group=ENGINE)] = None
    """The instruct model's engine, such as the address of its server. Default: --engine."""
    reasoning_engine: Annotated[str | None, Parameter(group=ENGINE)] = None
    """The reasoning model's engine. Default: --engine."""
    device: Annotated[str, Parameter(group=ENGINE)] = "auto"
    """A device such as cuda:0. auto takes cuda, then mps, then cpu."""
    dtype: Annotated[NumberFormat, Parameter(group=ENGINE)] = "auto"
    """Number format of everything that is measured inside the models. auto is float32."""
    generation_dtype: Annotated[NumberFormat, Parameter(group=ENGINE)] = "auto"
    """Number format in which answers are written. auto is bfloat16 where the device computes in it natively."""
    device_map: Annotated[str | None, Parameter(group=ENGINE)] = None
    """How accelerate places a large model on several devices, such as auto."""

    def engine_of(self, side: str) -> str:
        """The engine that writes one model's answers."""
        return (self.instruct_engine if side == "instruct" else self.reasoning_engine) or self.engine

    def check_engines(self) -> None:
        """Raise where the two models would be asked through different kinds of engine."""
        if len({_kind_of(self.engine_of(side)) for side in SIDES}) > 1:
            raise MechdriftError(
                "both models should be asked through one kind of engine, or its numerics are taken for drift: give "
                "--instruct-engine and --reasoning-engine of the same kind."
            )


def _kind_of(engine: str) -> str:
    return "server" if engine.startswith(("http://", "https://")) else engine
