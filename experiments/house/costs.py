"""What commands that need no model cost in either build: CPU seconds and peak memory of a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

STARTER = """
import json, os, subprocess, sys
started = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(started.pid, 0)
print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
MAIN = "from mechdrift.cli import main; main()"
COMMANDS = {
    "import mechdrift": ("-c", "import mechdrift"),
    "mechdrift --help": ("-c", MAIN, "--help"),
    "mechdrift pairs": ("-c", MAIN, "pairs"),
}


def environment(build: Path) -> dict[str, str]:
    """One thread, and one build's code."""
    return os.environ | {"PYTHONPATH": str(build.resolve()), "OMP_NUM_THREADS": "1"}


def cost(build: Path, arguments: tuple[str, ...]) -> tuple[float, float]:
    """CPU seconds, user's and system's, and the largest resident size in MB, of one process.

    A small process starts it: Linux counts the size of whoever starts a process as the least that it had. It starts in
    the build's folder, which Python looks into first.
    """
    command = [sys.executable, "-I", "-c", STARTER, sys.executable, *arguments]
    found = subprocess.run(command, env=environment(build), cwd=build, capture_output=True, check=True)
    status, seconds, kilobytes = json.loads(found.stdout)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with status {status} in {build}.")
    return seconds, kilobytes / 1024


def table(old: Path, new: Path, rounds: int) -> str:
    """Each command in both builds in turn, the least of `rounds` of each: other work on the machine only adds to it."""
    lines = [
        "| command | CPU before | CPU now | ratio | memory before | memory now | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, arguments in COMMANDS.items():
        found = [[cost(build, arguments) for build in (old, new)] for _ in range(rounds)]
        (cpu, memory), (cpu_now, memory_now) = (map(min, zip(*one, strict=True)) for one in zip(*found, strict=True))
        cells = (f"{cpu:.2f} s", f"{cpu_now:.2f} s", f"{cpu_now / cpu:.3f}")
        sizes = (f"{memory:.0f} MB", f"{memory_now:.0f} MB", f"{memory_now / memory:.3f}")
        lines.append(f"| `{name}` | {' | '.join((*cells, *sizes))} |")
    return "\n".join(lines)
