"""run.json: read, translated to today's words, and checked."""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mechdrift.errors import MechdriftError
from mechdrift.records.foreign import DATA_LIMIT, read_whole
from mechdrift.tables.manifest import in_todays_words, manifest_fault

SCHEMA = 3
OLDEST = 1  # the earliest schema that can be read
START_ANEW = "delete the folder and run the audit again."


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of a folder's `run.json`; raises where there is none, where it is damaged, and where its schema
    cannot be read."""
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


def version_of(package: str) -> str:
    """The version of an installed package. One that lies on the path alone, such as a checkout, has none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
