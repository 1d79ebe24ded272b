"""The command that scores both models of a pair on one probe set or benchmark, and the table that it prints."""

import os
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from mechdrift.audits.config import Audit
from mechdrift.audits.options import CHAT, QUESTIONS, EngineOptions, ModelOptions
from mechdrift.behaviour.sampling import COLDEST, HOTTEST, Sampling
from mechdrift.cli.options import Debug, PairArgument
from mechdrift.pairs.chat import ChatOptions
from mechdrift.records import SIDES, MechdriftError
from mechdrift.records.foreign import for_spreadsheets

if TYPE_CHECKING:
    import pandas as pd

TOKENS = Parameter(group=QUESTIONS)
MISSING = ("incomplete_", "cut_", "unanswered_", "failed_")  # how columns begin that count unread answers


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions(ModelOptions):
    """Options of `mechdrift score`."""

    probes: Annotated[str, Parameter(group=QUESTIONS)]
    """A probe set or a benchmark (see `mechdrift probes`)."""
    path: Annotated[Path | None, Parameter(group=QUESTIONS)] = None
    """The benchmark's file or folder, as published. Default: the Hugging Face hub."""
    answers: Annotated[tuple[Path, Path] | None, Parameter(group=QUESTIONS)] = None
    """Ask no model, but read the answers of the instruct model and of the reasoning model from two files: logs of
    inspect_ai (.eval, .json) or sample files of lm-eval (.jsonl)."""
    limit: Annotated[int | None, Parameter(group=QUESTIONS)] = None
    """Ask at most so many items, drawn evenly over families."""
    think: Annotated[int | Literal["auto"] | None, TOKENS, Parameter(name=("--think", "--think-tokens"))] = None
    """The most tokens that a model may think. auto measures on a few items how long each model thinks. Default: auto;
    96 for embedded pairs."""
    answer: Annotated[int | Literal["auto"] | None, TOKENS, Parameter(name=("--answer", "--answer-tokens"))] = None
    """The most tokens that an answer may have. Default: auto; 64 for embedded pairs."""
    think_max: Annotated[int | None, Parameter(group=QUESTIONS)] = None
    """The most tokens that --think auto tries. Default: 16,384, or what the model's context leaves."""
    samples: Annotated[int, Parameter(group=QUESTIONS)] = 1
    """Answers per item. One is greedy; several are drawn at the temperature."""
    temperature: Annotated[float, Parameter(group=QUESTIONS)] = 0.7
    """Temperature of the answers where --samples is above 1."""
    judge: Annotated[Path | None, Parameter(group=QUESTIONS)] = None
    """A TOML file that describes a judge of refusals. Default: the built-in rules."""
    seed: Annotated[int, Parameter(group=QUESTIONS)] = 0
    """Seed of sub-sampling, of sampled answers and of all resampling."""
    out: Path | None = None
    """Write the whole table to this CSV file."""

    def check(self) -> None:
        """Raise on values that no score can be made with, and, before models are asked for hours, where the result
        could not be written afterwards."""
        for name, value in (("--limit", self.limit), ("--samples", self.samples)):
            if value is not None and value < 1:
                raise MechdriftError(f"{name} should be 1 or more; it is {value}.")
        if not COLDEST <= self.temperature <= HOTTEST:
            raise MechdriftError(
                f"--temperature should be above 0 ({COLDEST:g} to {HOTTEST:g}); it is {self.temperature:g}."
            )
        temperature = self.temperature if self.samples > 1 else 0.0
        Sampling(samples=self.samples, temperature=temperature, seed=self.seed)  # checks what it is given
        if self.out:
            _check_can_write(self.out)

    def source(self, engine: EngineOptions, chat: ChatOptions) -> Audit:
        """The configuration that names the models, how they are asked, and with which budget."""
        names = (*(each.name for each in fields(ModelOptions)), "think", "answer", "think_max")
        return Audit(**{name: getattr(self, name) for name in names}, **asdict(engine), chat=chat)


