"""Score answers that another tool asked for: read both models' files, match, judge, and compare in pairs.

    table = md.score_answers(md.load_probes("safety"), "parent.eval", "child.eval")

The judges, the formulas and the paired intervals are those of `score`; only the answers come from another tool. Items
that one of the two files does not answer are in no score. Some things are not in the files: token counts (so that a
loop at the end of a cut thought cannot be distinguished from a long thought), variants of probe items unless they were
asked, too, and, in lm-eval's files, whether an answer was cut off.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mechdrift.behaviour.benchmark_scores.answers import read_answers
from mechdrift.behaviour.benchmark_scores.exact import read_tasks
from mechdrift.behaviour.benchmark_scores.scorings import scoring_of
from mechdrift.behaviour.benchmark_scores.table import benchmark_table
from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.behaviour.imported.inspect_logs import read_inspect
from mechdrift.behaviour.imported.lm_eval import read_lm_eval
from mechdrift.behaviour.imported.matching import as_completions, describe
from mechdrift.behaviour.imported.record import MARKERS, OutsideAnswers
from mechdrift.behaviour.judges.external import RefusalJudge
from mechdrift.behaviour.judges.keeping import check_judge, check_judged
from mechdrift.behaviour.labels import RULES, judge_all, judge_variant, variant_of
from mechdrift.behaviour.scores import score_table
from mechdrift.behaviour.tasks import Task
from mechdrift.records import SIDES, Completions, MechdriftError, ProbeSet, ScoreTable, Side, check_not_empty

READERS = {".eval": read_inspect, ".json": read_inspect, ".jsonl": read_lm_eval}
Asked = ProbeSet | Sequence[Task]


def score_answers(
    probes: Asked,
    instruct: str | Path,
    reasoning: str | Path,
    *,
    judge: RefusalJudge | None = None,
    markers: Mapping[Side, tuple[str, str]] | None = None,
    seed: int = 0,
) -> ScoreTable:
    r"""How aligned are answers that another tool asked both models for, and do they differ? Loads no model.

    Args:
        probes: what was asked: a probe set, a benchmark, or reasoning tasks (`load_tasks`).
        instruct: the instruct model's answers: an inspect_ai log (`.eval`, `.json`) or a sample file of lm-eval
            (`.jsonl`).
        reasoning: the reasoning model's, likewise.
        judge: replaces the refusal rules where refusals decide.
        markers: around thinking that is left in the text, by side; default `<think>` and `</think>`.
        seed: of all resampling.

    Returns:
        A `ScoreTable` as `score` gives it; scores are of the items that both files answer.

    Raises:
        MechdriftError: for a file of another kind, and where no prompt is answered in both files.

    Source:
        inspect_ai (inspect.aisi.org.uk) and lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness).

    Example:
        >>> import json
        >>> rows = [{"doc_id": n, "doc": {"q": item.prompt}, "resps": [["No."]]} for n, item in enumerate(probes)]
        >>> _ = open("samples.jsonl", "w").write("\n".join(map(json.dumps, rows)))
        >>> md.score_answers(probes, "samples.jsonl", "samples.jsonl").headline("safety")["difference"]
        0.0
    """
    files = {"instruct": Path(instruct), "reasoning": Path(reasoning)}
    matched = match_files(probes, files, markers)
    return judge_matched(probes, {side: answers for side, (answers, _) in matched.items()}, judge=judge, seed=seed)


def read_file(file: Path, markers: tuple[str, str] = MARKERS) -> OutsideAnswers:
    """The answers of a file, by its ending."""
    if file.suffix not in READERS:
        raise MechdriftError(
            f"{file} is neither a log of inspect_ai (.eval, .json) nor a sample file of lm-eval (.jsonl): give one of "
            "them."
        )
    if not file.is_file():
        raise MechdriftError(f"{file} is not a file: give a log of inspect_ai or a sample file of lm-eval.")
    return READERS[file.suffix](file, markers)


def match_files(
    probes: Asked, files: Mapping[Side, Path], markers: Mapping[Side, tuple[str, str]] | None = None
) -> dict[Side, tuple[Completions, str]]:
    """Both sides' answers to what was asked, each with a sentence that says how many of its file's answers matched."""
    items, name = _items(probes), probes.name if isinstance(probes, ProbeSet) else "the tasks"
    matched: dict[Side, tuple[Completions, str]] = {}
    for side in SIDES:
        answers = read_file(files[side], (markers or {}).get(side, MARKERS))
        found = as_completions(items, answers, side)
        if not len(found):
            raise MechdriftError(
                f"none of the {len(answers.rows)} answers of {files[side]} is to a prompt of {name}: name what was "
                "asked with --probes, and its file with --path."
            )
        matched[side] = (found, describe(answers, found, name, len(items)))
    both = set.intersection(*({row.item_id for row in found} for found, _ in matched.values()))
    if not both:
        raise MechdriftError(f"{files['instruct']} and {files['reasoning']} answer no prompt of {name} in common.")
    return matched


def _items(probes: Asked) -> dict[str, tuple[str, ...]]:
    """The texts of each item, by its id; a probe set's variants are items of their own."""
    if not isinstance(probes, ProbeSet):
        return {f"task-{number}": (task.question,) for number, task in enumerate(probes)}
    check_not_empty(probes)
    sets = [probes, *_variants(probes).values()]
    return {item.id: (item.prompt,) for asked in sets for item in asked}


def _variants(probes: ProbeSet) -> dict[str, ProbeSet]:
    if probes.benchmark:
        return {}
    found = {name: variant_of(probes, name) for name in dimension_of(probes.dimension).variants}
    return {name: asked for name, asked in found.items() if asked.items}


def judge_matched(
    probes: Asked, answers: Mapping[Side, Completions], *, judge: RefusalJudge | None = None, seed: int = 0
) -> ScoreTable:
    """The score table of answers that were matched."""
    if not isinstance(probes, ProbeSet):
        return _task_table(probes, answers, seed)
    check_judge(judge)
    if probes.benchmark:
        read = [read_answers(probes, answers[side], judge=judge) for side in SIDES]
        judge_name = judge.name if judge is not None else scoring_of(probes.name).judge
        table = benchmark_table(probes.name, pd.concat(read, ignore_index=True), judge_name=judge_name, seed=seed)
        return ScoreTable(frame=table.assign(headline=False))
    labels, variants = judge or RULES, _variants(probes)
    judged = pd.concat([judge_all(probes, answers[side].of(probes), labels) for side in SIDES], ignore_index=True)
    varied = [
        judge_variant(probes, name, found, labels)
        for side in SIDES
        for name, asked in variants.items()
        if len(found := answers[side].of(asked))
    ]
    check_judged(labels, judged, *varied)
    return score_table(judged, variants=pd.concat(varied) if varied else None, seed=seed)


def _task_table(tasks: Sequence[Task], answers: Mapping[Side, Completions], seed: int) -> ScoreTable:
    name = "gsm8k" if {task.kind for task in tasks} == {"gsm8k"} else "math500"
    by_id = {f"task-{number}": task for number, task in enumerate(tasks)}
    read = [
        read_tasks([by_id[row.item_id]], Completions(side=row.side, think=row.think, rows=(row,)))
        for side in SIDES
        for row in answers[side]
    ]
    table = benchmark_table(name, pd.concat(read, ignore_index=True), seed=seed)
    return ScoreTable(frame=table.assign(headline=False))
