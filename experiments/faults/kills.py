"""Is anything lost when a process is killed? Each work is killed at its writes and started again.

    python experiments/faults/kills.py --rounds 2 --out experiments/faults/kills.csv

A process dies (SIGKILL) right before or right after a finished file gets its name; the next one goes on and dies at the
next write, until one ends by itself (`tests/faults.py`). In the rows "at random moments" the process is killed from
outside instead, wherever it happens to be. The result is compared with that of an undisturbed process: tables and
tensors byte for byte, `run.json` without its seconds, pages by being there and complete. The models are tiny; a round
takes some minutes of one core. Counts are added to those in the file, so the work can be done in parts; without the
file they begin anew."""

import argparse
import csv
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import torch
from conftest import make_pair, save_model
from faults import child_of, kill_at_every_write
from synthetic_run import build_run
from test_faults import contents, small_run
from test_trajectory import save_adapter, write_history

from mechdrift.activations.to_disk import collect_to
from mechdrift.audits.config import PRESETS, Audit, Size
from mechdrift.audits.pipeline import audit
from mechdrift.behaviour.sampling import Budget
from mechdrift.probes.rendering import Renderer
from mechdrift.runs import load_run
from mechdrift.trajectories.run import trajectory
from mechdrift.trajectories.stages import SIZES

Work = Callable[[Path], object]
TOKENS = Budget(think=3, answer=3)
MOMENTS = ("before a write", "after a write", "at random moments")
COLUMNS = ("work", "killed", "kills", "results that differ", "files left over")
NO_GRIDS = ("patch", "patch_items", "placebos", "grafts", "drift", "cones", "dimensions", "selection", "steering")


def works(folder: Path) -> dict[str, Work]:
    """What is killed, by name; each writes to the folder that it is given."""
    pair = make_pair(folder / "pair")
    loaded = pair.open("instruct")
    rendered = [Renderer(loaded.tokenizer).render(str(n), "Why?" * (n + 1), "off") for n in range(12)]
    save_model(folder / "parent")
    for step, size in ((5, 0.2), (10, 0.5)):
        save_adapter(folder / "history" / f"step-{step:05d}", folder / "parent", size)
    write_history(folder / "history", parent=str(folder / "parent"), steps=[5, 10], tokens=[50, 100])
    run = build_run(folder / "run", pairs=2, without=NO_GRIDS).folder
    models = {"instruct": pair.instruct.path, "reasoning": pair.reasoning.path}
    return {
        "two stages": small_run,
        "collection": lambda out: collect_to(
            out, loaded, rendered, sites=("resid_pre",), roles=("user",), prompts_per_block=1
        ),
        "report": lambda out: load_run(shutil.copytree(run, out, dirs_exist_ok=True)).report(),
        "audit": lambda out: audit(Audit(**models, preset="quick", dimensions=("safety",), device="cpu", out=out)),
        "trajectory": lambda out: trajectory(folder / "history", dimensions=("safety",), out=out, device="cpu"),
    }


def kill_at_random(work: Callable[[], object], seconds: float, rng: random.Random) -> int:
    """How often a process that does `work` was killed at a random moment before one ended by itself."""
    kills = 0
    while True:
        child = child_of(lambda: (torch.set_num_threads(1), work()))
        deadline = time.monotonic() + rng.uniform(0, seconds)
        while time.monotonic() < deadline and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.005)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            assert code == 0, f"a process ended with {code}"
            return kills
        kills += 1
        seconds *= 1.3  # so that one comes to its end


def pages(folder: Path) -> dict[str, bool]:
    """Every page, and whether it is whole."""
    found = folder.rglob("*.html")
    return {
        str(file.relative_to(folder)): file.read_text(encoding="utf-8").rstrip().endswith("</html>") for file in found
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="the names of the works, with commas; default all")
    parser.add_argument("--when", default=",".join(MOMENTS), help="the moments, with commas; default all")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("kills.csv"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"pairs": 4, "tasks": 3, "kl": 2, "steered": 0, "budget": TOKENS}
    PRESETS["quick"] = Size(variants=2, patched=2, thinking=4, layer_step=3, **sizes)
    SIZES["quick"] = Size(variants=0, patched=0, thinking=0, **sizes)
    with tempfile.TemporaryDirectory() as temporary:
        chosen = works(Path(temporary))
        for name in args.only.split(",") if args.only else chosen:
            for when, counts in rounds(chosen[name], Path(temporary) / name, args.rounds, args.when.split(",")):
                print(name, when, counts, flush=True)
                add(args.out, name, when, counts)


def rounds(work: Work, folder: Path, count: int, moments: list[str]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Of each round of one work: when it was killed, and kills, results that differ, and files left over."""
    start = time.monotonic()
    work(folder / "whole")
    seconds, expected, whole = time.monotonic() - start, contents(folder / "whole"), pages(folder / "whole")
    for number in range(count):
        for when in moments:
            out = folder / f"{when} {number}"
            if when == "at random moments":
                kills = kill_at_random(lambda out=out: work(out), seconds / 4, random.Random(number))
            else:
                kills = len(kill_at_every_write(lambda out=out: work(out), before=when.startswith("before")))
            differs = contents(out) != expected or pages(out) != whole
            yield when, (kills, int(differs), len(list(out.rglob(".*.part"))))


def add(file: Path, work: str, when: str, counts: tuple[int, int, int]) -> None:
    """Add the counts of one round to the table of all."""
    rows = list(csv.reader(file.open(newline=""))) if file.exists() else [list(COLUMNS)]
    row = next((row for row in rows if row[:2] == [work, when]), None)
    if row is None:
        rows.append(row := [work, when, "0", "0", "0"])
    row[2:] = [str(int(old) + new) for old, new in zip(row[2:], counts, strict=True)]
    with file.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
