"""A run: a folder with everything one audit computed, that anyone can open.

    run.json            schema number, config, versions, seeds, hashes, pair audit, timings, finished stages
    *.parquet           tables (scores, completions, readouts, drift, patch, kl, …)
    *.safetensors       tensors (directions)
    report.html         the page; `figures/` the single figures

Nothing is pickled. Every file is written under another name and moved into place, so it is there whole or not at all,
and its SHA-256 is recorded in run.json when its stage ends: a killed run goes on at the first unfinished stage, and a
damaged file is named, never read half. A run folder belongs to one configuration: another pair or preset is refused.
One process at a time writes to it (`.lock`).

Every table has a schema (`mechdrift.tables`), which is checked when it is written and when it is read. The schema
number in run.json rises when tables get columns or values get other names. Folders of earlier numbers are read, with
what they lack filled in as missing and in today's words, but not gone on with: they can be reported and compared, and a
new audit needs a folder of its own.
"""

import errno
import hashlib
import html
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from mechdrift.errors import MechdriftError
from mechdrift.records.foreign import DATA_LIMIT, check_ends_somewhere, read_whole, shown
from mechdrift.tables.manifest import in_todays_words, manifest_fault
from mechdrift.tables.registry import table_of

if TYPE_CHECKING:  # a manifest is read without them
    import pandas as pd
    from torch import Tensor

    from mechdrift.report.gallery import Figures

