"""Open a run folder: to read a run (`load_run`), or to start or continue one (`open_run`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechdrift.errors import MechdriftError
from mechdrift.runs.files import LOCK, PART, folder_lock
from mechdrift.runs.manifest import SCHEMA, read_manifest
from mechdrift.runs.run import Run


def load_run(folder: str | Path) -> Run:
    """Open a run folder that an audit or a trajectory wrote. Loads no model.

    Args:
        folder: the folder with `run.json`.

    Returns:
        A `Run`: `.table(name)`, `.tensors(name)`, `.manifest`, `.report()`, `.card()`.

    Raises:
        MechdriftError: when the folder is no run folder, or was written in a schema that this version cannot read.

    Source:
        The files of a run folder: `mechdrift.runs`.

    Example:
        >>> run = md.load_run(folder)
        >>> headline = run.table("scores").query("headline")[["dimension", "instruct", "reasoning"]]
    """
    run = Run(Path(folder))
    read_manifest(run.folder)
    return run


def open_run(folder: Path, identity: Mapping[str, Any], manifest: Mapping[str, Any]) -> Run:
    """Open `folder` to continue a run, or to start it. `identity` holds what must be the same in both.

    To write to it, enter `run.locked()`.
    """
    if not (folder / "run.json").exists():
        _make(folder)
        with folder_lock(folder):  # of two first starts one makes it, and the other finds it made
            if not (folder / "run.json").exists():
                Run(folder).write_manifest({"schema": SCHEMA, "identity": dict(identity), **manifest, "stages": {}})
    run = load_run(folder)
    stored = run.manifest
    if stored["schema"] < SCHEMA:
        raise MechdriftError(
            f"{folder} was written by an earlier version (schema {stored['schema']}, now {SCHEMA}): it can be reported "
            "and compared, but not gone on with; give another folder with --out."
        )
    if different := [key for key, value in identity.items() if stored["identity"].get(key) != value]:
        key = different[0]
        raise MechdriftError(
            f"{folder} holds another run ({key} is {stored['identity'].get(key)!r} there, {identity[key]!r} here): "
            "give another folder with --out, or delete this one."
        )
    return run


def _make(folder: Path) -> None:
    """The folder of a new run; raises when it cannot be made, or holds something else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_free = all(file.name in (LOCK, "run.json") or file.match(PART.format("*", "*")) for file in folder.iterdir())
    except OSError as error:
        raise MechdriftError(f"{folder} cannot be made ({error.strerror}): give another folder with --out.") from error
    if not is_free:
        raise MechdriftError(f"{folder} is not empty and is not a run folder: give another folder with --out.")
