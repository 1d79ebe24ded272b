"""What `mechdrift score --answers` does: the score table of two files, and how many of their answers matched."""

from pathlib import Path

import pandas as pd

from mechdrift.behaviour.benchmark_scores.exact import load_tasks
from mechdrift.behaviour.imported.record import MARKERS
from mechdrift.behaviour.imported.scoring import Asked, judge_matched, match_files
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.pairs.chat import ChatOptions
from mechdrift.probes.benchmarks.registry import BENCHMARKS
from mechdrift.probes.sets import load_probes
from mechdrift.records import SIDES


def score_files(
    name: str, path: Path | None, answers: tuple[Path, Path], judge: RefusalJudge | None, chat: ChatOptions, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """The score table of the instruct model's and the reasoning model's file, and a sentence on each."""
    is_tasks = name in BENCHMARKS and BENCHMARKS[name].read is None
    probes: Asked = load_tasks(name, path) if is_tasks else load_probes(name, path)
    markers = {
        side: (chat.of(side).get("think_open", MARKERS[0]), chat.of(side).get("think_close", MARKERS[1]))
        for side in SIDES
    }
    matched = match_files(probes, dict(zip(SIDES, answers, strict=True)), markers)
    completions = {side: found for side, (found, _) in matched.items()}
    table = judge_matched(probes, completions, judge=judge, seed=seed)
    return table.frame, [note for _, note in matched.values()]
