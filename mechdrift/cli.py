"""The command line: `mechdrift audit | merge | report | compare | plan | run | work | status | trajectory | repair |
stress | card | gate | export | score | look | pairs | probes | bench`.

Errors that a user can put right end in one sentence on standard error and exit code 1; `--debug` shows the traceback.
`gate` ends with 0 (pass), 2 (fail) or 3 (cannot tell). Ctrl-C ends with exit code 130 and SIGTERM with 143; what was
finished stays, and the same command goes on from there. Names and texts of models, judges and files are printed without
what a terminal would obey (`records.foreign.shown`).
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's threads spin at every barrier; read when it is loaded

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from mechdrift.audits.config import Audit, EngineOptions, Preset
from mechdrift.behaviour.sampling import COLDEST, HOTTEST, Sampling, check_seed
from mechdrift.errors import MESSAGE, OUT_OF_MEMORY, is_out_of_memory
from mechdrift.pairs.chat import ChatOptions
from mechdrift.records import DIMENSIONS, SIDES, MechdriftError
from mechdrift.records.foreign import for_spreadsheets, shown
from mechdrift.stress_tests.options import StressOptions

if TYPE_CHECKING:
    import pandas as pd

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
StudyFile = Annotated[Path, Parameter(help="A study file (study.toml).")]
Debug = Annotated[bool, Parameter(name="--debug", help="Show the traceback of an error.", group=Group("Session"))]


@app.command(
    help_epilogue="""Examples:

    mechdrift audit smollm2-sft --preset quick
    mechdrift audit --instruct models/parent --reasoning models/child
    mechdrift audit --instruct org/chat --adapter my-lora --dimensions bias
    mechdrift audit pair.toml --dry-run
    mechdrift audit pair.toml --no-until-decided --step kl --shard 2/4"""
)
def audit(
    pair: Annotated[str | None, Parameter(help="The same as --pair.")] = None,
    /,
    *,
    config: Annotated[Audit, Parameter(name="*")] = Audit(),  # noqa: B008 - a frozen default
    control: Annotated[str | None, Parameter(show=False)] = None,  # the old name of --null-model
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only say what would be asked, whether it fits, and how long it takes.")
    ] = False,
    step: Annotated[str | None, Parameter(help="Only one step, for an audit on several machines.")] = None,
    shard: Annotated[str, Parameter(help="Of --step: which part of how many, such as 2/4.")] = "1/1",
    debug: Debug = False,
) -> None:
    """Audit a pair: ask both models, compare their insides, patch, and write runs/PAIR/report.html."""
    config = replace(config, control=control) if control else config
    config = replace(config, pair=pair) if pair else config
    if dry_run:
        from mechdrift.audits.estimate import print_dry_run

        print_dry_run(config)
        return

    if step:
        from mechdrift.audits.parts import Shard
        from mechdrift.audits.shards import run_step

        print(f"finished: {run_step(config, step, Shard.parse(shard))}")
        return

    from mechdrift.audits.pipeline import audit as run_audit

    run = run_audit(config)
    print(f"report: {run.folder / 'report.html'}")


@app.command(
    help_epilogue="""Examples:

    mechdrift report runs/smollm2-sft
    mechdrift report /read-only/smollm2-sft --out pages/smollm2-sft"""
)
def report(
    run: Annotated[Path, Parameter(help="A run folder: of an audit, a comparison, a stress test or a price list.")],
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="The folder that the page and its figures go into; default the run's own.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw the report of a run folder again, or the page of a stress test or of repairs. Loads no model."""
    from mechdrift.runs import load_run

    loaded = load_run(run)
    if loaded.is_price_list:
        from mechdrift.repairs.page import draw_again

        print(f"report: {draw_again(loaded, out)}")
    else:
        print(f"report: {loaded.report(out)}")


