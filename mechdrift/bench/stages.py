"""Where does the time of an audit go, and how much of it is needed? Each stage is measured in forward passes, beside
the least that its work could take.

An audit is run, and the machine is timed with the same two models (`audits.calibration`). Seconds depend on the
machine, so they are divided by the seconds of one *pass*: both models read the prompts of all questions once, in the
number format of analysis. Three numbers per stage:

    passes     seconds that the stage took / seconds of one pass
    least      seconds that its work takes at the pace that was timed (`audits.work`: tokens written and read, positions
               unembedded, weights loaded, resampling), with the lengths that the answers had, / seconds of one pass
    times      passes / least: 1 where the stage does nothing but this work

The rest (`times` above 1) goes to files, tables, figures, and batches that are not full.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mechdrift.audits.calibration import Calibration, calibrate
from mechdrift.audits.config import Audit
from mechdrift.audits.pipeline import audit
from mechdrift.audits.preview import planned, preview_of, stay_in_memory
from mechdrift.audits.work import Lengths, work_of
from mechdrift.records import SIDES, Side
from mechdrift.runs import Run

LEGEND = (
    "a pass: both models read the prompts of all questions once",
    "least: the stage's work at this machine's pace, timed right after; times: passes / least",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What one stage took, and the least that its work takes, in forward passes over all prompts."""

    stage: str
    passes: float
    least: float

    @property
    def times(self) -> float:
        return self.passes / self.least if self.least else float("nan")


def print_stages(pair: str) -> None:
    """Audit a pair with the quick preset, in a temporary folder, and print what each stage took."""
    with tempfile.TemporaryDirectory() as folder:
        config = Audit(pair=pair, preset="quick", out=Path(folder) / "audit", until_decided=False)
        costs = stage_costs(audit(config), config)
    print(format_costs(costs))


def stage_costs(run: Run, config: Audit) -> list[StageCost]:
    """The cost of every stage of a finished run of this configuration. Opens both models to time the machine."""
    pair, plan = planned(config)
    sides = calibrate(pair, plan)
    seen = preview_of(pair, plan)
    one_pass = sum(seen.sides[side].prompt_tokens * sides[side].pace.read for side in SIDES)
    layers = pair.config("instruct").get_text_config(decoder=True).num_hidden_layers
    resident = stay_in_memory(seen)
    work = work_of(plan, lengths_of(run, sides), seen.sides["instruct"].questions, layers, resident)
    least = {name: sum(each.seconds(sides[side].pace) for side, each in by.items()) for name, by in work.items()}
    taken = {name: stage["seconds"] for name, stage in run.manifest["stages"].items()}
    return [
        StageCost(stage=name, passes=taken[name] / one_pass, least=seconds / one_pass)
        for name, seconds in least.items()
        if name in taken
    ]


def lengths_of(run: Run, sides: Mapping[Side, Calibration]) -> dict[Side, Lengths]:
    """The mean lengths of what each model wrote in this run."""
    table = run.table("lengths")
    means = {side: table[(table.side == side) & (table.phase == "asked")] for side in SIDES}
    return {
        side: Lengths(
            prompt=sides[side].lengths.prompt,
            think=float(means[side].think_tokens.mean()),
            answer=float(means[side].answer_tokens.mean()),
        )
        for side in SIDES
    }


def format_costs(costs: list[StageCost]) -> str:
    """A table for a terminal, with all stages together in its last line."""
    whole = StageCost(
        stage="in all", passes=sum(each.passes for each in costs), least=sum(each.least for each in costs)
    )
    lines = [f"{'stage':<10} {'passes':>8} {'share':>7} {'least':>8} {'times':>7}"]
    for each in (*costs, whole):
        share = each.passes / whole.passes
        lines.append(f"{each.stage:<10} {each.passes:>8.1f} {share:>7.0%} {each.least:>8.1f} {each.times:>7.2f}")
    return "\n".join((*lines, *LEGEND))
