"""The launcher `local`: one process per device of this machine, each of which keeps its model open.

A process that dies (killed, or out of memory) loses only its cell: another process takes its place, and the cell is
tried once more.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from mechdrift.machine import processors, total_memory
from mechdrift.records import MechdriftError
from mechdrift.runs import folder_lock
from mechdrift.studies.cells import Cell
from mechdrift.studies.storage import Store
from mechdrift.studies.study import Study
from mechdrift.studies.workers import Ended

SPAWN = multiprocessing.get_context("spawn")
_worker: Any = None  # the worker of this process, where it belongs to a pool


@contextmanager
def local_workers(study: Study, count: int | None, _: str | None) -> "Iterator[LocalWorkers]":
    """Processes for a study, while no other launch works on it from this machine."""
    folder = Store(study.out).local
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder, "launch"):
        workers = LocalWorkers(study, _devices(count))
        try:
            yield workers
        finally:
            workers.close()


class LocalWorkers:
    """A pool of one process for each device."""

    def __init__(self, study: Study, devices: Sequence[tuple[str, int]]):
        self.study = study
        self.devices = {f"{number}-{device}": device for number, (device, _) in enumerate(devices)}
        self.memory = dict(zip(self.devices, (memory for _, memory in devices), strict=True))
        self.threads = max(1, processors() // len(devices))
        self.pools: dict[str, ProcessPoolExecutor] = {}
        self.futures: dict[Future, str] = {}

    def start(self, worker: str, cell: Cell) -> None:
        if worker not in self.pools:
            begin = (self.study, self.devices[worker], self.threads)
            self.pools[worker] = ProcessPoolExecutor(1, mp_context=SPAWN, initializer=_begin, initargs=begin)
        self.futures[self.pools[worker].submit(_run, cell)] = worker

    def wait(self) -> list[Ended]:
        done, _ = wait(self.futures, return_when=FIRST_COMPLETED)
        return [self._ended(future, self.futures.pop(future)) for future in done]

    def _ended(self, future: Future, worker: str) -> Ended:
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self.pools.pop(worker).shutdown(wait=False)
            return Ended(worker=worker, why="the process died: it was killed, or memory ran out.", is_lost=True)
        return Ended(worker=worker, why=str(error) if error else "")

    def close(self) -> None:
        """End all processes. Cells that they had begun are done again at the next launch."""
        for pool in self.pools.values():
            processes = list((getattr(pool, "_processes", None) or {}).values())  # shutdown forgets them
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes if self.futures else ():
                process.terminate()


def _devices(count: int | None) -> list[tuple[str, int]]:
    """The devices of this machine, each with its memory in bytes. They are looked up in a process of its own, because
    that imports torch."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        found = pool.submit(_accelerators).result()
    if not found:
        return [("auto", total_memory() // (count or 1))] * (count or 1)
    return found[: count or len(found)]


def _accelerators() -> list[tuple[str, int]]:
    import torch

    return [
        (f"cuda:{number}", torch.cuda.get_device_properties(number).total_memory)
        for number in range(torch.cuda.device_count())
    ]


def _begin(study: Study, device: str, threads: int) -> None:
    global _worker
    import torch

    from mechdrift.studies.work import Worker

    torch.set_num_threads(threads)
    _worker = Worker(study, device)


def _run(cell: Cell) -> None:
    from mechdrift.studies.work import sentence_of

    try:
        _worker.run(cell)
    except Exception as error:  # noqa: BLE001 - noted with its traceback; whatever it is, its text must be sendable
        raise MechdriftError(sentence_of(error)) from None
