"""Is anything lost on a Ray cluster where everything dies now and then? Random trials.

    python experiments/scale/chaos.py --trials 20 --out experiments/scale/chaos.csv

Each trial is a study of tiny pairs on two raylets of this machine, started as a user starts it. In random order and at
random moments each of these happens, again and again until the study is over:

    worker     a process that works on a cell is killed
    node       a raylet is killed with all its workers, and another one comes
    driver     the process that schedules is killed, and started again
    store      Ray's object store is filled with objects that are held

At the end every run is compared with that of one process, byte for byte in tables and tensors, and the ledger says how
often each cell was begun. Tiny models, one dimension, a preset that asks little. Trials that are in the table are not
run again.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
COLUMNS = (
    "trial",
    "workers",
    "nodes",
    "drivers",
    "stores",
    "again",
    "cells",
    "begun twice",
    "begun more",
    "runs that differ",
)
STUDY = """
out = "{out}"
presets = ["quick"]
shards = 2
[audit]
dimensions = ["privacy"]
think = 3
answer = 3
device = "cpu"
generation_dtype = "float32"
[[pairs]]
name = "tiny"
instruct = "parent"
checkpoints = {children}
"""
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
EVENTS = ("worker", "node", "driver", "store")


def small_preset() -> None:
    """A preset that takes seconds; the same in every process (`sitecustomize`)."""
    from mechdrift.audits.config import PRESETS
    from mechdrift.behaviour.sampling import Budget

    little = {"pairs": 4, "variants": 1, "tasks": 2, "patched": 2, "kl": 1, "thinking": 1, "steered": 0, "most": None}
    PRESETS["quick"] = replace(PRESETS["quick"], **little, budget=Budget(think=3, answer=3))


def make_models(folder: Path, children: int) -> list[str]:
    from conftest import save_model

    save_model(folder / "parent")
    for number in range(children):
        save_model(folder / f"child-{number}", seed=number + 1)
    return [f"child-{number}" for number in range(children)]


def contents(folder: Path) -> Mapping[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".parquet", ".safetensors")}


def alone(file: Path) -> dict[str, Mapping[str, bytes]]:
    """Every run as one process writes it."""
    from mechdrift.audits.pipeline import audit
    from mechdrift.studies.study import read_study

    small_preset()
    found = {}
    for planned in read_study(file).audits():
        found[planned.name] = contents(audit(planned.config(out=file.parent / "alone" / planned.name)).folder)
    return found


def trial(file: Path, out: Path, rng: random.Random) -> Counter:
    """One study, with something lost every few seconds until it is over. A launch that gave cells up, because they were
    lost twice, is started again as a user would do."""
    import ray

    cluster = new_cluster()
    done: Counter = Counter()
    start = [sys.executable, "-m", "mechdrift.cli", "run", str(file), "--launcher", "ray"]
    start += ["--address", cluster.address, "--workers", "2"]
    driver = subprocess.Popen(start, stderr=subprocess.DEVNULL)
    held = []
    turns = chain.from_iterable(rng.sample(EVENTS, len(EVENTS)) for _ in count())
    while driver.returncode != 0:
        try:
            driver.wait(rng.uniform(5, 25))
        except subprocess.TimeoutExpired:
            event = next(turns)
        else:
            event = "again" if driver.returncode else "over"
        if event == "worker":
            if not (process := working(out, rng)):
                continue
            os.kill(process, signal.SIGKILL)
        elif event == "node":
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            cluster.add_node(**NODE)
        elif event in ("driver", "again"):
            driver.kill()
            driver.wait()
            driver = subprocess.Popen(start, stderr=subprocess.DEVNULL)
        elif event == "store" and not held:
            ray.init(address=cluster.address, log_to_driver=False)
            held = [ray.put(bytes(10_000_000)) for _ in range(7)]
        done[event] += 1
    if held:
        held.clear()
        ray.shutdown()
    cluster.shutdown()
    return done


def new_cluster() -> Any:
    """Two raylets of one core. The head stays for the whole trial: where it is lost, so is the cluster."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(**NODE)
    return cluster


def working(out: Path, rng: random.Random) -> int:
    """A process that works on a cell; 0 where none does."""
    files = sorted((out / "cells").glob("*.running.json"))
    found = [json.loads(file.read_text())["pid"] for file in files if file.exists()]
    alive = [process for process in found if Path(f"/proc/{process}").exists()]
    return rng.choice(alive) if alive else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--children", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("experiments/scale/chaos.csv"))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mechdrift-chaos-"))
    here = Path(__file__).parent
    (folder / "sitecustomize.py").write_text("import chaos\n\nchaos.small_preset()\n")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(here), os.environ.get("PYTHONPATH", "")])
    children = make_models(folder, options.children)
    file = folder / "study.toml"
    file.write_text(STUDY.format(out="alone-study", children=json.dumps(children)))
    expected = alone(file)
    is_new = not options.out.exists()
    ended = 0 if is_new else len(options.out.read_text().splitlines()) - 1
    for number in range(ended, options.trials):
        out = folder / f"trial-{number}"
        file.write_text(STUDY.format(out=out.name, children=json.dumps(children)))
        events = trial(file, out, random.Random(f"{options.seed} {number}"))
        starts = [json.loads(path.read_text())["starts"] for path in (out / "cells").glob("*.done.json")]
        differ = sum(contents(out / name) != whole for name, whole in expected.items())
        row = [number, *(events[event] for event in (*EVENTS, "again")), len(starts), sum(s == 2 for s in starts)]
        with options.out.open("a", newline="") as table:
            writer = csv.writer(table)
            if is_new:
                writer.writerow(COLUMNS)
            writer.writerow([*row, sum(s > 2 for s in starts), differ])
        is_new = False


if __name__ == "__main__":
    main()
