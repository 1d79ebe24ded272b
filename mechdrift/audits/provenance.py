"""Do the parts of an audit belong together? The provenance of each part, and the checks of it.

A part names the run, the package versions, the files that it was read from and the weights of the models
(`parts.Key`). A shard is refused where its run, versions or number of shards differ from those of the parts that are
there.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mechdrift.audits.parts import (
    SEAL,
    Key,
    Shard,
    digest_of,
    finished_parts,
    first_missing,
    parts_of,
    read_seal,
    shard_of,
)
from mechdrift.audits.pipeline import software
from mechdrift.audits.plan import AuditPlan
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.steps import WHOLE, Step, steps_of
from mechdrift.pairs.pair import Pair
from mechdrift.records import MechdriftError
from mechdrift.runs import Run, sha256

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element


def key_of(run: Run, plan: AuditPlan, step: Step, shard: Shard) -> Key:
    """What this shard's part is of. Raises where something is missing that the step reads."""
    check_before(run, plan, step.behind, step.name)
    files = {name: sha256(run.folder / name) for name in step.needs if (run.folder / name).exists()}
    for name in step.after:
        found = finished_parts(run.folder, name)
        if missing := first_missing(found):
            raise MechdriftError(f"{step.name} reads what {name} asks: shard {missing} of that is not finished.")
        files |= {f"{place.name}/{SEAL}": sha256(place / SEAL) for place in found}
    return Key(
        step=step.name,
        shard=str(shard),
        run=digest_of(run.manifest["identity"]),
        versions=software()["versions"],
        read_from=files,
    )


def check_before(run: Run, plan: AuditPlan, behind: Sequence[str], step: str) -> None:
    """Raise where a stage that comes before this step is not finished."""
    stages = [stage.name for stage in stages_of(plan.config)]
    if step in WHOLE and step not in stages:
        raise MechdriftError(f"this audit has no step {step}: its budgets are given, so that nothing is measured.")
    if before := [name for name in behind if name in stages and name not in run.finished]:
        raise MechdriftError(
            f"{run.folder} has not finished its stage {before[0]}, which {step} follows: run its steps "
            f"({', '.join(steps_of(before[0]))}) and 'mechdrift merge {run.folder}' first."
        )


def check_key(place: Path, key: Key) -> None:
    """Raise where a finished part is of something else than `key`."""
    found = read_seal(place)["key"]
    if found["run"] != key.run:
        raise MechdriftError(f"{place} is a shard of another run: delete it, or give another folder with --out.")
    if found["versions"] != dict(key.versions):
        name = next(name for name in key.versions if found["versions"].get(name) != key.versions[name])
        raise MechdriftError(
            f"{place} was made with {name} {found['versions'].get(name)}, and this is {key.versions[name]}: use one "
            "version for all shards, or delete the folder and run that shard again."
        )
    if found["read_from"] != dict(key.read_from):
        raise MechdriftError(f"{place} was read from files that have changed: delete it and run that shard again.")


def check_others(folder: Path, key: Key) -> None:
    """Raise where this step has parts of another number of shards."""
    count = Shard.parse(key.shard).count
    others = {shard_of(place).count for place in parts_of(folder).glob(f"{key.step}-*of*")} - {count}
    if others:
        raise MechdriftError(
            f"{key.step} has been divided into {min(others)} shards, and this is one of {count}: go on with the same "
            f"number, or delete {parts_of(folder) / key.step}-*of{min(others)}."
        )


# Weights.


def weights_in(pair: Pair) -> dict[str, str]:
    """Hashes of the models that a step leaves open, by side and number format."""
    return {
        f"{side} ({dtype})": bits_of(loaded.model)
        for side, cache in pair.models.items()
        for dtype, loaded in cache.loaded.items()
    }


def bits_of(model: PreTrainedModel) -> str:
    """A short hash of all parameters: names, shapes, and sums of their bits as whole numbers.

    Whole numbers add up to the same in any order, and so on any device, unlike floating-point numbers (`fingerprint`).
    One of the sums weighs each row by its place.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        if parameter.device.type != "meta":
            whole = INTEGERS[parameter.element_size()]
            rows = parameter.detach().contiguous().view(whole).reshape(len(parameter) if parameter.dim() else 1, -1)
            sums = rows.sum(1, dtype=torch.int64)
            places = torch.arange(1, len(sums) + 1, device=sums.device)
            digest.update(f"{sums.sum().item()} {(sums * places).sum().item()}".encode())
    return digest.hexdigest()[:16]
