"""What `bench --audit` prints follows from the seconds of stages and the least that their work takes."""

import pandas as pd
from synthetic_run import build_run

from mechdrift.audits.calibration import Calibration
from mechdrift.audits.work import Lengths, Work
from mechdrift.bench.stages import StageCost, format_costs, lengths_of
from mechdrift.records import SIDES


def test_shares_are_of_all_passes_and_times_of_the_least():
    costs = [StageCost(stage="answers", passes=3.0, least=1.5), StageCost(stage="kl", passes=1.0, least=0.5)]
    rows = [line.split() for line in format_costs(costs).splitlines()]
    assert rows[1] == ["answers", "3.0", "75%", "1.5", "2.00"]
    assert rows[3] == ["in", "all", "4.0", "100%", "2.0", "2.00"]


def test_lengths_are_the_means_of_what_was_asked_and_not_of_the_pilot(tmp_path):
    run = build_run(tmp_path / "run", pairs=2)
    rows = [("asked", "instruct", 0, 10), ("asked", "instruct", 0, 20), ("asked", "reasoning", 30, 4)]
    rows += [("pilot", "instruct", 0, 900), ("pilot", "reasoning", 900, 900)]
    table = pd.DataFrame(rows, columns=["phase", "side", "think_tokens", "answer_tokens"])
    fixed = {"table": "completions", "item": [f"i{n}" for n in range(5)], "sample": 0, "dimension": "safety"}
    fixed |= {"family": "f", "closed": True, "finished": True, "missing": "", "think_budget": 96, "answer_budget": 64}
    run.write_table("lengths", table.assign(**fixed))
    seen = Calibration(pace=Work(), lengths=Lengths(prompt=7.0, think=1.0, answer=1.0), note="")
    assert lengths_of(run, dict.fromkeys(SIDES, seen)) == {
        "instruct": Lengths(prompt=7.0, think=0.0, answer=15.0),
        "reasoning": Lengths(prompt=7.0, think=30.0, answer=4.0),
    }
