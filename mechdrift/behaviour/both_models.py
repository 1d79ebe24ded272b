"""Asking both models of a pair the same, each as it is normally used: the instruct model without thinking, its child
with it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from mechdrift.behaviour.backends.choosing import check_servers, close_engines, make_generator
from mechdrift.behaviour.backends.written import check_engines, engine_line
from mechdrift.behaviour.generation import ask_groups
from mechdrift.behaviour.kept import Kept
from mechdrift.behaviour.two_stages import Question
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.precision import default_dtype_for_generation
from mechdrift.records import SIDES, Completions, Side
from mechdrift.records.progress import tell

Engine = str | Mapping[Side, str]
"""The backend: `"hf"`, `"vllm"`, or the address of a server of vLLM or llama.cpp; one for both models, or by side."""


def ask_both(
    pair: Pair,
    groups: Sequence[Sequence[Question]],
    *,
    engine: Engine = "hf",
    dtype: str | None = None,
    kept: Kept,
    **how: Any,
) -> Iterator[tuple[Side, Completions]]:
    """Yields each side with its answers to all groups; `how` goes to `ask_groups`.

    Raises `MechdriftError` where the two models' answers were written by different engines or in different number
    formats. For an engine outside this process, a line on standard error gives its fidelity.
    """
    engines: dict[Side, Sequence[str]] = {}
    check_servers(pair, partial(_engine_of, engine), is_begun=kept.is_begun)
    for side in SIDES:
        loaded, writer = pair.open(side, dtype or default_dtype_for_generation()), _engine_of(engine, side)
        answers = ask_groups(
            loaded,
            groups,
            side,
            "none" if side == "instruct" else "own",
            store=kept.answers(side, loaded),
            generator=make_generator(writer, loaded),
            **how,
        )
        close_engines()
        engines[side] = answers.engines
        check_engines(engines)
        if writer != "hf":
            tell(f"the {side} model's answers: {engine_line(answers)}")
        yield side, answers


def _engine_of(engine: Engine, side: Side) -> str:
    return engine if isinstance(engine, str) else engine[side]
