"""What a process may use in a container, against groups written to a folder as Linux shows them, and psutil."""

import os
import subprocess
import sys

import psutil
import pytest
import torch

from mechdrift import machine
from mechdrift.pairs import loading, precision

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes control groups: `groups(own, {"path/file": content})`."""

    def write(own: str, files: dict[str, object]) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            file = tmp_path / "fs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")

    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "fs")
    return write


def plenty(monkeypatch, gigabytes: int = 64) -> None:
    real = psutil.virtual_memory()
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: real._replace(available=gigabytes * GB, total=2 * gigabytes * GB)
    )


def test_without_groups_the_machine_is_the_limit(groups, monkeypatch):
    plenty(monkeypatch)
    assert machine.free_memory(CPU) == 64 * GB  # no /proc: not Linux
    groups("0::/\n", {"memory.max": "max", "memory.current": 5 * GB, "cpu.max": "max 100000"})
    assert (machine.free_memory(CPU), machine.total_memory()) == (64 * GB, 128 * GB)
    assert machine.processor_quota() is None
    assert machine.processors() == len(os.sched_getaffinity(0))


def test_version_2_inside_a_container(groups, monkeypatch):
    plenty(monkeypatch)
    groups(
        "0::/\n",
        {
            "memory.max": 8 * GB,
            "memory.current": 5 * GB,
            "memory.stat": f"anon {2 * GB}\ninactive_file {3 * GB}\nactive_file 7",
            "cpu.max": "150000 100000",
        },
    )
    assert machine.free_memory(CPU) == 6 * GB  # 8 - (5 - 3): file pages are given back
    assert machine.total_memory() == 8 * GB
    assert machine.processor_quota() == 2


def test_a_limit_of_an_outer_group_holds(groups, monkeypatch):
    plenty(monkeypatch)
    groups(
        "0::/kubepods/pod/box\n",
        {
            "kubepods/memory.max": 10 * GB,
            "kubepods/memory.current": 9 * GB,
            "kubepods/pod/memory.max": 20 * GB,
            "kubepods/pod/memory.current": GB,
            "kubepods/pod/box/memory.max": "max",
            "kubepods/pod/box/cpu.max": "400000 100000",
            "kubepods/cpu.max": "50000 100000",
        },
    )
    assert (machine.free_memory(CPU), machine.total_memory()) == (GB, 10 * GB)
    assert (machine.processor_quota(), machine.processors()) == (1, 1)


def test_version_1_whose_path_is_not_seen_inside(groups, monkeypatch):
    """Docker on version 1 shows a container's own group as the root, and names its path on the host."""
    plenty(monkeypatch)
    groups(
        "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/\n",
        {
            "memory/memory.limit_in_bytes": 4 * GB,
            "memory/memory.usage_in_bytes": 3 * GB,
            "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}",
            "cpu,cpuacct/cpu.cfs_quota_us": 200000,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
        },
    )
    assert machine.free_memory(CPU) == 2 * GB
    assert machine.processor_quota() == 2


def test_version_1_without_limits(groups, monkeypatch):
    plenty(monkeypatch)
    groups(
        "4:memory:/\n1:cpu:/\n",
        {
            "memory/memory.limit_in_bytes": 9223372036854771712,
            "memory/memory.usage_in_bytes": 3 * GB,
            "cpu/cpu.cfs_quota_us": -1,
            "cpu/cpu.cfs_period_us": 100000,
        },
    )
    assert (machine.free_memory(CPU), machine.total_memory()) == (64 * GB, 128 * GB)
    assert machine.processor_quota() is None


def test_more_than_the_limit_leaves_nothing(groups, monkeypatch):
    plenty(monkeypatch)
    groups("0::/\n", {"memory.max": GB, "memory.current": 2 * GB})
    assert machine.free_memory(CPU) == 0


def test_of_this_machine_no_more_is_free_than_psutil_says():
    available = psutil.virtual_memory().available
    assert 0 < machine.free_memory(CPU) <= 1.05 * available
    assert 1 <= machine.processors() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("quota", "wanted"), [("100000 100000", "1"), ("max 100000", "")])
def test_a_command_has_as_many_threads_as_its_container_has_processors(tmp_path, quota, wanted):
    """The command's own environment decides where torch was not told otherwise."""
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text(quota)
    code = (
        "import os, pathlib; from mechdrift import machine; from mechdrift.cli.terminal import quiet_libraries; "
        f"machine.GROUPS = pathlib.Path({str(tmp_path)!r}); machine.OWN_GROUPS = machine.GROUPS / 'own'; "
        "quiet_libraries(); print(os.environ.get('OMP_NUM_THREADS', ''))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == wanted


# Sums over weights, some rows at a time.


def whole_sums(parameter):
    """The three sums of a fingerprint, each over the whole tensor at once."""
    values = placed = parameter.double()
    for axis in range(values.dim()):
        places = torch.arange(placed.shape[0], dtype=placed.dtype)
        placed = torch.tensordot(torch.cos(places * (1.0 + axis)), placed, dims=1)
    return values.sum().item(), values.abs().sum().item(), placed.item()


@pytest.mark.parametrize("shape", [(), (1,), (7,), (300, 17), (5, 4, 33), (3, 900), (0, 4)])
def test_sums_by_blocks_are_those_of_the_whole(monkeypatch, shape):
    monkeypatch.setattr(precision, "BLOCK", 100)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    if values.numel():
        assert loading._sums(values) == pytest.approx(whole_sums(values), rel=1e-12)
    else:
        assert loading._sums(values) == (0.0, 0.0, 0.0)
    others = values + 0.25
    wanted = ((others.double() - values.double()) ** 2).sum().item(), (values.double() ** 2).sum().item()
    assert precision.squared_norms(others, values) == pytest.approx(wanted, rel=1e-12)
    assert torch.equal(precision.smallest_exact(values), values)
    half = values.bfloat16().float()
    assert precision.smallest_exact(half).dtype == torch.bfloat16
    if values.numel() > 300:  # exact in all rows but the last
        half[-1] = values[-1]
        assert precision.smallest_exact(half).dtype == torch.float32


def test_sums_over_an_embedding_take_little_memory():
    """Of 400 MB of weights, some 150 MB are taken while they are hashed and compared; whole, it would be 3 GB."""
    code = (
        "import torch; from mechdrift.pairs import loading, precision\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1e3\n"
        "weight = torch.randn(200_000, 500); before = peak()\n"
        "loading._sums(weight); precision.squared_norms(weight, weight)\n"
        "print(peak() - before)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(shown.stdout) < 250
