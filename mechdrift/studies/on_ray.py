"""The launcher `ray`: one actor per device of a cluster, each of which keeps its model open.

Ray places actors and notices which are lost. Which cell comes next is decided here (`schedule`), because Ray does not
know which model an actor holds. An actor that is lost with its node is started again wherever Ray finds room, and its
cell is tried once more. Only a cell and its error pass through Ray's object store, so it does no harm when that is
full. The study's folder has to be visible from all nodes: on a shared disk or in an object store."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mechdrift.records import MechdriftError
from mechdrift.studies.cells import Cell
from mechdrift.studies.study import Study
from mechdrift.studies.workers import Ended

ENVIRONMENT = ("PYTHONPATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN")
MEMORY_OF_NODES = 1 << 62  # where a cluster has no accelerators, Ray itself watches over memory


@contextmanager
def ray_workers(study: Study, count: int | None, address: str | None) -> "Iterator[RayWorkers]":
    """Actors for a study on a running cluster, or on one that is started on this machine."""
    ray = _imported()
    began = not ray.is_initialized()
    if began:
        variables = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        ray.init(address=address, runtime_env={"env_vars": variables}, log_to_driver=False, include_dashboard=False)
    try:
        yield RayWorkers(ray, study, count)
    finally:
        if began:
            ray.shutdown()


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MechdriftError("the launcher ray needs Ray: install it with pip install 'mechdrift[ray]'.") from error
    return ray


class RayWorkers:
    """Actors by the names of workers."""

    def __init__(self, ray: Any, study: Study, count: int | None):
        resources = ray.cluster_resources()
        self.ray, self.study, self.gpus = ray, study, int(resources.get("GPU", 0))
        if self.gpus == 0 and str(study.audit.get("device", "auto")).startswith("cuda"):
            raise MechdriftError(
                "the study asks for cuda, and no node of this cluster has a GPU: set device, or add one."
            )
        names = [f"actor-{number}" for number in range(count or self.gpus or int(resources.get("CPU", 1)))]
        self.memory = dict.fromkeys(names, MEMORY_OF_NODES)
        self.actors: dict[str, Any] = {}
        self.under_way: dict[Any, str] = {}

    def start(self, worker: str, cell: Cell) -> None:
        if worker not in self.actors:
            self.actors[worker] = self._actor()
        self.under_way[self.actors[worker].run.remote(cell.line)] = worker

    def _actor(self) -> Any:
        needs = {"num_gpus": 1} if self.gpus else {"num_cpus": 1}
        return self.ray.remote(scheduling_strategy="SPREAD", **needs)(Actor).remote(self.study)

    def wait(self) -> Sequence[Ended]:
        done, _ = self.ray.wait(list(self.under_way), num_returns=1)
        return [self._ended(reference) for reference in done]

    def _ended(self, reference: Any) -> Ended:
        worker = self.under_way.pop(reference)
        try:
            return Ended(worker=worker, why=self.ray.get(reference))
        except self.ray.exceptions.RayError as error:  # the actor or its node is gone
            del self.actors[worker]
            return Ended(worker=worker, why=f"the worker was lost ({type(error).__name__}).", is_lost=True)


class Actor:
    """One process of the cluster, with one device."""

    def __init__(self, study: Study):
        from mechdrift.studies.work import Worker

        self.worker = Worker(study)

    def run(self, line: str) -> str:
        """Do a cell; returns why it failed, or nothing."""
        from mechdrift.studies.work import sentence_of

        try:
            self.worker.run(Cell.read(line))
        except Exception as error:  # noqa: BLE001 - noted with its traceback; another machine may lack its class
            return sentence_of(error)
        return ""
