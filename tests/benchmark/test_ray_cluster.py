"""A sweep on a local Ray cluster of two workers, of which one is lost while it trains."""

import builtins
import os
import threading
import time
from pathlib import Path

import pytest
import toy
from conftest import REPO

from yolospine_ultra.benchmark.processes import EnvironmentDiffersError
from yolospine_ultra.benchmark.ray_cluster import RayCluster
from yolospine_ultra.benchmark.records import DONE, read_records
from yolospine_ultra.benchmark.runner import Options, run_sweep


def test_without_ray_the_line_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "ray":
            raise ImportError("no ray")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'yolospine_ultra\[ray\]'"):
        RayCluster("auto")


@pytest.mark.slow
def test_a_sweep_completes_though_a_worker_is_killed(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    log = tmp_path / "log"
    log.touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(REPO)]))
    monkeypatch.setenv("TOY_LOG", str(log))
    monkeypatch.setenv("TOY_SECONDS", "8")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    data = toy.write_patients(tmp_path / "set")
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
    try:
        workers = [cluster.add_node(**node) for _ in range(2)]
        cluster.wait_for_nodes()

        def kill_one():
            while len(log.read_text().splitlines()) < 2:  # both train
                time.sleep(0.1)
            cluster.remove_node(workers[0], allow_graceful=False)

        threading.Thread(target=kill_one, daemon=True).start()
        options = Options(
            data=data, models=["toy:GOOD", "toy:BAD"], out=tmp_path / "sweep", seeds=[0],
            rounds=0, ray=cluster.address,
        )  # fmt: skip
        assert run_sweep(options) == 0
    finally:
        cluster.shutdown()
    assert {r.cell: r.status for r in read_records(tmp_path / "sweep")} == {"good_seed0": DONE, "bad_seed0": DONE}
    assert len(log.read_text().splitlines()) == 3  # one training was begun again


def test_a_node_that_does_not_see_the_sweep_is_told_apart(tmp_path):
    from yolospine_ultra.benchmark.ray_cluster import _run_remote

    assert "file system that all nodes share" in _run_remote(str(tmp_path), None, None)
    assert issubclass(EnvironmentDiffersError, RuntimeError)