@app.command(
    help_epilogue="""Examples:

    mechdrift compare runs/smollm2-sft runs/smollm2-rl --out compare.html
    mechdrift compare runs/study                       every run below a folder, of one parent or of many"""
)
def compare(
    *runs: Annotated[Path, Parameter(help="Run folders, two or more, or folders that hold them.")],
    out: Annotated[Path, Parameter(help="The page; figures of a few runs go into a folder beside it.")] = Path(
        "compare.html"
    ),
    debug: Debug = False,
) -> None:
    """Compare runs on one page. Loads no model.

    Up to eight children of one parent are compared with each other: gain and loss, direction drift, patch profiles,
    divergence. More runs, or runs of several parents, are put together: a table to sort, forest plots, and what holds
    over pairs.
    """
    from mechdrift.comparisons.choosing import compare as compare_these

    found = compare_these(runs)
    print(f"comparison: {found.report(out)}")
    for _, reason in getattr(found, "left_out", ()):
        print(f"left out: {reason}", file=sys.stderr)


@app.command(help_epilogue="Example:\n\n    mechdrift merge runs/mine")
def merge(run: Path, /, *, debug: Debug = False) -> None:
    """Join the shards of an audit into the run that one process would have written, as far as they are there. Loads no
    weights."""
    from mechdrift.audits.merging import merge as join

    joined, missing = join(run)
    for name in missing:
        print(f"missing: {name}")
    if not missing:
        print(f"report: {joined.folder / 'report.html'}")


@app.command(
    help_epilogue="""Examples:

    mechdrift plan study.toml --dry-run
    mechdrift plan study.toml > cells.jsonl"""
)
def plan(
    study: StudyFile,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative="", help="A table instead of the cells.")] = False,
    debug: Debug = False,
) -> None:
    """Print the cells of a study as JSON lines: what runs after what, with the tokens and memory that it takes. Loads
    no weights."""
    from mechdrift.studies.study import read_study

    read = read_study(study)

    from mechdrift.studies.cells import as_table
    from mechdrift.studies.planning import plan_cells

    cells = plan_cells(read)
    print(as_table(cells) if dry_run else "\n".join(cell.line for cell in cells))


@app.command(
    help_epilogue="""Examples:

    mechdrift run study.toml
    mechdrift run study.toml --launcher ray --address auto
    mechdrift run study.toml --launcher slurm; bash runs/study.slurm/submit.sh"""
)
def run(
    study: StudyFile,
    /,
    *,
    launcher: Annotated[
        Literal["local", "ray", "slurm"],
        Parameter(help="local: a process per device; ray: a cluster; slurm: files for sbatch."),
    ] = "local",
    workers: Annotated[int | None, Parameter(help="How many processes; default one per accelerator, or one.")] = None,
    address: Annotated[str | None, Parameter(help="Of the Ray cluster; default this machine's, or a new one.")] = None,
    debug: Debug = False,
) -> None:
    """Do everything of a study that is not done yet; the same command again goes on. Exit code 2 where cells failed."""
    from mechdrift.studies.launch import run_study
    from mechdrift.studies.slurm import prepare

    if launcher == "slurm":
        print(f"submit with: bash {prepare(study)}")
        return
    ended = run_study(study, launcher=launcher, workers=workers, address=address)
    print(f"{ended.done:,} cells done, {len(ended.failed):,} not; see mechdrift status {study}")
    sys.stdout.flush()
    sys.exit(2 if ended.failed else 0)


@app.command(help_epilogue="Example:\n\n    mechdrift work study.toml --cells 05a1ce1134ab")
def work(
    study: StudyFile,
    /,
    *,
    cells: Annotated[tuple[str, ...], Parameter(help="Ids of the plan.")],
    debug: Debug = False,
) -> None:
    """Do some cells of a study that has begun, in this process: what a job of a scheduler runs."""
    from mechdrift.studies.launch import work as do

    do(study, cells)