SCHEMA = 3
START_ANEW = "delete the folder and run the audit again."
OLDEST = 1  # the earliest schema that can be read
OWN = (".json", ".parquet", ".safetensors", ".csv")  # what a run keeps its data in
PART = ".{}.{}.part"  # a file that is being written: its name, and the process; a kill can leave one behind
MOST_CELLS = 1_000_000_000  # of a table; the largest audits have a few million
LOCK = ".lock"
PATIENCE = 1.0  # seconds to wait for the lock: a second start holds it only for the moment in which it finds that out
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of file systems that know no locks, as some network ones
REMEDY = "free space or give another folder with --out; the run goes on where it stopped when you start it again."


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
        """A stored table, with today's columns; raises, naming the file, when it is missing, damaged or of another
        form than its schema says."""
        import pandas as pd
        import pyarrow.parquet as pq

        file, schema = self._checked(f"{name}.parquet"), self.manifest["schema"]
        try:
            shape = pq.read_metadata(file)
            if shape.num_rows * shape.num_columns > MOST_CELLS:  # a column of one value takes no room in a file
                raise MechdriftError(f"{file} unpacks to more than {MOST_CELLS:,} cells: it was changed; audit again.")
            table = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise MechdriftError(f"{file} is damaged: delete it and run the audit again.") from error
        table = table_of(name).upgraded(table, schema)
        if fault := table_of(name).fault(table):
            raise MechdriftError(f"{file} {fault}: it was changed, or is of another version; run the audit again.")
        return table

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
        """Store a table; raises when it does not fit its schema. One without rows is stored with all its columns."""
        table = table_of(name).complete(table)
        table_of(name).check_new(table)
        with placed(self.folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)

    def write_tensors(self, name: str, tensors: "Mapping[str, Tensor]") -> None:
        from safetensors.torch import save_file

        with placed(self.folder / f"{name}.safetensors") as temporary:
            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)

    def write_text(self, file_name: str, text: str) -> Path:
        with placed(self.folder / file_name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return self.folder / file_name

    def finish(
        self, stage: str, seconds: float, files: tuple[str, ...] = (), *, keep: bool = False, **facts: Any
    ) -> None:
        """Record a finished stage: its time, its files' hashes, and facts to keep in the manifest.

        What the stage had kept of its unfinished work (`<stage>-*.partial.*`) goes only then: a kill before loses
        nothing. `keep` leaves it there, for a stage that may be run again with more to go on.
        """
        manifest = self.manifest
        manifest["stages"][stage] = {
            "seconds": round(seconds, 2),
            "files": {file: sha256(self.folder / file) for file in files},
        }
        manifest.update(facts)
        self.write_manifest(manifest)
        self.remove_partials(() if keep else (stage,))

    def remove_partials(self, stages: Collection[str]) -> None:
        """Remove what stages had kept of their unfinished work."""
        for stage in stages:
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
    def scratch(self) -> Iterator[Path]:
        """A folder for what a stage keeps only while it runs, beside the run's files, where there is room for them. It
        is removed at the end; what a killed stage left there, when the next one starts."""
        for leftover in self.folder.glob(PART.format("scratch", "*")):
            shutil.rmtree(leftover, ignore_errors=True)
        folder = self.folder / PART.format("scratch", os.getpid())
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def locked(self, who: str = "audit") -> Iterator[None]:
        """Keep other audits out of the folder for as long as this one writes to it; raises when another one does.

        What a kill left half written is removed, now that nobody else can be writing it.
        """
        with folder_lock(self.folder, who):
            remove_leftovers(self.folder)
            yield

    @property
    def is_stress_test(self) -> bool:
        """Whether the folder is of a stress test, which has tables and a page of its own."""
        return "stress" in self.manifest["identity"]

    @property
    def is_price_list(self) -> bool:
        """Whether the folder is of repairs of a child, which have a table and a page of their own."""
        return "repairs of" in self.manifest["identity"]

    def check_is_audit(self) -> None:
        """Raise where the folder is of a stress test, of repairs, or of a trajectory: it lacks an audit's tables, or
        its answers are judged in another way."""
        if self.is_price_list:
            raise MechdriftError(
                f"{self.folder} is a price list of repairs and no audit: read its repair.html, or draw that again with "
                "mechdrift report."
            )
        if self.is_stress_test:
            raise MechdriftError(
                f"{self.folder} belongs to a stress test and is no audit: read its stress.html, or hold it against "
                "limits with --max-lift."
            )
        if {"history", "history name"} & set(self.manifest["identity"]):
            raise MechdriftError(
                f"{self.folder} belongs to a trajectory and is no audit: read its trajectory.html, or audit the "
                "checkpoint with --adapter."
            )

    def report(self, out: Path | None = None) -> Path:
        """Write `report.html` and `figures/` from what the folder holds, into `out` if it is given; loads no model. A
        stress test's page is `stress.html`."""
        if not self.is_stress_test:
            self.check_is_audit()
        with (Run(made(out)) if out else self).locked("report"):
            from mechdrift.report.of_run import write_page

            return write_page(self, out)

    def card(self) -> str:
        """A section for a model card, as Markdown: scores with intervals, what was found inside, limits, versions,
        hashes of weights. Of a stress test, its modes."""
        if not self.is_stress_test:
            self.check_is_audit()
        from mechdrift.report.of_run import card_of

        return card_of(self)

    @property
    def figures(self) -> "Figures":
        """The figures of the report by name, each drawn when it is asked for: `run.figures["patching"].show()`.

        `list(run.figures)` names them. Loads no model.

        Raises:
            MechdriftError: for a name that the run has no figure of, and where its table holds nothing to draw.
        """
        self.check_is_audit()
        from mechdrift.report.of_run import figures_of

        return figures_of(self)

    @property
    def summary(self) -> str:
        """The pair, the preset and the finished stages, in a line."""
        manifest = self.manifest
        preset = manifest["config"].get("preset", "no preset")
        done = ", ".join(manifest["stages"]) or "none"
        return f"{manifest['config'].get('pair', 'unnamed pair')}, {preset}, in {self.folder}; finished stages: {done}"

    def _repr_html_(self) -> str:
        """What this run is and its headline scores; `run.figures` and `run.report()` show the rest."""
        from mechdrift.records.answers import ScoreTable
        from mechdrift.records.notebook import as_html

        if not self.has("scores.parquet"):
            return f"<p><b>Run</b>: {html.escape(shown(self.summary))}</p>"
        return as_html("Run", self.summary, ScoreTable(frame=self.table("scores")).head)

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
    """What `run.json` says; raises when there is none, when it is damaged, or of a schema that cannot be read."""
    file = folder / "run.json"
    try:
        manifest = json.loads(read_whole(file, DATA_LIMIT).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MechdriftError(
            f"{folder} is not a run folder: it has no run.json; make one with 'mechdrift audit'."
        ) from error
    except OSError as error:
        raise MechdriftError(f"{file} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise MechdriftError(f"{file} is damaged: it is not JSON; {START_ANEW}") from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is int and not OLDEST <= schema <= SCHEMA:
        raise MechdriftError(
            f"{folder} has schema {schema!s:.20}, this version reads schemas {OLDEST} to {SCHEMA}: use another folder "
            "or version."
        )
    if type(schema) is int:
        manifest = in_todays_words(manifest, schema)
    if fault := manifest_fault(manifest):
        raise MechdriftError(f"{file} is damaged: {fault}; {START_ANEW}")
    return manifest


def open_run(folder: Path, identity: Mapping[str, Any], manifest: Mapping[str, Any]) -> Run:
    """Open `folder` to go on with the same audit, or start it. `identity` is what must not differ between the two.

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


def made(folder: Path) -> Path:
    """A folder for pages, which may be there already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdriftError(f"{folder} cannot be made ({error.strerror}): give another folder with --out.") from error
    return folder


def _make(folder: Path) -> None:
    """The folder of a new run; raises when it cannot be made, or holds something else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_free = all(file.name in (LOCK, "run.json") or file.match(PART.format("*", "*")) for file in folder.iterdir())
    except OSError as error:
        raise MechdriftError(f"{folder} cannot be made ({error.strerror}): give another folder with --out.") from error
    if not is_free:
        raise MechdriftError(f"{folder} is not empty and is not a run folder: give another folder with --out.")


@contextmanager
def folder_lock(folder: Path, who: str = "audit", remedy: str = REMEDY) -> Iterator[None]:
    """Hold a folder against other processes; raises when one of them holds it. `who` says what it would be, such as an
    audit; `remedy` what to do where the folder cannot be written to.

    The lock is the operating system's, on the file `.lock`: it ends with the process, killed or not. The file stays,
    empty. On a file system without locks nothing is held.
    """
    check_no_link_out(folder)
    lock = FileLock(folder / LOCK, timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise MechdriftError(f"another {who} is writing to {folder}: wait for it, or give another folder.") from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise MechdriftError(f"{folder} could not be written to ({error.strerror}): {remedy}") from error
    try:
        yield
    finally:
        lock.release()


def check_no_link_out(folder: Path) -> None:
    """Raise where what is written to in place is a link, which in a stranger's folder may lead to any file. All other
    files are written anew and given their name, which replaces a link."""
    for entry in (folder / LOCK, folder / "figures", *folder.glob("*.partial.*")):
        if entry.is_symlink():
            raise MechdriftError(f"{entry} is a link, through which other files would be changed: delete it.")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written. Only for who holds the folder's lock."""
    for leftover in folder.rglob(PART.format("*", "*")):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)


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
        check_ends_somewhere(file)
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise MechdriftError(
            f"{file} cannot be read ({error.strerror}): make it a readable file, or delete it and run again."
        ) from error


@contextmanager
def placed(target: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """A temporary path beside `target`, moved into place when the block ends well and removed when it does not."""
    with part_of(target, remedy) as temporary:
        yield temporary
        move_into_place(temporary, target)


@contextmanager
def part_of(target: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """A temporary path beside `target`; what still lies there when the block ends is removed.

    A disk that is full, gone or read-only becomes one sentence that names `target` and ends with `remedy`.
    """
    temporary = target.with_name(PART.format(target.name, os.getpid()))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except (OSError, SafetensorError) as error:
        raise MechdriftError(
            f"{target} could not be written ({getattr(error, 'strerror', None) or error}): {remedy}"
        ) from error
    finally:
        with suppress(OSError):  # a folder that has become read-only keeps it
            temporary.unlink(missing_ok=True)


def move_into_place(temporary: Path, target: Path) -> None:
    """Give a written file its name, so that after a power loss, too, the old or the whole new file is there."""
    temporary.chmod(0o644)  # safetensors writes files that only their owner can read
    _flush(temporary)
    os.replace(temporary, target)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename is durable
        _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
