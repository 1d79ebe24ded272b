"""What a score has computed so far, kept on disk until its table is complete.

A score may take hours, and a judge that goes down, Ctrl-C, a kill or a full disk may end it early. With a folder to
keep it in, the same score resumes there:

    FOLDER/score-NAME-DIGEST.partial/   the digest is of all that is asked: models, prompts, budget, samples
        SIDE-WEIGHTS*.partial.jsonl     one model's finished answers, those of its pilot among them
        labels.jsonl                    an outside judge's labels; answers on which it failed are judged again

A score with another budget or other weights never uses these answers. The folder is removed once the table is complete.
Where the judge failed on some answers it stays, so that the same command asks the judge about those alone.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mechdrift.behaviour.judges.external import RefusalJudge, RuleJudge
from mechdrift.behaviour.judges.keeping import KeptLabels
from mechdrift.pairs.loading import LanguageModel, fingerprint
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, MechdriftError, Side
from mechdrift.records.foreign import shown
from mechdrift.runs import LOCK, folder_lock

REMEDY = "free space or name a file in another folder with --out (in Python: keep=)."
LONGEST = 80  # characters of a name in a folder's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where one score keeps its answers and labels; without a folder it keeps nothing."""

    folder: Path | None = None

    @property
    def is_begun(self) -> bool:
        """Whether answers are kept from an earlier start."""
        return self.folder is not None and any(self.folder.glob("*.partial.jsonl"))

    def answers(self, side: Side, loaded: LanguageModel) -> Path | None:
        """The prefix of the files of one model's answers."""
        return self.folder and self.folder / f"{side}-{fingerprint(loaded.model)}"

    def judge(self, judge: RefusalJudge) -> RefusalJudge:
        """The judge, with its labels kept in the folder. The rules are fast, so theirs are not kept."""
        if self.folder is None or isinstance(judge, RuleJudge):
            return judge
        return KeptLabels(judge=judge, store=self.folder / "labels.jsonl")

    def settle(self, table: pd.DataFrame) -> None:
        """Remove the kept files, or say on standard error what is missing where a judge failed on some answers."""
        if self.folder is None:
            return
        counts = [f"failed_{side}" for side in SIDES if f"failed_{side}" in table]
        if failed := [name for name in counts if table[name].any()]:
            line = (
                f"mechdrift: the judge failed on some answers (column {', '.join(failed)}); the same command asks "
                f"about them alone: the rest is kept in {self.folder}."
            )
            print(shown(line), file=sys.stderr)
            return
        for file in self.folder.glob("*.jsonl"):
            file.unlink()


@contextmanager
def keeping(folder: Path | None, pair: Pair, name: str, asked: Sequence[tuple[str, str]], **how: Any) -> Iterator[Kept]:
    """Where the score called `name` keeps what it has: a folder inside `folder`, locked against other processes.

    `asked` are ids and prompts, `how` holds everything else that changes an answer. Raises where the folder cannot be
    made, and where another process is computing the same score.
    """
    if folder is None:
        yield Kept()
        return
    short = re.sub(r"[^\w.-]+", "-", name)[:LONGEST]
    place = folder / f"score-{short}-{_digest(pair, asked, how)}.partial"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdriftError(f"{place} cannot be made ({error.strerror}): {REMEDY}") from error
    with folder_lock(place, "score", REMEDY):
        yield Kept(folder=place)
    if not any(place.glob("*.jsonl")):
        with suppress(OSError):  # another process may wait for the lock
            (place / LOCK).unlink(missing_ok=True)
            place.rmdir()


def _digest(pair: Pair, asked: Sequence[tuple[str, str]], how: Mapping[str, Any]) -> str:
    sources = {side: asdict(pair.source(side)) for side in SIDES}
    text = json.dumps([sources, pair.child_thinks, asked, how], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