@app.command(
    help_epilogue="Examples:\n\n    mechdrift status study.toml\n\n    mechdrift status study.toml --out status.html"
)
def status(
    study: StudyFile,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write a page to this file instead.")] = None,
    debug: Debug = False,
) -> None:
    """Say where a study stands: cells done, running and failed, by cause, and the time left. Changes nothing."""
    from mechdrift.studies.status import status_of
    from mechdrift.studies.study import read_study

    found = status_of(read_study(study))
    print(f"status: {found.report(out)}" if out else found.text)


@app.command(
    help_epilogue="""Examples:

    mechdrift trajectory checkpoints/smollm2-sft
    mechdrift trajectory checkpoints/mine --preset standard --out runs/mine-trajectory"""
)
def trajectory(
    folder: Annotated[Path, Parameter(help="A folder of checkpoints with its history.json.")],
    /,
    *,
    preset: Annotated[
        Preset, Parameter(help="How much to ask at every checkpoint: quick, standard or full.")
    ] = "quick",
    dimensions: Annotated[tuple[str, ...], Parameter(help="Which dimensions to audit.")] = tuple(DIMENSIONS),
    out: Annotated[Path | None, Parameter(help="Where the results go; default runs/NAME-trajectory.")] = None,
    seed: Annotated[int, Parameter(help="Seed of sub-sampling and of all resampling.")] = 0,
    device: Annotated[str, Parameter(help="Such as cuda:0; auto is cuda, then mps, then cpu.")] = "auto",
    think: Annotated[int | None, Parameter(help="Tokens that a checkpoint may think; default the preset's.")] = None,
    answer: Annotated[int | None, Parameter(help="Tokens that an answer may have; default the preset's.")] = None,
    debug: Debug = False,
) -> None:
    """Audit a folder of checkpoints of one training run: when alignment goes, when reasoning comes, and what moves
    first inside."""
    from mechdrift.trajectories.run import trajectory as follow

    size = {"preset": preset, "dimensions": dimensions, "think": think, "answer": answer}
    found = follow(folder, **size, out=out, seed=seed, device=device)
    print("\n".join(found.sentences))
    print(f"trajectory: {found.run.folder / 'trajectory.html'}")


@app.command(
    help_epilogue="""Examples:

    mechdrift repair runs/smollm2-sft
    mechdrift repair runs/smollm2-sft --methods located interpolate random --pairs 8
    mechdrift repair runs/smollm2-sft --pick "reasoning >= -2, twins >= -3\""""
)
def repair(
    run: Annotated[Path, Parameter(help="An audit's run folder.")],
    /,
    *,
    methods: Annotated[tuple[str, ...], Parameter(help="Which repairs; default all that need no training.")] = (),
    strengths: Annotated[tuple[float, ...], Parameter(help="Instead of each method's own.")] = (),
    pick: Annotated[
        str | None,
        Parameter(help="Limits in points, such as 'reasoning >= -2, twins >= -3': write the best repair out."),
    ] = None,
    pairs: Annotated[int | None, Parameter(help="At most so many twin pairs of each dimension and half.")] = None,
    tasks: Annotated[int | None, Parameter(help="At most so many reasoning tasks a half.")] = None,
    base: Annotated[str | None, Parameter(help="The model before alignment, for methods that need it.")] = None,
    out: Annotated[Path | None, Parameter(help="Where the list goes; default RUN/repair.")] = None,
    seed: Annotated[int, Parameter(help="Seed of the halves and of everything that is drawn.")] = 0,
    debug: Debug = False,
) -> None:
    """Price what brings alignment back: make repairs of an audited pair's child, and say what each costs."""
    from mechdrift.runs import load_run

    load_run(run)  # a folder that is no run is named before torch is imported

    from mechdrift.repairs.command import run_repair

    how = {"methods": methods, "strengths": strengths or None, "pairs": pairs, "tasks": tasks, "base": base}
    print(run_repair(run, pick, **how, out=out, seed=seed))


