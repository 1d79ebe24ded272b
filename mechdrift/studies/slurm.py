"""The launcher `slurm`: a job array per wave of cells, one after the other.

Cells that can run side by side form one array. The next array begins when the last has ended, with or without failures;
a cell that still waits for another one ends with a sentence that says so. After a failure, the same command writes (or
submits) arrays of the cells that are left.

The written files need nothing but `sbatch`. With submitit installed, `submit` submits the waves itself.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechdrift.records import MechdriftError
from mechdrift.runs import placed
from mechdrift.studies.cells import Cell, waves_of
from mechdrift.studies.launch import planned, work
from mechdrift.studies.ledger import Ledger
from mechdrift.studies.storage import Store
from mechdrift.studies.study import read_study

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --output={logs}/{wave}-%a.log
{options}cells=({ids})
exec {command} --cells "${{cells[$SLURM_ARRAY_TASK_ID]}}"
"""
SUBMIT = """#!/bin/bash
# Submits all waves, each after the one before. Append options of sbatch, such as: bash {name} --partition gpu
set -e
cd "$(dirname "$0")"
job=$(sbatch --parsable "$@" wave-00.sbatch)
for wave in {rest}; do
  job=$(sbatch --parsable --dependency="afterany:$job" "$@" "$wave")
done
echo "last job: $job"
"""


def prepare(file: Path) -> Path:
    """Begin a study, or go on with it, and write what sbatch needs into a folder beside it; returns `submit.sh`."""
    study = read_study(file)
    cells, ledger = planned(study), Ledger(store=Store(study.out))
    ledger.open(study, cells)
    done = [id for id, state in ledger.states().items() if state == "done"]
    folder = Path(study.out) if ledger.store.is_local else ledger.store.local
    return write_scripts(file, cells, done, folder.with_name(f"{folder.name}.slurm"))


def write_scripts(study_file: Path, cells: Sequence[Cell], done: Sequence[str], folder: Path) -> Path:
    """Write `wave-NN.sbatch` files and `submit.sh` for what is not done; returns the latter."""
    waves = _left(cells, done)
    command = shlex.join([sys.executable, "-m", "mechdrift.cli", "work", str(study_file.resolve())])
    for place, wave in enumerate(waves):
        options = "#SBATCH --gres=gpu:1\n" if any(cell.device != "cpu" for cell in wave) else ""
        text = SCRIPT.format(
            name=f"mechdrift-{place:02}",
            last=len(wave) - 1,
            logs=shlex.quote(str(folder / "logs")),
            wave=f"wave-{place:02}",
            options=options,
            ids=" ".join(cell.id for cell in wave),
            command=command,
        )
        with placed(folder / f"wave-{place:02}.sbatch") as temporary:
            temporary.write_text(text, encoding="utf-8")
    (folder / "logs").mkdir(exist_ok=True)
    rest = " ".join(f"wave-{place:02}.sbatch" for place in range(1, len(waves)))
    with placed(folder / "submit.sh") as temporary:
        temporary.write_text(SUBMIT.format(name="submit.sh", rest=rest), encoding="utf-8")
    return folder / "submit.sh"


def submit(
    study_file: Path,
    cells: Sequence[Cell],
    done: Sequence[str],
    folder: Path,
    cluster: str | None = None,
    **options: Any,
) -> list[Any]:
    """Hand all waves to submitit; `options` are its own, such as `slurm_partition`. Returns its jobs."""
    try:
        import submitit
    except ImportError as error:
        raise MechdriftError(
            "handing jobs over needs submitit: install it with pip install 'mechdrift[slurm]'."
        ) from error
    jobs: list[list[Any]] = []
    for wave in _left(cells, done):
        executor = submitit.AutoExecutor(folder=folder / "logs", cluster=cluster)
        if jobs and executor.cluster == "slurm":
            before = jobs[-1][0].job_id.split("_")[0]
            options["slurm_additional_parameters"] = {"dependency": f"afterany:{before}"}
        executor.update_parameters(name="mechdrift", **options)
        jobs.append(executor.map_array(work, [study_file] * len(wave), [[cell.id] for cell in wave]))
        if executor.cluster != "slurm":  # only Slurm makes one wave wait for another
            for job in jobs[-1]:
                job.exception()
    return [job for wave in jobs for job in wave]


def _left(cells: Sequence[Cell], done: Sequence[str]) -> list[list[Cell]]:
    finished = set(done)
    waves = [[cell for cell in wave if cell.id not in finished] for wave in waves_of(cells)]
    if not (left := [wave for wave in waves if wave]):
        raise MechdriftError("nothing is left to do: every cell is done.")
    return left
