"""From the name that a user gives to a backend: `hf`, `vllm`, or a server's address."""

import sys

from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Generator
from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import MechdriftError

ENGINES = ("hf", "vllm", "http://…")


def make_generator(engine: str, loaded: LanguageModel) -> Generator:
    """The backend of this name for a model; raises where there is none."""
    if engine == "hf":
        return HuggingFace(loaded)
    if engine == "vllm":
        from mechdrift.behaviour.backends.vllm import VLLM

        return VLLM(loaded)
    if engine.startswith(("http://", "https://")):
        from mechdrift.behaviour.backends.http import HTTP

        return HTTP(engine, loaded.tokenizer)
    raise MechdriftError(f"unknown engine {engine!r}: use one of {', '.join(ENGINES)}.")


def close_engines() -> None:
    """Release what a backend holds in addition to the loaded model, after the last question to that model for now."""
    if vllm := sys.modules.get("mechdrift.behaviour.backends.vllm"):
        vllm.close_engine()