@app.command(
    help_epilogue=(
        "Examples:\n\n    mechdrift card runs/smollm2-sft >> README.md\n\n    mechdrift card "
        "runs/smollm2-sft --out alignment.md"
    )
)
def card(
    run: Annotated[Path, Parameter(help="A run folder.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write it to this file; default standard output.")] = None,
    debug: Debug = False,
) -> None:
    """Print a run as a section for a model card, in Markdown. Loads no model."""
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


@app.command(
    help_epilogue="""Examples:

    mechdrift gate runs/smollm2-sft --max-drop safety=0.05 bias=0.1
    mechdrift gate runs/smollm2-sft --max-drop safety=0.05 --unknown-ok
    mechdrift gate runs/smollm2-sft-stress --max-lift puzzle=0.05

Exit codes: 0 pass, 2 fail, 3 cannot tell with this many prompts, 1 an error of use."""
)
def gate(
    run: Annotated[Path, Parameter(help="A run folder: of an audit or a stress test.")],
    /,
    *,
    max_drop: Annotated[
        tuple[str, ...], Parameter(help="Allowed drop of a dimension's score, as a share: safety=0.05 is 5 points.")
    ] = (),
    max_lift: Annotated[
        tuple[str, ...], Parameter(help="Of a stress test: allowed lift of a mode, as a share: puzzle=0.05.")
    ] = (),
    unknown_ok: Annotated[bool, Parameter(help="Exit with 0 also where the data cannot tell.")] = False,
    debug: Debug = False,
) -> None:
    """Hold a run against allowed drops of alignment, for CI: pass, fail, or cannot tell with this many prompts. Loads
    no model."""
    from mechdrift.runs import load_run

    opened = load_run(run)  # a folder that is no run is named before pandas is imported

    from mechdrift.comparisons.gate import gate as hold
    from mechdrift.comparisons.gate import parse_limits

    found = hold(opened, parse_limits(max_drop), max_lift=parse_limits(max_lift, "--max-lift", "a mode"))
    print(found)
    sys.stdout.flush()
    sys.exit(found.exit_code(unknown_ok))


@app.command(
    help_epilogue="""Examples:

    mechdrift stress smollm2-sft --pairs 16
    mechdrift stress pair.toml --probes safety privacy --modes puzzle zero-think --doses puzzle=250,1000
    mechdrift stress smollm2-sft --probes xstest --path xstest_prompts.csv --pairs 30
    mechdrift stress --list"""
)
def stress(
    pair: Annotated[
        str, Parameter(help="An embedded pair or a pair file; ignored when --instruct is given.")
    ] = "smollm2-sft",
    /,
    *,
    config: Annotated[StressOptions, Parameter(name="*")] = StressOptions(),  # noqa: B008 - a frozen default
    chat: Annotated[ChatOptions, Parameter(name="*")] = ChatOptions(),  # noqa: B008 - a frozen default
    list_modes: Annotated[bool, Parameter(name="--list", negative="", help="Only list the modes and doses.")] = False,
    debug: Debug = False,
) -> None:
    """Stress-test both models: empty, cut, long and prefilled thoughts, puzzles, roles, persistence, samples; on
    triggers and twins, with placebos."""
    from mechdrift.stress_tests.command import list_of_modes, run_stress

    print(list_of_modes() if list_modes else run_stress(pair, config, chat))


@app.command(
    help_epilogue="""Examples:

    mechdrift export runs/smollm2-sft
    mechdrift export runs/smollm2-sft --out logs/sft && inspect view --log-dir logs"""
)
def export(
    run: Annotated[Path, Parameter(help="An audit's run folder.")],
    /,
    *,
    to: Annotated[Literal["inspect"], Parameter(help="The other tool: logs of inspect_ai.")] = "inspect",
    out: Annotated[Path | None, Parameter(help="The folder to write to; default logs/NAME.")] = None,
    debug: Debug = False,
) -> None:
    """Write a run's answers and scores for another tool: logs that `inspect view` opens. Loads no model."""
    from mechdrift.runs import load_run

    opened = load_run(run)

    from mechdrift.report.inspect_logs import to_inspect

    folder = out or Path("logs") / opened.folder.resolve().name
    print(f"{len(to_inspect(opened, folder))} logs: {folder}")


