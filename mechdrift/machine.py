"""What this process may use of the machine: memory, and processors.

In a container both are less than the machine has, and neither psutil nor torch looks at that: a run that fills what
"is free" is killed, and 64 threads share two processors. Linux says the limits in files of control groups:

    version 2   memory.max, memory.current              cpu.max ("200000 100000": quota and period, in microseconds)
    version 1   memory.limit_in_bytes, .usage_in_bytes  cpu.cfs_quota_us, cpu.cfs_period_us

A limit of a group holds for all groups in it, so every group on the way to the root is read. Memory that a group uses
counts pages of files that were read, which are given back under pressure (`inactive_file` of memory.stat): these are
free. https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def free_memory(device: "torch.device") -> int:
    """Free bytes on a device; in main memory, within the limits of the process, and the file cache counts as free."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def total_memory() -> int:
    """Bytes of main memory that this process may use."""
    return min([psutil.virtual_memory().total, *(limit for limit, _, _ in _memory_of_groups())])


def processors() -> int:
    """How many processors this process may use: those that it may run on, and no more than it has time for."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota()
    return allowed if quota is None else min(allowed, quota)


def processor_quota() -> int | None:
    """How many processors' time the groups of this process have, at least 1; None without a limit."""
    shares = [*_processor_shares()]
    return max(1, int(min(shares) + 0.5)) if shares else None


def _left_in_groups() -> Iterator[int]:
    """The bytes that each limited group has left."""
    for limit, used, given_back in _memory_of_groups():
        yield max(0, limit - max(0, used - given_back))


def _memory_of_groups() -> Iterator[tuple[int, int, int]]:
    """Of every group with a limit: the limit, what is used, and how much of that is given back under pressure."""
    for folder in _groups("memory"):
        for most, used, inactive in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if (limit := _number(folder / most)) is not None:
                yield limit, _number(folder / used) or 0, _stated(folder / "memory.stat", inactive)


def _processor_shares() -> Iterator[float]:
    """The processors' worth of time of every group with a quota."""
    for folder in _groups("cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        with suppress(OSError, ValueError):  # no version 2, or "max 100000", which is no limit
            quota, period = map(int, (folder / "cpu.max").read_text().split())
        if quota and period and quota > 0:
            yield quota / period


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's groups that limit something, from its own up to the root's. Inside a container its
    own group may be shown as the root, or under a path that is not there: the root is always among them."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for root in (GROUPS / controller, GROUPS / controllers) if controllers else (GROUPS, GROUPS / "unified"):
            own = root / path.lstrip("/")
            found = [own, *(each for each in own.parents if each.is_relative_to(root))]
            yield from (folder for folder in found if folder.is_dir())


def _number(file: Path) -> int | None:
    """The number in a file; None where there is none ("max"), or no file."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _stated(file: Path, name: str) -> int:
    with suppress(OSError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
