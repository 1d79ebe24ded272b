"""A run: a folder with everything one audit computed, that anyone can open.

    run.json            schema number, config, versions, seeds, hashes, pair audit, timings, finished stages
    *.parquet           tables (scores, completions, readouts, drift, patch, kl, …)
    *.safetensors       tensors (directions)
    report.html         the page; `figures/` the single figures

Nothing is pickled. Every file is written under another name and moved into place, so it is there whole or not at all,
and its SHA-256 is recorded in run.json when its stage ends: a killed run goes on at the first unfinished stage, and a
damaged file is named, never read half. A run folder belongs to one configuration: another pair, preset or schema is
refused.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from mechdrift.records import MechdriftError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:  # a manifest is read without them
    import pandas as pd
    from torch import Tensor

SCHEMA = 1
OWN = (".json", ".parquet", ".safetensors", ".csv")  # what a run keeps its data in
EACH = "*"  # of a mapping's values
Shape = Mapping[str, Any]
"""The least that a mapping of the manifest holds: by key a type, or the shape of another mapping."""
SHAPE: Shape = {"identity": {}, "config": {}, "stages": {EACH: {"files": {}, "seconds": float | int}}}
FACTS: Shape = {  # once the stage that finds them has ended
    "pair": {"name": str, "route": str, "instruct": {}, "reasoning": {}, "warnings": list, "fingerprints": {}},
    "probes": {EACH: {"n": int, "families": int}},
    "budgets": {EACH: int},
    "self_tests": {},
    "versions": {},
    "dtypes": {},
}
PART = ".{}.{}.part"  # a file that is being written: its name, and the process; a kill can leave one behind


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, open for reading; the audit writes through the same object."""

    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.folder)

    @property
    def finished(self) -> tuple[str, ...]:
        return tuple(self.manifest["stages"])

    def table(self, name: str) -> "pd.DataFrame":
        """A stored table; raises, naming the file, when it is missing or damaged."""
        import pandas as pd

        file = self._checked(f"{name}.parquet")
        try:
            return pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise MechdriftError(f"{file} is damaged: delete it and run the audit again.") from error

    def has(self, file_name: str) -> bool:
        """Whether a file is there; raises when a finished stage had written it and it is gone."""
        is_there = (self.folder / file_name).exists()
        if not is_there and any(file_name in stage["files"] for stage in self.manifest["stages"].values()):
            self._checked(file_name)
        return is_there

    def tensors(self, name: str) -> "dict[str, Tensor]":
        from safetensors.torch import load_file

        file = self._checked(f"{name}.safetensors")
        try:
            return load_file(file)
        except SafetensorError as error:
            raise MechdriftError(f"{file} is damaged: delete it and run the audit again.") from error

    def write_table(self, name: str, table: "pd.DataFrame") -> None:
        with _placed(self.folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)

    def write_tensors(self, name: str, tensors: "Mapping[str, Tensor]") -> None:
        from safetensors.torch import save_file

        with _placed(self.folder / f"{name}.safetensors") as temporary:
            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)

    def write_text(self, file_name: str, text: str) -> Path:
        with _placed(self.folder / file_name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return self.folder / file_name

    def finish(self, stage: str, seconds: float, files: tuple[str, ...] = (), **facts: Any) -> None:
        """Record a finished stage: its time, its files' hashes, and facts to keep in the manifest.

        What the stage had kept of its unfinished work (`<stage>-*.partial.*`) goes only then: a kill before loses
        nothing.
        """
        manifest = self.manifest
        manifest["stages"][stage] = {
            "seconds": round(seconds, 2),
            "files": {file: sha256(self.folder / file) for file in files},
        }
        manifest.update(facts)
        self.write_manifest(manifest)
        for partial in self.folder.glob(f"{stage}-*.partial.*"):
            partial.unlink()

    def forget(self, stages: Collection[str]) -> None:
        """Take stages off the list of finished ones, because they or what they read will be made again."""
        manifest = self.manifest
        manifest["stages"] = {name: stage for name, stage in manifest["stages"].items() if name not in stages}
        self.write_manifest(manifest)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self.write_text("run.json", json.dumps(manifest, indent=2) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other audits out of the folder for as long as this one writes to it; raises when another one does.

        The lock is the operating system's, on the folder itself: it ends with the process, and leaves nothing behind.
        Where there is no such lock (Windows), nothing is checked.
        """
        if fcntl is None:
            yield
            return
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network file systems know no locks
                _lock(handle, self.folder)
            yield
        finally:
            os.close(handle)

    def check_is_audit(self) -> None:
        """Raise where the folder is of a trajectory: it has an audit's tables, but fewer, and its answers are judged in
        another way."""
        if {"history", "history name"} & set(self.manifest["identity"]):
            raise MechdriftError(
                f"{self.folder} belongs to a trajectory and is no audit: read its trajectory.html, or audit the "
                "checkpoint with --adapter."
            )

    def report(self) -> Path:
        """Write `report.html` from what the folder holds; loads no model."""
        self.check_is_audit()
        from mechdrift.report.page import write_report

        return write_report(self)

    def card(self) -> str:
        """A section for a model card, as Markdown: scores with intervals, what was found inside, limits, versions,
        hashes of weights."""
        self.check_is_audit()
        from mechdrift.report.card import model_card

        return model_card(self)

    def _checked(self, file_name: str) -> Path:
        file = self.folder / file_name
        if not file.exists():
            raise MechdriftError(f"{file} is missing: run the audit again; it goes on where it stopped.")
        for stage in self.manifest["stages"].values():
            expected = stage["files"].get(file_name)
            if expected and sha256(file) != expected:
                raise MechdriftError(
                    f"{file} is damaged (its hash is not the recorded one): delete it and run the audit again."
                )
        return file

    def damaged_stages(self) -> tuple[str, ...]:
        """Finished stages of which a file is missing or changed."""
        stages = self.manifest["stages"].items()
        return tuple(
            name
            for name, stage in stages
            if any(
                not (self.folder / file).exists() or sha256(self.folder / file) != value
                for file, value in stage["files"].items()
            )
        )

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"Run({self.folder}, pair={manifest['config']['pair']}, stages={', '.join(manifest['stages'])})"


def _lock(handle: int, folder: Path) -> None:
    assert fcntl is not None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise MechdriftError(
            f"another audit is writing to {folder}: wait for it, or give another folder with --out."
        ) from error


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `run.json` says; raises when there is none, when it is damaged, or of another schema."""
    file = folder / "run.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        schema = manifest["schema"]
        found = {name: shape for name, shape in FACTS.items() if name in manifest or name in manifest.get("stages", ())}
        is_whole = _fits(manifest, {**SHAPE, **found})
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MechdriftError(
            f"{folder} is not a run folder: it has no run.json; make one with 'mechdrift audit'."
        ) from error
    except OSError as error:
        raise MechdriftError(f"{file} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        schema, is_whole = SCHEMA, False
    if schema != SCHEMA:
        raise MechdriftError(
            f"{folder} has schema {schema}, this version reads schema {SCHEMA}: use another folder or version."
        )
    if not is_whole:
        raise MechdriftError(f"{file} is damaged: delete the folder and run the audit again.")
    return manifest


def _fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape."""
    if not isinstance(shape, Mapping):
        return isinstance(value, shape)
    if not isinstance(value, dict):
        return False
    wanted = dict.fromkeys(value, shape[EACH]) if EACH in shape else shape
    return all(key in value and _fits(value[key], part) for key, part in wanted.items())


def open_run(folder: Path, identity: Mapping[str, Any], manifest: Mapping[str, Any]) -> Run:
    """Open `folder` to go on with the same audit, or start it. `identity` is what must not differ between the two."""
    if (folder / "run.json").exists():
        run = load_run(folder)
        stored = run.manifest["identity"]
        different = [key for key, value in identity.items() if stored.get(key) != value]
        if different:
            key = different[0]
            raise MechdriftError(
                f"{folder} holds another run ({key} is {stored.get(key)!r} there, {identity[key]!r} here): "
                "give another folder with --out, or delete this one."
            )
        for leftover in folder.rglob(PART.format("*", "*")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
        return run
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = all(file.match(PART.format("run.json", "*")) for file in folder.iterdir())
    except OSError as error:
        raise MechdriftError(f"{folder} cannot be made ({error.strerror}): give another folder with --out.") from error
    if not is_empty:
        raise MechdriftError(f"{folder} is not empty and is not a run folder: give another folder with --out.")
    run = Run(folder)
    run.write_manifest({"schema": SCHEMA, "identity": dict(identity), **manifest, "stages": {}})
    return run


def check_target(file: Path) -> Path:
    """The file to write a page or a card to, links followed; raises where that would replace a folder, a device or a
    run's own data."""
    file = file.resolve()
    if file.is_dir():
        raise MechdriftError(f"{file} is a folder: give a file name with --out, such as {file / 'compare.html'}.")
    if file.exists() and not file.is_file():
        raise MechdriftError(f"{file} is no regular file: give another with --out.")
    if (file.parent / "run.json").exists() and file.suffix in OWN:
        raise MechdriftError(f"{file} may be a run's own data: give another file with --out.")
    return file


def sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise MechdriftError(
            f"{file} cannot be read ({error.strerror}): make it a readable file, or delete it and run again."
        ) from error


@contextmanager
def _placed(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, moved into place when the block ends well and removed when it does not."""
    temporary = target.with_name(PART.format(target.name, os.getpid()))
    written = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.chmod(0o644)  # safetensors writes files that only their owner can read
        os.replace(temporary, target)
        written = True
    except (OSError, SafetensorError) as error:
        raise MechdriftError(
            f"{target} could not be written ({getattr(error, 'strerror', None) or error}): free space or give "
            "another folder with "
            "--out; the run goes on where it stopped when you start it again."
        ) from error
    finally:
        if not written:
            with suppress(OSError):  # a folder that has become read-only keeps it
                temporary.unlink(missing_ok=True)
