"""The command that measures this machine, and mechdrift itself on erosion that was planted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from mechdrift.behaviour.sampling import check_seed
from mechdrift.cli.options import Debug

WHAT = Group("What is measured", sort_key=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Options of `mechdrift bench`."""

    grid: Annotated[bool, Parameter(group=WHAT)] = False
    """Time patch grids of every kind against TransformerLens, and how their cost grows with layers, positions and
    prompts."""
    audit: Annotated[bool, Parameter(group=WHAT)] = False
    """Audit a pair with the quick preset, and print what each stage takes in forward passes, beside the least that it
    could take."""
    planted: Annotated[bool, Parameter(group=WHAT)] = False
    """Score every way of locating erosion, on children of an aligned model in which erosion was planted at known
    places."""
    planted_behaviour: Annotated[bool, Parameter(group=WHAT)] = False
    """Positive controls: train children that lose one of the six behaviours, and decoys that lose none; print what an
    audit calls, and what is true."""
    model: str | None = None
    """With --audit: an embedded pair or a pair file (default: smollm2-sft). With --planted: the parent, tiny (default;
    trained from scratch in half a minute) or smollm2-aligned. With --planted-behaviour: smollm2-aligned (default), or a
    chat model's Hugging Face id or folder."""
    cases: int | None = None
    """How many children with erosion; decoys come on top. Default: 40 with --planted, 24 with --planted-behaviour."""
    items: int = 3
    """With --planted-behaviour: how many triggers of each family are asked where nothing was planted, 1 to 3."""
    seed: int = 0
    """Another seed gives other children, and with --planted another tiny parent."""
    out: Path | None = None
    """Write the tables to this Markdown file. --planted adds a .jsonl file of every child's scores, as they come.
    --planted-behaviour keeps adapters and answers in a folder beside it (without --out in runs/), and does not make
    them again."""


def bench(
    *,
    options: Annotated[BenchOptions, Parameter(name="*")] = BenchOptions(),
    debug: Debug = False,
) -> None:
    """Measure this machine: capture and generation against plain Hugging Face, and the patch engine against one
    forward pass per cell.

    Prints ratios of times taken in one run. They can be compared between machines; seconds cannot.

    Examples:

        mechdrift bench
        mechdrift bench --grid
        mechdrift bench --audit
        mechdrift bench --planted --seed 7
        mechdrift bench --planted --model smollm2-aligned --cases 30
        mechdrift bench --planted-behaviour --items 1 --out controls.md
    """
    from mechdrift.bench.grids import print_grids
    from mechdrift.bench.machine import PAIR, print_bench
    from mechdrift.bench.stages import print_stages
    from mechdrift.planting.behaviours.command import print_planted_behaviour
    from mechdrift.planting.benchmark import print_planted

    model, cases, seed, out = options.model, options.cases, options.seed, options.out
    check_seed(seed)
    if options.planted_behaviour:
        print_planted_behaviour(model or "smollm2-aligned", 24 if cases is None else cases, seed, out, options.items)
    elif options.planted:
        print_planted(model or "tiny", 40 if cases is None else cases, seed, out)
    elif options.audit:
        print_stages(model or PAIR)
    elif options.grid:
        print_grids()
    else:
        print_bench()
