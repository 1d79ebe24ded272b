"""From the name that a user gives to a backend: `hf`, `vllm`, or a server's address."""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.protocol import Generator
from mechdrift.pairs.loading import LanguageModel, ModelSource
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, MechdriftError, Side

ENGINES = ("hf", "vllm", "http://…")


def make_generator(engine: str, loaded: LanguageModel) -> Generator:
    """The backend of this name for a model; raises where there is none."""
    check_name(engine)
    if engine == "vllm":
        from mechdrift.behaviour.backends.vllm import VLLM

        return VLLM(loaded)
    if is_server(engine):
        from mechdrift.behaviour.backends.http import HTTP

        return HTTP(engine, loaded.tokenizer, names=_names(loaded.source))
    return HuggingFace(loaded)


def check_name(engine: str) -> None:
    """Raise where no backend has this name, or it is not installed."""
    if engine == "vllm":
        from mechdrift.behaviour.backends.vllm import check_installed

        check_installed()
    elif engine != "hf" and not is_server(engine):
        raise MechdriftError(f"unknown engine {engine!r:.60}: use one of {', '.join(ENGINES)}.")


def is_server(engine: str) -> bool:
    """Whether an engine's name is the address of a server."""
    return engine.startswith(("http://", "https://"))


def check_servers(
    pair: Pair, engine_of: Callable[[Side], str], sides: Sequence[Side] = SIDES, *, is_begun: bool = False
) -> None:
    """Reach the servers that are to write these sides' answers, before any weights are loaded. Where answers are kept
    from before (`is_begun`), a server that is down is passed over: all may have been written.

    Raises `MechdriftError` for an engine that is unknown or not installed, and where a server does not answer or has
    another vocabulary. Raises as well where both addresses lead to one model although the pair has two, and where an
    address leads to the other model: answers of one model would be taken for those of both.
    """
    for engine in filter(None, map(engine_of, SIDES)):  # a function that makes a backend has no name
        check_name(engine)
    names = {side: _names(pair.source(side)) for side in SIDES}
    addresses = {side: engine_of(side).rstrip("/") for side in SIDES if is_server(engine_of(side))}
    asked = {addresses[side] for side in sides if side in addresses}
    found = {}
    for side, address in addresses.items():
        if address in asked:
            from mechdrift.behaviour.backends.http import HTTP, ServerDown

            server = HTTP(address, pair.tokenizer(side), names=names[side], retries=0 if is_begun else HTTP.retries)
            with suppress(ServerDown) if is_begun else nullcontext():
                server.check_vocabulary()
                found[side] = (address, server.model)
    if len({_weights(pair.source(side)) for side in SIDES}) < 2:
        return  # one checkpoint in its two modes
    if len(found) == 2 and found["instruct"] == found["reasoning"]:
        address, model = found["instruct"]
        raise MechdriftError(
            f"The server at {address} serves one model, {model}, and the pair has two: start a server for each, and "
            "give --instruct-engine and --reasoning-engine."
        )
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        address, model = found.get(side, ("", ""))
        if model in names[other] and model not in names[side]:
            raise MechdriftError(
                f"The server at {address} serves {model}, which is not the {side} model: give --instruct-engine and "
                "--reasoning-engine the other way round."
            )


def _names(source: ModelSource) -> tuple[str, ...]:
    """The names under which a server may list a model: of its last adapter, or else of the model."""
    path = source.adapters[-1] if source.adapters else source.path
    return tuple(dict.fromkeys(name for name in (path, source.name, Path(path).name) if name))


def _weights(source: ModelSource) -> tuple[object, ...]:
    return source.path, source.revision, source.adapters


def close_engines() -> None:
    """Release what a backend holds in addition to the loaded model, after the last question to that model for now."""
    if vllm := sys.modules.get("mechdrift.behaviour.backends.vllm"):
        vllm.close_engine()
