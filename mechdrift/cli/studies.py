"""Commands for many audits as one plan, and for one audit on many machines."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mechdrift.cli.options import Debug, StudyFile

if TYPE_CHECKING:
    from mechdrift.studies.study import Study


def plan(
    study: StudyFile,
    /,
    *,
    dry_run: Annotated[bool, Parameter(help="Print a table instead of JSON lines.")] = False,
    debug: Debug = False,
) -> None:
    """Print the cells of a study as JSON lines: which waits for which, and the tokens and memory that each takes.
    Loads no weights.

    Examples:

        mechdrift plan study.toml --dry-run
        mechdrift plan study.toml > cells.jsonl
    """
    read = _read(study)

    from mechdrift.studies.cells import as_table
    from mechdrift.studies.planning import plan_cells

    cells = plan_cells(read)
    print(as_table(cells) if dry_run else "\n".join(cell.line for cell in cells))


def run(
    study: StudyFile,
    /,
    *,
    launcher: Annotated[
        Literal["local", "ray", "slurm"],
        Parameter(help="local starts one process per device, ray uses a cluster, slurm writes files for sbatch."),
    ] = "local",
    workers: Annotated[
        int | None, Parameter(help="How many processes. Default: one per accelerator, or one without any.")
    ] = None,
    address: Annotated[
        str | None, Parameter(help="Address of the Ray cluster. Default: this machine's, or a new one.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Do every cell of a study that is not done yet. The same command goes on where it stopped, and ends with exit
    code 2 where cells failed.

    Examples:

        mechdrift run study.toml
        mechdrift run study.toml --launcher ray --address auto
        mechdrift run study.toml --launcher slurm
    """
    from mechdrift.studies.launch import run_study
    from mechdrift.studies.slurm import prepare

    _read(study)
    if launcher == "slurm":
        print(f"submit with: bash {prepare(study)}")
        return
    ended = run_study(study, launcher=launcher, workers=workers, address=address)
    print(f"{ended.done:,} cells done, {len(ended.failed):,} not; see mechdrift status {study}")
    sys.stdout.flush()
    sys.exit(2 if ended.failed else 0)


def _read(file: Path) -> "Study":
    """A study file. The stress modes and repairs that it names are looked up before hours of audits begin."""
    from mechdrift.studies.study import read_study

    study = read_study(file)
    if study.stress or study.repairs:
        from mechdrift.repairs.registry import find_repair
        from mechdrift.stress_tests.registry import mode_of

        for find, names in ((mode_of, study.stress), (find_repair, study.repairs)):
            for name in names:
                find(name)
    return study


def status(
    study: StudyFile,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write a page to this file, instead of text.")] = None,
    debug: Debug = False,
) -> None:
    """Say where a study stands: cells done, running and failed, by cause, and the time left. Changes nothing.

    Examples:

        mechdrift status study.toml
        mechdrift status study.toml --out status.html
    """
    from mechdrift.studies.status import status_of
    from mechdrift.studies.study import read_study

    found = status_of(read_study(study))
    print(f"status: {found.report(out)}" if out else found.text)


def work(
    study: StudyFile,
    /,
    *,
    cells: Annotated[tuple[str, ...], Parameter(help="Ids of cells, as `mechdrift plan` prints them.")],
    debug: Debug = False,
) -> None:
    """Do the named cells of a study in this process. Jobs of a scheduler run this command.

    Examples:

        mechdrift work study.toml --cells 05a1ce1134ab
    """
    from mechdrift.studies.launch import work as do

    do(study, cells)


def merge(
    run: Annotated[Path, Parameter(help="The run folder; its shards lie beside it, in RUN.parts.")],
    /,
    *,
    debug: Debug = False,
) -> None:
    """Join the shards of an audit into the run that one process would have written, as far as they are there. Loads no
    weights.

    Examples:

        mechdrift merge runs/mine
    """
    from mechdrift.audits.merging import merge as join

    joined, missing = join(run)
    for name in missing:
        print(f"missing: {name}")
    if not missing:
        print(f"report: {joined.folder / 'report.html'}")
