"""A judge from a small TOML file, as `--judge` names it."""

import tomllib
from pathlib import Path

from mechdrift.behaviour.judges.chat import CHAT_TEMPLATE, ChatJudge
from mechdrift.behaviour.judges.external import ClassifierJudge, RefusalJudge, check_settings
from mechdrift.behaviour.judges.harm import HarmJudge
from mechdrift.records import MechdriftError
from mechdrift.records.foreign import SETTINGS_LIMIT, read_whole
from mechdrift.tables.fields import fault_of, shape_of

# A judge that a file may name is a class of its own, and an entry here.
JUDGES = {"chat": ChatJudge, "harm": HarmJudge, "classifier": ClassifierJudge}


def load_judge(path: str | Path) -> RefusalJudge:
    """A judge from a TOML file: `kind = "chat"`, `"harm"` or `"classifier"`, then the fields of `ChatJudge`, `HarmJudge`
    or `ClassifierJudge`.

        kind = "chat"
        base_url = "http://localhost:8000/v1"
        model = "my-judge"
    """
    try:
        settings = tomllib.loads(read_whole(Path(path), SETTINGS_LIMIT).decode("utf-8"))
    except OSError as error:
        raise MechdriftError(f"the judge file {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # also for bytes that are not UTF-8, and for deeply nested brackets
        raise MechdriftError(f"{path}: not a TOML file ({error!s:.100}).") from error
    kind = settings.pop("kind", None)
    judge = JUDGES.get(kind) if isinstance(kind, str) else None
    if judge is None:
        expected = " or ".join(f'kind = "{name}"' for name in JUDGES)
        raise MechdriftError(f"{path}: kind is {kind!r}; {expected} was expected.")
    if fault := fault_of(shape_of(judge), settings):
        raise MechdriftError(f"{path}: the field {fault}.")
    if "labels" in settings:
        check_settings(settings["labels"], settings.get("template", CHAT_TEMPLATE))
    return judge(**settings)
