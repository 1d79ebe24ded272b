"""The command line: `mechdrift audit | report | score | pairs | probes | bench`.

Errors that a user can put right end in one sentence on standard error and exit code 1; `--debug` shows the traceback. Ctrl-C ends
with exit code 130; what was finished stays, and the same command goes on from there.
"""

import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter

from mechdrift.audit import Audit
from mechdrift.interrupts import MESSAGE
from mechdrift.records import DIMENSIONS, MechdriftError

# Examples are epilogues, because cyclopts drops the "Examples" section of a docstring.
app = App(
    name="mechdrift",
    help="What a reasoning conversion did to a language model's alignment, and where inside it happened.",
    help_epilogue="""Examples:

    mechdrift audit                      the embedded pair, standard preset
    mechdrift audit --preset quick       fewer items and layers
    mechdrift report runs/smollm2-sft    draw the report again, without a model""",
    default_parameter=Parameter(negative=(), consume_multiple=True),
    version_flags=["--version"],
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
Debug = Annotated[bool, Parameter(name="--debug", help="Show the traceback of an error.", group=Group("Session"))]


@app.command(
    help_epilogue="""Examples:

    mechdrift audit smollm2-sft --preset quick
    mechdrift audit --instruct models/parent --reasoning models/child
    mechdrift audit --instruct org/chat --adapter my-lora --dimensions bias"""
)
def audit(
    pair: Annotated[str | None, Parameter(help="The same as --pair.")] = None,
    /,
    *,
    config: Annotated[Audit, Parameter(name="*")] = Audit(),  # noqa: B008 - a frozen default
    debug: Debug = False,
) -> None:
    """Audit a pair: ask both models, compare their insides, patch, and write runs/PAIR/report.html."""
    from mechdrift.audit import audit as run_audit

    run = run_audit(replace(config, pair=pair) if pair else config)
    print(f"report: {run.folder / 'report.html'}")


@app.command(help_epilogue="Example:\n\n    mechdrift report runs/smollm2-sft")
def report(run: Path, /, *, debug: Debug = False) -> None:
    """Draw the report of a run folder again. Loads no model."""
    from mechdrift.runs import load_run

    print(f"report: {load_run(run).report()}")


@app.command(help_epilogue="Example:\n\n    mechdrift pairs")
def pairs(*, debug: Debug = False) -> None:
    """List the embedded pairs."""
    from mechdrift.pairs import EMBEDDED_PAIRS

    for pair in EMBEDDED_PAIRS.values():
        print(f"{pair.name:16} {pair.route:8} {pair.summary}")


@app.command(help_epilogue="Example:\n\n    mechdrift probes")
def probes(*, debug: Debug = False) -> None:
    """List the built-in probe sets, and the benchmarks that `mechdrift score` reads."""
    from mechdrift.probes import BENCHMARKS, load_probes

    print(f"{'set':12} {'items':>5} {'families':>8}  licence     source")
    for name in DIMENSIONS:
        found = load_probes(name)
        print(f"{name:12} {len(found):5} {len(found.families):8}  {found.licence:11} {found.source}")
    print(f"\n{'benchmark':15} {'dimension':11} {'items':>6}  {'licence':13} source")
    for benchmark in BENCHMARKS.values():
        print(f"{benchmark.name:15} {benchmark.dimension:11} {benchmark.items:6}  {benchmark.licence:13} {benchmark.source}")


@app.command(
    help_epilogue="""Examples:

    mechdrift score smollm2-sft --probes xstest --path xstest_prompts.csv --limit 60
    mechdrift score smollm2-sft --probes gsm8k --limit 20 --think-tokens 300"""
)
def score(
    pair: Annotated[str, Parameter(help="An embedded pair; ignored when --instruct is given.")] = "smollm2-sft", /, *,
    probes: Annotated[str, Parameter(help="A benchmark, see `mechdrift probes`.")],
    instruct: Annotated[str | None, Parameter(help="Hugging Face id or folder of the instruct model.")] = None,
    reasoning: Annotated[str | None, Parameter(help="Hugging Face id or folder of the reasoning model.")] = None,
    adapter: Annotated[str | None, Parameter(help="Instead of --reasoning: a LoRA adapter for the instruct model.")] = None,
    path: Annotated[Path | None, Parameter(help="Its file or folder, as published; default the Hugging Face hub.")] = None,
    limit: Annotated[int | None, Parameter(help="Ask at most so many items, drawn evenly over families.")] = None,
    out: Annotated[Path | None, Parameter(help="Write the whole table to this CSV file.")] = None,
    think_tokens: Annotated[int, Parameter(help="How many tokens a model may think.")] = 96,
    answer_tokens: Annotated[int, Parameter(help="How many tokens an answer may have.")] = 64,
    seed: Annotated[int, Parameter(help="Seed of sub-sampling and of all resampling.")] = 0,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Score both models of a pair on a benchmark of the field, by that benchmark's own formula."""
    from mechdrift.audit import load_from
    from mechdrift.behaviour import Budget
    from mechdrift.behaviour.benchmark_scores import load_tasks, score_benchmark
    from mechdrift.probes import load_benchmark
    from mechdrift.probes.benchmarks import benchmark_of, subset

    for name, value in (("--limit", limit), ("--think-tokens", think_tokens), ("--answer-tokens", answer_tokens)):
        if value is not None and value < 1:
            raise MechdriftError(f"{name} should be 1 or more; it is {value}.")
    if benchmark_of(probes).read is None:
        asked = load_tasks(probes, path)[:limit]
    else:
        asked = load_benchmark(probes, path)
        asked = subset(asked, limit, seed) if limit else asked
    models = load_from(Audit(pair=pair, instruct=instruct, reasoning=reasoning, adapter=adapter))
    table = score_benchmark(models, asked, budget=Budget(think=think_tokens, answer=answer_tokens), seed=seed)
    columns = ["metric", "n", "unanswered_instruct", "unanswered_reasoning", "instruct", "reasoning", "difference", "low", "high"]
    print(table[columns].to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    if out:
        try:
            table.to_csv(out, index=False)
        except OSError as error:
            raise MechdriftError(f"{out} could not be written ({error.strerror}): give another file with --out.") from error


@app.command(help_epilogue="Example:\n\n    mechdrift bench")
def bench(*, debug: Debug = False) -> None:
    """Measure this machine: capture and generation against plain Hugging Face, the patch engine against one pass per cell.

    Prints ratios taken in one run, which can be compared between machines; seconds cannot.
    """
    from mechdrift.bench import print_bench

    print_bench()


def main() -> None:
    """Entry point. Everything a user can do wrong ends here in one sentence."""
    arguments = sys.argv[1:]
    try:
        _be_quiet()
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except (MechdriftError, CycloptsError) as error:
        if "--debug" in arguments:
            raise
        print("mechdrift:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever read our output, such as head, has gone; Python would complain once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"\n{MESSAGE}", file=sys.stderr)
        sys.exit(130)


def _be_quiet() -> None:
    """Keep the libraries' own chatter off the terminal; it says nothing a user of mechdrift can act on."""
    from transformers.utils import logging as transformers_logging

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()


if __name__ == "__main__":
    main()
