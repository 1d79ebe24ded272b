"""Is anything lost on a Ray cluster where everything dies now and then? Random trials.

    python experiments/scale/chaos.py --trials 20 --out experiments/scale/chaos.csv
    python experiments/scale/chaos.py --namespaces --rounds 1 --shards 1 \
        --out experiments/scale/chaos_namespaces.csv                                 # as root

Each trial is a study of tiny pairs on a cluster of two nodes, started as a user starts it. The nodes are two raylets of
this machine, or stand in network namespaces of their own, joined by one virtual cable. In random order and at random
moments each of these happens, again and again until the study is over, or so many times as `--rounds` says:

    worker     a process that works on a cell is killed
    node       a node is killed with all its workers, and another one comes
    driver     the process that schedules is killed, and started again
    store      Ray's object store is filled with objects that are held
    link       the cable is cut for a quarter of a minute: the head gives the node up while its worker goes on writing,
               then the node is killed and comes back (only with namespaces)

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
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
COLUMNS = (
    "trial",
    "workers",
    "nodes",
    "drivers",
    "stores",
    "links",
    "again",
    "cells",
    "begun twice",
    "begun more",
    "runs that differ",
)
STUDY = """
out = "{out}"
presets = ["quick"]
shards = {shards}
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
EVENTS = ("worker", "node", "driver", "store", "link")
# The head gives a silent node up within seconds; Ray's own defaults take a minute.
HEALTH = {f"RAY_health_check_{name}": "1000" for name in ("initial_delay_ms", "period_ms", "timeout_ms")}
HEALTH["RAY_health_check_failure_threshold"] = "5"
FILL = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
held = [ray.put(bytes(10_000_000)) for _ in range(7)]
time.sleep(100_000)
"""


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


class Raylets:
    """Two raylets of one core on this machine. The head stays for the whole trial: where it is lost, so is the
    cluster."""

    events = ("worker", "node", "driver", "store")

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args=NODE)
        self.cluster.add_node(**NODE)
        self.address = self.cluster.address

    def start(self, command: Sequence[str]) -> subprocess.Popen:
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def renew(self) -> None:
        self.cluster.remove_node(next(iter(self.cluster.worker_nodes)), allow_graceful=False)
        self.cluster.add_node(**NODE)

    def shutdown(self) -> None:
        self.cluster.shutdown()


class Namespaces:
    """Two nodes of one core, each with a network of its own; a virtual cable joins them. The driver runs beside the
    head."""

    events = EVENTS
    address = "10.77.0.1:6379"

    def __init__(self) -> None:
        os.environ |= HEALTH
        self.remove()
        for name in ("md-head", "md-node"):
            run("ip", "netns", "add", name)
        run("ip", "link", "add", "cable", "netns", "md-head", "type", "veth", "peer", "cable", "netns", "md-node")
        for name, address in (("md-head", "10.77.0.1"), ("md-node", "10.77.0.2")):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("cable", "lo"):
                run("ip", "-n", name, "link", "set", device, "up")
        self.join("md-head", "--head", "--node-ip-address=10.77.0.1", "--port=6379", "--include-dashboard=false")
        self.add_node()

    def join(self, name: str, *options: str) -> None:
        size = (f"--num-cpus={NODE['num_cpus']}", f"--object-store-memory={NODE['object_store_memory']}")
        run("ip", "netns", "exec", name, str(Path(sys.executable).with_name("ray")), "start", *options, *size)

    def add_node(self) -> None:
        self.join("md-node", f"--address={self.address}", "--node-ip-address=10.77.0.2")

    def start(self, command: Sequence[str]) -> subprocess.Popen:
        return subprocess.Popen(["ip", "netns", "exec", "md-head", *command], stderr=subprocess.DEVNULL)

    def renew(self) -> None:
        kill_all("md-node")
        self.add_node()

    def cut(self) -> None:
        run("ip", "-n", "md-node", "link", "set", "cable", "down")
        time.sleep(15)
        kill_all("md-node")
        run("ip", "-n", "md-node", "link", "set", "cable", "up")
        self.add_node()

    def remove(self) -> None:
        for name in ("md-node", "md-head"):
            kill_all(name)
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)

    shutdown = remove


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_all(namespace: str) -> None:
    found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout.split()
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def trial(file: Path, out: Path, rng: random.Random, cluster: Raylets | Namespaces, rounds: int | None) -> Counter:
    """One study, with something lost every few seconds until it is over, or until the rounds are. A launch that gave
    cells up, because they were lost twice, is started again as a user would do."""
    done: Counter = Counter()
    start = [sys.executable, "-m", "mechdrift.cli", "run", str(file), "--launcher", "ray"]
    start += ["--address", cluster.address, "--workers", "2"]
    driver = cluster.start(start)
    filler = None
    numbers = count() if rounds is None else range(rounds)
    turns = chain.from_iterable(rng.sample(cluster.events, len(cluster.events)) for _ in numbers)
    event = next(turns)
    while driver.returncode != 0:
        try:
            driver.wait(rng.uniform(5, 25))
        except subprocess.TimeoutExpired:
            now = event
        else:
            now = "again" if driver.returncode else "over"
        if now == "worker":
            if not (process := working(out, rng)):
                continue  # at the next moment somebody works
            os.kill(process, signal.SIGKILL)
        elif now == "node":
            cluster.renew()
        elif now == "link":
            cluster.cut()
        elif now in ("driver", "again"):
            driver.kill()
            driver.wait()
            driver = cluster.start(start)
        elif now == "store" and filler is None:
            filler = cluster.start([sys.executable, "-c", FILL, cluster.address])
        done[now] += 1
        if now == event:
            event = next(turns, "")
    if filler:
        filler.kill()
    cluster.shutdown()
    return done


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
    parser.add_argument("--rounds", type=int, help="how often each kind of loss happens; without it, until the end")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--namespaces", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("experiments/scale/chaos.csv"))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mechdrift-chaos-"))
    here = Path(__file__).parent
    (folder / "sitecustomize.py").write_text("import chaos\n\nchaos.small_preset()\n")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(here), os.environ.get("PYTHONPATH", "")])
    children = make_models(folder, options.children)
    file = folder / "study.toml"
    file.write_text(STUDY.format(out="alone-study", shards=options.shards, children=json.dumps(children)))
    expected = alone(file)
    is_new = not options.out.exists()
    ended = 0 if is_new else len(options.out.read_text().splitlines()) - 1
    for number in range(ended, options.trials):
        out = folder / f"trial-{number}"
        file.write_text(STUDY.format(out=out.name, shards=options.shards, children=json.dumps(children)))
        cluster = Namespaces() if options.namespaces else Raylets()
        events = trial(file, out, random.Random(f"{options.seed} {number}"), cluster, options.rounds)
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
