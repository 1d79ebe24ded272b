"""What an audit or a score does when a judge fails, so that a short outage loses nothing.

    check_judge      before the models are asked: does the judge reply at all?
    KeptLabels       keeps every label in a folder, so that the judge is asked again only about what is missing
    check_judged     after the answers: is there something to score? If not, it says which judge failed, and how
    check_labels     the same for a benchmark's answers

An audit or a score whose judge failed on some answers ends with those that were judged. Its answers and labels stay in
the folder, and the same command asks the judge again about the rest (`audits.stages.answers.ask_judge_again`,
`behaviour.kept`).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import pandas as pd

from mechdrift.behaviour.judges.chat import ChatJudge
from mechdrift.behaviour.judges.external import Judged, RefusalJudge
from mechdrift.records import MechdriftError, RefusalLabel
from mechdrift.runs import REMEDY


def check_judge(judge: RefusalJudge | None) -> None:
    """Raise where a chat judge does not reply, or its key cannot be sent; other judges need no server."""
    if isinstance(judge, ChatJudge):
        judge.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLabels:
    """`judge`, with its labels kept as JSON lines in `store`. Failures are not kept, so those answers are judged
    again."""

    judge: RefusalJudge
    store: Path

    @property
    def name(self) -> str:
        return self.judge.name

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Judged]:
        known, keys = self._read(), [self._key(*exchange) for exchange in zip(prompts, completions, strict=True)]
        missing = [place for place, key in enumerate(keys) if key not in known]
        asked = self.judge([prompts[i] for i in missing], [completions[i] for i in missing]) if missing else []
        new = {keys[place]: judged for place, judged in zip(missing, asked, strict=True)}
        self._append({key: judged for key, judged in new.items() if judged.label is not None})
        return [known.get(key) or new[key] for key in keys]

    def _key(self, prompt: str, completion: str) -> str:
        return hashlib.sha256(json.dumps([self.name, prompt, completion]).encode()).hexdigest()

    def _read(self) -> dict[str, Judged]:
        """The labels so far. A line that a kill cut short is left out: its answer is judged again."""
        found = {}
        for line in self.store.read_bytes().splitlines() if self.store.exists() else ():
            try:
                row = json.loads(line)
                if row["label"] in get_args(RefusalLabel):
                    found[row["key"]] = Judged(label=row["label"], why=str(row["why"]), harm=_share(row.get("harm")))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return found

    def _append(self, labels: dict[str, Judged]) -> None:
        # The line break comes first, so that a line which was cut short does not swallow the next one.
        lines = [f"\n{json.dumps({'key': key} | asdict(judged))}" for key, judged in labels.items()]
        try:
            with self.store.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
        except OSError as error:
            raise MechdriftError(f"{self.store} could not be written ({error.strerror}): {REMEDY}") from error


def _share(value: object) -> float | None:
    return value if isinstance(value, float) and 0 <= value <= 1 else None


def check_judged(judge: RefusalJudge, *tables: pd.DataFrame) -> None:
    """Raise where the judge was given up, or a class of items has no item that was judged for both models. `tables` are
    those of `judge_all` and `judge_variant`."""
    failed, is_empty = Counter(), False
    for table in (table for table in tables if len(table)):
        failed.update(table.why[table.failed])
        classes = table.groupby(["dimension", "contrast", "item"]).failed.any().groupby(["dimension", "contrast"])
        is_empty |= bool(classes.all().any())
    _raise_where_useless(judge, failed, sum(map(len, tables)), is_empty)


def check_labels(judge: RefusalJudge, judged: Sequence[Judged]) -> None:
    """Raise where the judge was given up, or failed on all answers; for labels that are in no table yet."""
    failed = Counter(found.why for found in judged if found.label is None)
    _raise_where_useless(judge, failed, len(judged), is_empty=failed.total() == len(judged) > 0)


def _raise_where_useless(judge: RefusalJudge, failed: Counter[str], answers: int, is_empty: bool) -> None:
    if is_empty or any(why.startswith("not asked") for why in failed):
        causes = sorted(failed, key=lambda why: (why.startswith("not asked"), -failed[why]))
        is_kept = isinstance(judge, KeptLabels)
        raise MechdriftError(
            f"The judge {judge.name} failed on {failed.total()} of {answers} answers ({causes[0]}): put it right and "
            + ("start the same command again; answers and labels are kept." if is_kept else "ask again.")
        )