def score(
    pair: PairArgument = None,
    /,
    *,
    options: Annotated[ScoreOptions, Parameter(name="*")],
    engine: Annotated[EngineOptions, Parameter(name="*")] = EngineOptions(),  # noqa: B008 - a frozen default
    chat: Annotated[ChatOptions, Parameter(name="*", group=CHAT)] = ChatOptions(),  # noqa: B008 - a frozen default
    debug: Debug = False,
) -> None:
    """Score both models of a pair on a probe set, or on a published benchmark by the benchmark's own formula.

    Until the table is whole, answers and labels are kept in a folder beside the file of --out, or in runs/. The same
    command goes on from there.

    Examples:

        mechdrift score smollm2-sft --probes privacy
        mechdrift score smollm2-sft --probes xstest --path xstest_prompts.csv
        mechdrift score smollm2-sft --probes gsm8k --limit 20 --think 300
        mechdrift score --probes safety --answers parent.eval child.eval
    """
    options = replace(options, pair=pair) if pair else options
    options.check()
    table = _scored(options, options.source(engine, chat))
    _print_scores(table)
    if options.out:
        try:
            for_spreadsheets(table).to_csv(options.out, index=False)
        except OSError as error:
            raise MechdriftError(
                f"{options.out} could not be written ({error.strerror}): give another file with --out."
            ) from error


def _scored(options: ScoreOptions, source: Audit) -> "pd.DataFrame":
    """The table: of answers from files, of a benchmark with a formula of its own, or of a probe set."""
    from mechdrift.audits.plan import load_from
    from mechdrift.behaviour.benchmark_scores.asking import score_benchmark
    from mechdrift.behaviour.benchmark_scores.exact import draw_tasks, load_tasks
    from mechdrift.behaviour.one_call import score as score_pair
    from mechdrift.probes.benchmarks.registry import BENCHMARKS
    from mechdrift.probes.sets import load_probes

    settings = _settings(options, source)
    if options.answers is not None:
        from mechdrift.behaviour.imported.command import score_files

        judge, chat = settings["judge"], source.chat
        table, notes = score_files(options.probes, options.path, options.answers, judge, chat, options.seed)
        print("\n".join(notes), file=sys.stderr)
        return table
    if options.probes in BENCHMARKS and BENCHMARKS[options.probes].read is None:
        tasks = draw_tasks(load_tasks(options.probes, options.path), options.limit, options.seed)
        return score_benchmark(load_from(source), tasks, **settings)
    asked = _limited(load_probes(options.probes, options.path), options)
    return score_pair(load_from(source), asked, **settings).frame


def _settings(options: ScoreOptions, source: Audit) -> dict[str, Any]:
    """The keyword arguments that both scorers take."""
    from mechdrift.audits.plan import generation_dtype
    from mechdrift.behaviour.judges.files import load_judge

    return {
        "budget": source.budget,
        "think_max": options.think_max,
        "samples": options.samples,
        "temperature": options.temperature,
        "seed": options.seed,
        "judge": load_judge(options.judge) if options.judge else None,
        "engine": {side: source.engine_of(side) for side in SIDES},
        "dtype": generation_dtype(source),
        "keep": options.out.parent if options.out else Path("runs"),
    }


def _limited(probes: Any, options: ScoreOptions) -> Any:
    """At most --limit items: of a benchmark item by item, of a probe set in twin pairs."""
    from mechdrift.probes.benchmarks.loading import subset

    if options.limit is None:
        return probes
    if probes.benchmark:
        return subset(probes, options.limit, options.seed)
    return probes.sample(-(-options.limit // 2), options.seed)


def _check_can_write(out: Path) -> None:
    if out.is_dir() or not out.parent.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise MechdriftError(f"{out} cannot be written: give a file in a folder that exists with --out.")


def _print_scores(table: "pd.DataFrame") -> None:
    counts = [name for name in table.columns if name.startswith(MISSING) and table[name].any()]
    tested = [name for name in ("p", "mde") if name in table]
    columns = ["metric", "n", *counts, "instruct", "reasoning", "difference", "low", "high", *tested]
    print(table[columns].to_string(index=False, na_rep="", float_format=lambda x: f"{x:.3f}"))
    reasons = dict.fromkeys(table[table.headline.astype(bool)].reason if "headline" in table else table.reason)
    for reason in filter(None, reasons):
        print(f"\ncannot tell: {reason}")
    if judges := ", ".join(dict.fromkeys(table.judge)):
        smallest = "; mde: the smallest difference that this design finds in 80 % of cases" if "mde" in table else ""
        print(
            f"\njudged by: {judges}; low and high: 95 % interval of the difference (reasoning - instruct), "
            f"over families, those that were not asked included{smallest}"
        )
    _warn_of_unread(table, counts)


def _warn_of_unread(table: "pd.DataFrame", counts: list[str]) -> None:
    """Say on standard error whose answers to some metric could mostly not be read."""
    unread = {side: table[[name for name in counts if name.endswith(side)]].sum(axis=1) for side in SIDES}
    if many := [side for side, count in unread.items() if (count > table.n / 2).any()]:
        print(
            f"more than half of the {' and '.join(many)} answers to some metric could not be read: its numbers say "
            "little",
            file=sys.stderr,
        )
