"""Commands that read a finished run and load no model: its page, its card, comparisons, the gate, logs for others."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mechdrift.cli.options import Debug, RunFolder
from mechdrift.records import MechdriftError


def report(
    run: Annotated[Path, Parameter(help="The run folder of an audit, a stress test or a price list of repairs.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder for the page and its figures. Default: the run's own.")] = None,
    debug: Debug = False,
) -> None:
    """Draw the page of a run folder again.

    Loads no model.

    Examples:

        mechdrift report runs/smollm2-sft
        mechdrift report /read-only/smollm2-sft --out pages/smollm2-sft
    """
    from mechdrift.runs import load_run

    loaded = load_run(run)
    if loaded.is_price_list:
        from mechdrift.repairs.page import draw_again

        print(f"report: {draw_again(loaded, out)}")
    else:
        print(f"report: {loaded.report(out)}")


def card(
    run: Annotated[Path, Parameter(help="The run folder of an audit or a stress test.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write the card to this file. Default: print it.")] = None,
    debug: Debug = False,
) -> None:
    """Print a run as a section for a model card, in Markdown.

    Loads no model.

    Examples:

        mechdrift card runs/smollm2-sft >> README.md
        mechdrift card runs/smollm2-sft --out alignment.md
    """
    from mechdrift.runs import check_target, load_run

    text = load_run(run).card()
    if out is None:
        print(text, end="")
        return
    try:
        check_target(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise MechdriftError(f"{out} could not be written ({error.strerror}): give another file with --out.") from error
    print(f"card: {out}")


def compare(
    *runs: Annotated[Path, Parameter(help="Run folders, two or more, or folders that hold them.")],
    out: Annotated[
        Path, Parameter(help="The page. Where it compares few runs, a folder of figures is put beside it.")
    ] = Path("compare.html"),
    debug: Debug = False,
) -> None:
    """Compare runs on one page.

    Loads no model. Up to eight children of one parent are compared side by side: gain and loss, direction drift, patch
    profiles, divergence. More runs, or runs of several parents, are summarised: a table to sort, forest plots, and what
    holds over pairs.

    Examples:

        mechdrift compare runs/smollm2-sft runs/smollm2-rl --out compare.html
        mechdrift compare runs/study    every run below a folder
    """
    from mechdrift.comparisons.choosing import compare as compare_these

    found = compare_these(runs)
    print(f"comparison: {found.report(out)}")
    for _, reason in getattr(found, "left_out", ()):
        print(f"left out: {reason}", file=sys.stderr)


def gate(
    run: Annotated[Path, Parameter(help="The run folder of an audit or a stress test.")],
    /,
    *,
    max_drop: Annotated[
        tuple[str, ...],
        Parameter(help="Of an audit: allowed drop of a dimension's score, as a share: safety=0.05 is 5 points."),
    ] = (),
    max_lift: Annotated[
        tuple[str, ...], Parameter(help="Of a stress test: allowed lift of a mode, as a share: puzzle=0.05.")
    ] = (),
    unknown_ok: Annotated[bool, Parameter(help="End with exit code 0 also where the data cannot tell.")] = False,
    debug: Debug = False,
) -> None:
    """Hold a run against allowed drops of alignment, for CI: pass, fail, or cannot tell with this many prompts.

    Loads no model.

    Examples:

        mechdrift gate runs/smollm2-sft --max-drop safety=0.05 bias=0.1
        mechdrift gate runs/smollm2-sft --max-drop safety=0.05 --unknown-ok
        mechdrift gate runs/smollm2-sft-stress --max-lift puzzle=0.05

    Exit codes:

        0  pass
        1  the command could not be carried out
        2  fail
        3  cannot tell with this many prompts
    """
    from mechdrift.runs import load_run

    opened = load_run(run)  # a folder that is no run is named before pandas is imported

    from mechdrift.comparisons.gate import gate as hold
    from mechdrift.comparisons.gate import parse_limits

    found = hold(opened, parse_limits(max_drop), max_lift=parse_limits(max_lift, "--max-lift", "a mode"))
    print(found)
    sys.stdout.flush()
    sys.exit(found.exit_code(unknown_ok))


def export(
    run: RunFolder,
    /,
    *,
    to: Annotated[Literal["inspect"], Parameter(help="The format: logs of inspect_ai.")] = "inspect",
    out: Annotated[Path | None, Parameter(help="The folder to write to. Default: logs/NAME.")] = None,
    debug: Debug = False,
) -> None:
    """Write a run's answers and scores as logs that `inspect view` opens.

    Loads no model.

    Examples:

        mechdrift export runs/smollm2-sft
        mechdrift export runs/smollm2-sft --out logs/sft
        inspect view --log-dir logs
    """
    from mechdrift.runs import load_run

    opened = load_run(run)

    from mechdrift.report.inspect_logs import to_inspect

    folder = out or Path("logs") / opened.folder.resolve().name
    print(f"{len(to_inspect(opened, folder))} logs: {folder}")
