"""Commands that list what there is to ask, and show how a question reaches the models."""

import os
import sys
from dataclasses import asdict, replace
from typing import Annotated, Literal

from cyclopts import Parameter

from mechdrift.audits.config import Audit
from mechdrift.audits.options import CHAT, ModelOptions
from mechdrift.cli.options import Debug, PairArgument
from mechdrift.cli.terminal import own_output
from mechdrift.pairs.chat import ChatOptions
from mechdrift.records import DIMENSIONS


def pairs(*, debug: Debug = False) -> None:
    """List the embedded pairs.

    Examples:

        mechdrift pairs
    """
    from mechdrift.pairs.catalogue import EMBEDDED_PAIRS

    for pair in EMBEDDED_PAIRS.values():
        print(f"{pair.name:19} {pair.route:12} {pair.summary}")


def probes(*, debug: Debug = False) -> None:
    """List the built-in probe sets, and the benchmarks that `mechdrift score` reads.

    Examples:

        mechdrift probes
    """
    from mechdrift.probes.benchmarks.registry import BENCHMARKS
    from mechdrift.probes.sets import load_everyday, load_probes, load_sentences

    print(f"{'set':12} {'items':>5} {'families':>8}  licence     source")
    for name in DIMENSIONS:
        found = load_probes(name)
        print(f"{name:12} {len(found):5} {len(found.families):8}  {found.licence:11} {found.source}")
    for name, rows in (("plain", load_everyday()), ("sentences", load_sentences())):  # what audits ask beside the six
        print(f"{name:12} {len(rows):5} {len({row.family for row in rows}):8}  {found.licence:11} {found.source}")
    print(f"\n{'benchmark':15} {'dimension':11} {'items':>6}  {'licence':13} {'revision':10} source")
    for benchmark in BENCHMARKS.values():
        print(
            f"{benchmark.name:15} {benchmark.dimension:11} {benchmark.items:6}  {benchmark.licence:13} "
            f"{benchmark.version[:8]:10} {benchmark.source}"
        )


def look(
    pair: PairArgument = None,
    /,
    *,
    models: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),  # noqa: B008 - a frozen default
    chat: Annotated[ChatOptions, Parameter(name="*", group=CHAT)] = ChatOptions(),  # noqa: B008 - a frozen default
    prompt: Annotated[str | None, Parameter(help="The question. Default: one about a capital.")] = None,
    colour: Annotated[
        Literal["auto", "always", "never"],
        Parameter(help="Whether roles are coloured. auto: in a terminal, unless NO_COLOR is set."),
    ] = "auto",
    debug: Debug = False,
) -> None:
    """Show how a question is rendered for both models in each think mode, by role. Loads no weights.

    Examples:

        mechdrift look smollm2-sft
        mechdrift look pair.toml --prompt "Is the sky blue?"
        mechdrift look --instruct org/chat --reasoning org/reasoner \\
            --template-args '{"enable_thinking": true}'
    """
    from mechdrift.audits.plan import load_from
    from mechdrift.probes.look import QUESTION
    from mechdrift.probes.look import look as look_at

    models = replace(models, pair=pair) if pair else models
    seen = look_at(load_from(Audit(**asdict(models), chat=chat, device="cpu")), QUESTION if prompt is None else prompt)
    is_coloured = colour == "always" or (colour == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    print(seen.text(colour=is_coloured), end="", file=own_output())  # its foreign text is escaped; the colours are ours
