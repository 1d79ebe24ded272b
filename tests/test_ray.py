"""A study on a real Ray cluster of two nodes on this machine, of which one is lost."""

from dataclasses import replace

import pytest
from test_studies import models, nothing, write  # noqa: F401 - a fixture

from mechdrift.studies.launch import drive
from mechdrift.studies.ledger import Ledger
from mechdrift.studies.on_ray import RayWorkers
from mechdrift.studies.storage import Store
from mechdrift.studies.study import read_study

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    try:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
    except Exception as error:  # Ray waits 30 s for a node, whatever else the machine has to do
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("this machine is too busy to start Ray's nodes in time")
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


class LosesANode(RayWorkers):
    """After the third cell the second node goes, and another comes."""

    ended = 0

    def wait(self):
        found = super().wait()
        self.ended += len(found)
        if self.ended == 3:
            self.cluster.remove_node(next(iter(self.cluster.worker_nodes)))
            self.cluster.add_node(num_cpus=1)
        return found


def test_a_lost_node_loses_nothing_and_no_cell_is_begun_more_than_twice(cluster, models, tmp_path):  # noqa: F811
    study = replace(read_study(write(models)), out=str(tmp_path / "out"))
    cells = nothing(12)
    cells = [replace(cell, after=(cells[place - 4].id,) if place >= 4 else ()) for place, cell in enumerate(cells)]
    ledger = Ledger(store=Store(study.out))
    ledger.open(study, cells)
    workers = LosesANode(ray, study, 2)
    workers.cluster = cluster
    ended = drive(cells, ledger, workers)
    assert (ended.done, ended.failed) == (12, {})
    assert set(ledger.states().values()) == {"done"}
    assert max(ledger.facts(cell.id, "done")["starts"] for cell in cells) <= 2
