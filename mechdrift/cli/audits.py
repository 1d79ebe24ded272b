"""Commands that ask models: an audit, a stress test, the checkpoints of one training, the price of repairs."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mechdrift.audits.config import Audit, Preset
from mechdrift.audits.options import CHAT
from mechdrift.cli.options import Debug, PairArgument, RunFolder
from mechdrift.pairs.chat import ChatOptions
from mechdrift.records import DIMENSIONS, MechdriftError
from mechdrift.stress_tests.options import StressOptions


def audit(
    pair: PairArgument = None,
    /,
    *,
    config: Annotated[Audit, Parameter(name="*")] = Audit(),  # noqa: B008 - a frozen default
    control: Annotated[str | None, Parameter(show=False)] = None,  # the old name of --null-model
    dry_run: Annotated[bool, Parameter(help="Only print what would be asked, whether it fits, and the time.")] = False,
    step: Annotated[str | None, Parameter(help="Do one step only, for an audit on several machines.")] = None,
    shard: Annotated[str, Parameter(help="With --step: which part of how many, such as 2/4.")] = "1/1",
    debug: Debug = False,
) -> None:
    """Audit a pair: ask both models, compare their insides, patch, and write runs/PAIR/report.html.

    Examples:

        mechdrift audit smollm2-sft --preset quick
        mechdrift audit --instruct models/parent --reasoning models/child
        mechdrift audit --instruct org/chat --adapter my-lora --dimensions bias
        mechdrift audit pair.toml --dry-run
        mechdrift audit pair.toml --no-until-decided --step kl --shard 2/4
    """
    config = replace(config, control=control) if control else config
    config = replace(config, pair=pair) if pair else config
    if shard != "1/1" and not step:
        raise MechdriftError("--shard divides one step of an audit: say which with --step.")
    if dry_run:
        from mechdrift.audits.estimate import print_dry_run

        print_dry_run(config)
    elif step:
        from mechdrift.audits.parts import Shard
        from mechdrift.audits.shards import run_step

        print(f"finished: {run_step(config, step, Shard.parse(shard))}")
    else:
        from mechdrift.audits.pipeline import audit as run_audit

        print(f"report: {run_audit(config).folder / 'report.html'}")


def stress(
    pair: PairArgument = None,
    /,
    *,
    config: Annotated[StressOptions, Parameter(name="*")] = StressOptions(),  # noqa: B008 - a frozen default
    chat: Annotated[ChatOptions, Parameter(name="*", group=CHAT)] = ChatOptions(),  # noqa: B008 - a frozen default
    list_modes: Annotated[bool, Parameter(name="--list", help="Only list the modes and their doses.")] = False,
    debug: Debug = False,
) -> None:
    """Stress-test both models: empty, cut, long and prefilled thoughts, puzzles, roles, persistence, samples; on
    triggers and twins, with placebos.

    Examples:

        mechdrift stress smollm2-sft --pairs 16
        mechdrift stress pair.toml --probes safety privacy \\
            --modes puzzle zero-think --doses puzzle=250,1000
        mechdrift stress smollm2-sft --probes xstest --path xstest_prompts.csv
        mechdrift stress --list
    """
    from mechdrift.stress_tests.command import list_of_modes, run_stress

    config = replace(config, pair=pair) if pair else config
    print(list_of_modes() if list_modes else run_stress(config, chat))


def trajectory(
    folder: Annotated[Path, Parameter(help="A folder of checkpoints with its history.json.")],
    /,
    *,
    preset: Annotated[Preset, Parameter(help="How much to ask at every checkpoint.")] = "quick",
    dimensions: Annotated[tuple[str, ...], Parameter(help="Which dimensions to audit.")] = tuple(DIMENSIONS),
    think: Annotated[
        int | None, Parameter(help="The most tokens that a checkpoint may think. Default: the preset's.")
    ] = None,
    answer: Annotated[
        int | None, Parameter(help="The most tokens that an answer may have. Default: the preset's.")
    ] = None,
    seed: Annotated[int, Parameter(help="Seed of sub-sampling and of all resampling.")] = 0,
    device: Annotated[str, Parameter(help="A device such as cuda:0. auto takes cuda, then mps, then cpu.")] = "auto",
    out: Annotated[Path | None, Parameter(help="The run folder. Default: runs/NAME-trajectory.")] = None,
    debug: Debug = False,
) -> None:
    """Audit the checkpoints of one training run: when alignment goes, when reasoning comes, and what moves first
    inside.

    Examples:

        mechdrift trajectory checkpoints/smollm2-sft
        mechdrift trajectory checkpoints/mine --preset standard --out runs/mine
    """
    from mechdrift.trajectories.run import trajectory as follow

    size = {"preset": preset, "dimensions": dimensions, "think": think, "answer": answer}
    found = follow(folder, **size, out=out, seed=seed, device=device)
    print("\n".join(found.sentences))
    print(f"trajectory: {found.run.folder / 'trajectory.html'}")


def repair(
    run: RunFolder,
    /,
    *,
    methods: Annotated[tuple[str, ...], Parameter(help="Which repairs. Default: all that need no training.")] = (),
    strengths: Annotated[tuple[float, ...], Parameter(help="Strengths to try, instead of each method's own.")] = (),
    pick: Annotated[
        str | None,
        Parameter(help="Write out the best repair within these limits, in points: 'reasoning >= -2, twins >= -3'."),
    ] = None,
    pairs: Annotated[int | None, Parameter(help="The most twin pairs per dimension and half.")] = None,
    tasks: Annotated[int | None, Parameter(help="The most reasoning tasks per half.")] = None,
    base: Annotated[str | None, Parameter(help="The model before alignment, for methods that need it.")] = None,
    seed: Annotated[int, Parameter(help="Seed of the halves and of everything that is drawn.")] = 0,
    out: Annotated[Path | None, Parameter(help="The folder of the price list. Default: RUN/repair.")] = None,
    debug: Debug = False,
) -> None:
    """Repair the child of an audited pair in several ways, and print a price list: what each repair brings back of
    alignment, and what it costs.

    Examples:

        mechdrift repair runs/smollm2-sft
        mechdrift repair runs/smollm2-sft --methods located random --pairs 8
        mechdrift repair runs/smollm2-sft --pick "reasoning >= -2, twins >= -3"
    """
    from mechdrift.runs import load_run

    load_run(run)  # a folder that is no run is named before torch is imported

    from mechdrift.repairs.command import run_repair

    how = {"methods": methods, "strengths": strengths or None, "pairs": pairs, "tasks": tasks, "base": base}
    print(run_repair(run, pick, **how, out=out, seed=seed))