@app.command(help_epilogue="Example:\n\n    mechdrift pairs")
def pairs(*, debug: Debug = False) -> None:
    """List the embedded pairs."""
    from mechdrift.pairs.catalogue import EMBEDDED_PAIRS

    for pair in EMBEDDED_PAIRS.values():
        print(f"{pair.name:19} {pair.route:12} {pair.summary}")


@app.command(
    help_epilogue="""Examples:

    mechdrift look smollm2-sft
    mechdrift look pair.toml --prompt "Is the sky blue?"
    mechdrift look --instruct org/chat --reasoning org/reasoner --template-args '{"enable_thinking": true}'"""
)
def look(
    pair: Annotated[
        str, Parameter(help="An embedded pair or a pair file; ignored when --instruct is given.")
    ] = "smollm2-sft",
    /,
    *,
    instruct: Annotated[str | None, Parameter(help="Hugging Face id or folder of the instruct model.")] = None,
    reasoning: Annotated[str | None, Parameter(help="Hugging Face id or folder of the reasoning model.")] = None,
    adapter: Annotated[
        str | None, Parameter(help="Instead of --reasoning: a LoRA adapter for the instruct model.")
    ] = None,
    revision: Annotated[str | None, Parameter(help="Revision of both models on the hub.")] = None,
    trust_remote_code: Annotated[bool, Parameter(help="Let the models' own code run.")] = False,
    prompt: Annotated[str | None, Parameter(help="The question; default one about a capital.")] = None,
    colour: Annotated[
        Literal["auto", "always", "never"], Parameter(help="Roles in colour: auto is in a terminal, without NO_COLOR.")
    ] = "auto",
    chat: Annotated[ChatOptions, Parameter(name="*")] = ChatOptions(),  # noqa: B008 - a frozen default
    debug: Debug = False,
) -> None:
    """Show how a question is rendered for both models in each think mode, by role. Loads no weights."""
    from mechdrift.audits.plan import load_from
    from mechdrift.probes.look import QUESTION
    from mechdrift.probes.look import look as look_at

    source = {"instruct": instruct, "reasoning": reasoning, "adapter": adapter, "revision": revision}
    config = Audit(pair=pair, device="cpu", trust_remote_code=trust_remote_code, chat=chat, **source)
    seen = look_at(load_from(config), prompt if prompt is not None else QUESTION)
    is_coloured = colour == "always" or (colour == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    # Foreign text is escaped already, and the colours are our own.
    print(seen.text(colour=is_coloured), end="", file=sys.stdout.own if isinstance(sys.stdout, _Harmless) else None)


@app.command(help_epilogue="Example:\n\n    mechdrift probes")
def probes(*, debug: Debug = False) -> None:
    """List the built-in probe sets, and the benchmarks that `mechdrift score` reads."""
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


@app.command(
    help_epilogue="""Examples:

    mechdrift score smollm2-sft --probes privacy
    mechdrift score smollm2-sft --probes xstest --path xstest_prompts.csv --limit 60
    mechdrift score smollm2-sft --probes gsm8k --limit 20 --think 300
    mechdrift score --probes safety --answers parent.eval child.eval"""
)
def score(
    pair: Annotated[
        str, Parameter(help="An embedded pair or a pair file; ignored when --instruct is given.")
    ] = "smollm2-sft",
    /,
    *,
    probes: Annotated[str, Parameter(help="A probe set or a benchmark, see `mechdrift probes`.")],
    instruct: Annotated[str | None, Parameter(help="Hugging Face id or folder of the instruct model.")] = None,
    reasoning: Annotated[str | None, Parameter(help="Hugging Face id or folder of the reasoning model.")] = None,
    adapter: Annotated[
        str | None, Parameter(help="Instead of --reasoning: a LoRA adapter for the instruct model.")
    ] = None,
    path: Annotated[
        Path | None, Parameter(help="Its file or folder, as published; default the Hugging Face hub.")
    ] = None,
    answers: Annotated[
        tuple[Path, Path] | None,
        Parameter(
            help="Ask nobody, and read the instruct model's and the reasoning model's answers from two files: logs of "
            "inspect_ai (.eval, .json) or sample files of lm-eval (.jsonl)."
        ),
    ] = None,
    limit: Annotated[int | None, Parameter(help="Ask at most so many items, drawn evenly over families.")] = None,
    out: Annotated[Path | None, Parameter(help="Write the whole table to this CSV file.")] = None,
    think: Annotated[
        int | Literal["auto"] | None,
        Parameter(
            name=("--think", "--think-tokens"),
            help="Tokens that a model may think, or auto: as many as a pilot finds it needs. Default auto, and 96 for "
            "the embedded pairs.",
        ),
    ] = None,
    answer: Annotated[
        int | Literal["auto"] | None,
        Parameter(
            name=("--answer", "--answer-tokens"),
            help="Tokens that an answer may have, likewise. Default auto, and 64 for the embedded pairs.",
        ),
    ] = None,
    think_max: Annotated[
        int | None,
        Parameter(help="Of --think auto: the most that is tried; default 16,384, or what the model's context leaves."),
    ] = None,
    samples: Annotated[int, Parameter(help="Answers per item: 1 is greedy, more are drawn at the temperature.")] = 1,
    temperature: Annotated[float, Parameter(help="Of the samples, where there are several.")] = 0.7,
    judge: Annotated[
        Path | None, Parameter(help="A TOML file that describes another judge of refusals than the rules.")
    ] = None,
    seed: Annotated[int, Parameter(help="Seed of sub-sampling, of samples and of all resampling.")] = 0,
    writing: Annotated[EngineOptions, Parameter(name="*")] = EngineOptions(),  # noqa: B008 - a frozen default
    chat: Annotated[ChatOptions, Parameter(name="*")] = ChatOptions(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Score both models of a pair on a probe set, or on a benchmark of the field by that benchmark's own formula.

    Until the table is whole, answers and labels are kept in a folder beside the file of --out, or in runs/. The same
    command goes on from there.
    """
    from mechdrift.audits.plan import generation_dtype, load_from
    from mechdrift.behaviour.benchmark_scores.asking import score_benchmark
    from mechdrift.behaviour.benchmark_scores.exact import draw_tasks, load_tasks
    from mechdrift.behaviour.judges.files import load_judge
    from mechdrift.behaviour.one_call import score as score_pair
    from mechdrift.probes.benchmarks.loading import subset
    from mechdrift.probes.benchmarks.registry import BENCHMARKS
    from mechdrift.probes.sets import load_probes

    for name, value in (("--limit", limit), ("--samples", samples)):
        if value is not None and value < 1:
            raise MechdriftError(f"{name} should be 1 or more; it is {value}.")
    if not COLDEST <= temperature <= HOTTEST:
        raise MechdriftError(f"--temperature should be above 0 ({COLDEST:g} to {HOTTEST:g}); it is {temperature:g}.")
    Sampling(samples=samples, temperature=temperature if samples > 1 else 0.0, seed=seed)  # or raises, before all else
    if out:
        _check_can_write(out)
    limits = {"think": think, "answer": answer, "think_max": think_max}
    models = {"pair": pair, "instruct": instruct, "reasoning": reasoning, "adapter": adapter}
    source = Audit(**models, **limits, **asdict(writing), chat=chat)
    settings = {
        "budget": source.budget,
        "think_max": think_max,
        "samples": samples,
        "temperature": temperature,
        "seed": seed,
        "judge": load_judge(judge) if judge else None,
        "engine": {side: source.engine_of(side) for side in SIDES},
        "dtype": generation_dtype(source),
        "keep": out.parent if out else Path("runs"),
    }
    if answers is not None:
        from mechdrift.behaviour.imported.command import score_files

        table, notes = score_files(probes, path, answers, settings["judge"], chat, seed)
        print("\n".join(notes), file=sys.stderr)
    elif probes in BENCHMARKS and BENCHMARKS[probes].read is None:
        table = score_benchmark(load_from(source), draw_tasks(load_tasks(probes, path), limit, seed), **settings)
    else:
        asked = load_probes(probes, path)
        asked = (
            asked
            if limit is None
            else subset(asked, limit, seed)
            if asked.benchmark
            else asked.sample(-(-limit // 2), seed)
        )
        table = score_pair(load_from(source), asked, **settings).frame
    _print_scores(table)
    if out:
        try:
            for_spreadsheets(table).to_csv(out, index=False)
        except OSError as error:
            raise MechdriftError(
                f"{out} could not be written ({error.strerror}): give another file with --out."
            ) from error


def _check_can_write(out: Path) -> None:
    """Raise, before models are asked for hours, where a result could not be written afterwards."""
    if out.is_dir() or not out.parent.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise MechdriftError(f"{out} cannot be written: give a file in a folder that exists with --out.")


def _print_scores(table: "pd.DataFrame") -> None:
    counts = [
        name
        for name in table.columns
        if name.startswith(("incomplete_", "cut_", "unanswered_", "failed_")) and table[name].any()
    ]
    tested = [name for name in ("p", "mde") if name in table]
    columns = ["metric", "n", *counts, "instruct", "reasoning", "difference", "low", "high", *tested]
    print(table[columns].to_string(index=False, na_rep="", float_format=lambda x: f"{x:.3f}"))
    reasons = dict.fromkeys(table[table.headline.astype(bool)].reason if "headline" in table else table.reason)
    for reason in filter(None, reasons):
        print(f"\ncannot tell: {reason}")
    if judges := ", ".join(dict.fromkeys(table.judge)):
        smallest = "; mde: the smallest difference that this design finds in 80 % of cases" if "mde" in table else ""
        print(
            f"\njudged by: {judges}; low and high: 95 % interval of the difference (reasoning - instruct), "
            f"over families, those that were not asked included{smallest}"
        )
    unread = {
        side: table[[name for name in counts if name.endswith(side)]].sum(axis=1) for side in ("instruct", "reasoning")
    }
    if many := [side for side, count in unread.items() if (count > table.n / 2).any()]:
        print(
            (
                f"more than half of the {' and '.join(many)} answers to some metric could not be read: its numbers "
                "say little"
            ),
            file=sys.stderr,
        )


@app.command(
    help_epilogue="""Examples:

    mechdrift bench
    mechdrift bench --grid
    mechdrift bench --audit
    mechdrift bench --planted --seed 7
    mechdrift bench --planted --model smollm2-aligned --cases 30 --out planted.md
    mechdrift bench --planted-behaviour --items 1 --out controls.md"""
)
def bench(
    *,
    grid: Annotated[bool, Parameter(negative="")] = False,
    audit: Annotated[bool, Parameter(negative="")] = False,
    planted: Annotated[bool, Parameter(negative="")] = False,
    planted_behaviour: Annotated[bool, Parameter(negative="")] = False,
    model: str | None = None,
    cases: int | None = None,
    items: int = 3,
    seed: int = 0,
    out: Path | None = None,
    debug: Debug = False,
) -> None:
    """Measure this machine: capture and generation against plain Hugging Face, the patch engine against one pass per
    cell.

    Prints ratios taken in one run, which can be compared between machines; seconds cannot.

    Parameters
    ----------
    grid
        Time patch grids of every kind against TransformerLens, and how their cost grows with layers, positions and
        prompts.
    audit
        Audit an embedded pair with the quick preset, and say what each stage takes in forward passes, beside the least.
    planted
        Score every way of locating erosion on children of an aligned model, in which it was planted at known places.
    planted_behaviour
        Positive controls: train children that lose one of the six behaviours, and decoys; say what an audit calls, and
        what is true.
    model
        Of --audit: an embedded pair or a pair file, by default smollm2-sft. Of --planted: the parent, tiny (trained
        from scratch in half a minute) or smollm2-aligned. Of --planted-behaviour: smollm2-aligned, or a chat model's
        Hugging Face id or folder.
    cases
        How many children with erosion, by default 40 and 24; decoys come on top.
    items
        Of --planted-behaviour: how many triggers of every family are asked where nothing was planted, 1 to 3.
    seed
        Another seed, other children (and of --planted another tiny parent).
    out
        Write the tables to this Markdown file; of --planted, every child's scores to a .jsonl file, as they come. Of
        --planted-behaviour, adapters and answers are kept in a folder beside it, or in runs/, and not made again.
    """
    from mechdrift.bench.grids import print_grids
    from mechdrift.bench.machine import PAIR, print_bench
    from mechdrift.bench.stages import print_stages
    from mechdrift.planting.behaviours.command import print_planted_behaviour
    from mechdrift.planting.benchmark import print_planted

    check_seed(seed)
    if planted_behaviour:
        print_planted_behaviour(model or "smollm2-aligned", 24 if cases is None else cases, seed, out, items)
    elif planted:
        print_planted(model or "tiny", 40 if cases is None else cases, seed, out)
    elif audit:
        print_stages(model or PAIR)
    elif grid:
        print_grids()
    else:
        print_bench()


def main() -> None:
    """Entry point. Everything a user can do wrong ends here in one sentence."""
    arguments = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):  # a pipe may have another encoding, which knows no minus sign
        if hasattr(stream, "reconfigure"):  # not where somebody put another stream in its place
            stream.reconfigure(encoding="utf-8")
    try:
        _be_quiet()
        with _harmless_output(), _stopped_by_sigterm():
            app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except (MechdriftError, CycloptsError) as error:
        if "--debug" in arguments:
            raise
        print("mechdrift:", shown(" ".join(str(error).split())), file=sys.stderr)
        sys.exit(1)
    except (
        BrokenPipeError
    ):  # whoever read our output, such as head, has gone; Python would complain once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a name that is too long, a disk that is gone: what no check can foresee
        if "--debug" in arguments:
            raise
        print("mechdrift:", shown(" ".join(str(error).split())), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(f"\n{MESSAGE}", file=sys.stderr)
        sys.exit(143 if isinstance(stop, _Terminated) else 130)
    except (MemoryError, RuntimeError) as error:
        if "--debug" in arguments or not is_out_of_memory(error):
            raise
        print(OUT_OF_MEMORY, file=sys.stderr)
        sys.exit(1)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Harmless:
    """A stream that shows what it is given, and obeys none of it."""

    def __init__(self, stream: Any) -> None:
        self.own = stream

    def write(self, text: str) -> int:
        self.own.write(shown(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


@contextmanager
def _harmless_output() -> Iterator[None]:
    """Standard output through `shown`. On standard error, where progress bars move the cursor, each text is."""
    stream = sys.stdout
    sys.stdout = _Harmless(stream)
    try:
        yield
    finally:
        sys.stdout = stream


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"mechdrift: {message}\n"


def _be_quiet() -> None:
    """Keep the libraries' own chatter off the terminal; it says nothing a user of mechdrift can act on.

    transformers reads its two variables when it is first imported, which only commands that load a model do.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")
    warnings.filterwarnings(
        "always", ".* is now called ", DeprecationWarning
    )  # `errors.warn_renamed`: the user's words
    warnings.formatwarning = _one_line
    logging.getLogger("transformers").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
