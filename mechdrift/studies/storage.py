"""Where a study's runs and parts lie: a folder on a local or shared disk, or an object store, through fsspec.

On a disk, processes work in the study's folder itself. From an object store, a cell pulls the files that it reads into
a folder of this machine (`path`), works there, and pushes what it wrote; `run.json` and `part.json` go last, because
they say that all else is there. An object appears whole or not at all, as a file does that is moved into place.

A file that has not changed since it was pulled is not pulled again: the store's own checksums are kept beside the
files. Times are never compared, so clocks may differ."""

import errno
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import platformdirs

from mechdrift.records import MechdriftError
from mechdrift.runs import LOCK, placed

SEALS = ("part.json", "run.json")  # these are written last
INDEX = ".pulled.json"
EXTRAS = ("s3",)  # protocols that an extra of this package brings
LOCAL_ONLY = (".work", LOCK, INDEX)


@dataclass(frozen=True)
class Store:
    """One study's place. Names are relative, with `/`."""

    url: str

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    @cached_property
    def local(self) -> Path:
        """The folder of this machine that cells work in."""
        if self.is_local:
            return Path(self.url)
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        return platformdirs.user_cache_path("mechdrift") / "studies" / digest

    @cached_property
    def _files(self) -> tuple[Any, str]:
        """The file system and the path in it."""
        import fsspec

        protocol = self.url.partition("://")[0]
        try:
            return fsspec.core.url_to_fs(self.url, **({"use_listings_cache": False} if protocol == "s3" else {}))
        except (ImportError, ValueError) as error:
            remedy = f"pip install 'mechdrift[{protocol}]'" if protocol in EXTRAS else "see fsspec's list of protocols"
            raise MechdriftError(f"{self.url} cannot be opened ({error}): {remedy}.") from error

    def path(self, name: str) -> Path:
        """A file or folder of this machine, as `pull` left it and `push` takes it."""
        return self.local / name

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none."""
        with _told(self.url):
            if self.is_local:
                file = self.local / name
                return file.read_bytes() if file.exists() else None
            files, root = self._files
            try:
                return files.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with _told(self.url):
            if not self.is_local:
                files, root = self._files
                files.pipe_file(f"{root}/{name}", data)
                return
        with placed(self.local / name, "give a study whose folder you may write to.") as temporary:
            temporary.write_bytes(data)

    def remove(self, name: str) -> None:
        with _told(self.url):
            if self.is_local:
                (self.local / name).unlink(missing_ok=True)
                return
            files, root = self._files
            if files.exists(f"{root}/{name}"):
                files.rm_file(f"{root}/{name}")

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, not of those below it."""
        with _told(self.url):
            if self.is_local:
                place = self.local / folder
                return sorted(file.name for file in place.iterdir() if file.is_file()) if place.is_dir() else []
            files, root = self._files
            try:
                return sorted(name.rpartition("/")[2] for name in files.ls(f"{root}/{folder}", detail=False))
            except FileNotFoundError:
                return []

    def pull(self, patterns: Iterable[str]) -> None:
        """Bring all files that match (`**` for folders) to this machine, except those that are the same already."""
        if self.is_local:
            return
        files, root = self._files
        with _told(self.url):
            index = self._index()
            for pattern in patterns:
                for found, facts in files.glob(f"{root}/{pattern}", detail=True).items():
                    name, mark = found.removeprefix(f"{root.rstrip('/')}/"), _mark(facts)
                    if facts["type"] != "file" or (index.get(name) == mark and (self.local / name).exists()):
                        continue
                    with placed(self.local / name) as temporary:
                        files.get_file(found, str(temporary))
                    index[name] = mark
            self._keep(index)

    def push(self, folder: str) -> None:
        """Send a folder's files that are new or changed, the seals last."""
        if self.is_local:
            return
        files, root = self._files
        place = self.local / folder
        mine = [file for file in place.rglob("*") if file.is_file() and not _is_local_only(file.relative_to(place))]
        with _told(self.url):
            index = self._index()
            for file in sorted(mine, key=lambda file: (file.name in SEALS, file)):
                name = file.relative_to(self.local).as_posix()
                mark = f"sent {hashlib.sha256(file.read_bytes()).hexdigest()}"
                if index.get(f"sent {name}") != mark:
                    files.put_file(str(file), f"{root}/{name}")
                    index[f"sent {name}"], index[name] = mark, _mark(files.info(f"{root}/{name}"))
            self._keep(index)

    def _index(self) -> dict[str, str]:
        file = self.local / INDEX
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def _keep(self, index: dict[str, str]) -> None:
        with placed(self.local / INDEX) as temporary:
            temporary.write_text(json.dumps(index), encoding="utf-8")


def _mark(facts: dict[str, Any]) -> str:
    """A mark that changes with a file's content."""
    return str(facts.get("ETag") or facts.get("etag") or facts.get("mtime") or facts.get("LastModified"))


def _is_local_only(file: Path) -> bool:
    return any(part.endswith(LOCAL_ONLY) for part in file.parts) or file.name.endswith(".part")


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what goes wrong in a store into one sentence."""
    try:
        yield
    except PermissionError as error:
        raise MechdriftError(
            f"{url} lets this user neither read nor write what the study needs: check its rights, or give another out."
        ) from error
    except OSError as error:
        why = "no room is left" if error.errno == errno.ENOSPC else " ".join(str(error).split())[:200]
        raise MechdriftError(
            f"{url} cannot be used ({why}): check the address, and start the same command again."
        ) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("botocore", "aiobotocore"):
            raise MechdriftError(f"{url} cannot be used ({error}): check its address and your credentials.") from error
        raise
