"""Files that are written whole or not at all, folders that one process holds at a time, and hashes.

Nothing is pickled. Every file is written under another name and then moved into place, so it is there whole or not at
all, even after a power loss. One process at a time writes to a folder (`.lock`).
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from mechdrift.errors import MechdriftError
from mechdrift.records.foreign import check_ends_somewhere

OWN = (".json", ".parquet", ".safetensors", ".csv")  # endings of the files that hold a run's data
PART = ".{}.{}.part"  # name of a file that is being written: its own name and the process; a kill can leave one behind
LOCK = ".lock"
PATIENCE = 1.0  # seconds to wait for the lock; a second start that will be refused holds it only for a moment
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # errors of file systems without locks, as some network ones
NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # full disks, limits of a file's or a user's size
REMEDY = "free space or give another folder with --out; the run goes on where it stopped when you start it again."


def is_no_room(error: OSError | SafetensorError) -> bool:
    """Whether a file could not be written because there is no room; safetensors has an error of its own for that."""
    return getattr(error, "errno", None) in NO_ROOM or "I/O error" in str(error)


def made(folder: Path) -> Path:
    """A folder for pages, which may be there already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdriftError(f"{folder} cannot be made ({error.strerror}): give another folder with --out.") from error
    return folder


@contextmanager
def folder_lock(folder: Path, who: str = "audit", remedy: str = REMEDY) -> Iterator[None]:
    """Inside the block, no other process holds the folder; raises where one does. `who` names the other process in the
    message, such as an audit; `remedy` says what to do where the folder cannot be written to.

    The lock is the operating system's, on the file `.lock`: it ends with the process, killed or not. The file stays,
    empty. On a file system without locks there is none.
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
    """Raise where a path that is written in place is a link: in a stranger's folder it may lead to any file. All other
    files are written anew and moved into place, which replaces a link."""
    for entry in (folder / LOCK, folder / "figures", *folder.glob("*.partial.*")):
        if entry.is_symlink():
            raise MechdriftError(f"{entry} is a link, through which other files would be changed: delete it.")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written. Only the holder of the folder's lock may call this."""
    for leftover in folder.rglob(PART.format("*", "*")):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)


def check_target(file: Path) -> Path:
    """The file to write a page or a card to, with links followed; raises where it would replace a folder, a device or a
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
    """Move a written file into place, so that even after a power loss the old or the whole new file is there."""
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
