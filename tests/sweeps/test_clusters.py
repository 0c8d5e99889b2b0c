"""SLURM and Ray compute what this machine does: submitit with processes in place of a cluster, Ray on two nodes here."""

import json
from pathlib import Path

import pytest

from kinema.sweeps.grid import read_sweep
from kinema.sweeps.launchers import LauncherError, RayCluster, Slurm
from kinema.sweeps.running import run_sweep

from pretended import fit


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {lr: 1}\n")
    variants = {what: {"m.do": what} for what in ("well", "fail", "die")}
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({"base": "base.yaml", "seeds": [0], "variants": variants}))
    return read_sweep(file)


def statuses(sweep, tmp_path, launcher):
    table = tmp_path / "results.csv"
    rows = run_sweep(sweep, fit, launcher, root=tmp_path / "runs", table=table, progress=False)
    return {row.variant: row.status for row in rows}


def check(found):
    assert found["well"] == "done"
    assert found["fail"] == "failed: NonFiniteLossError: the loss is nan"
    assert found["die"].startswith("failed: ")


@pytest.mark.slow
def test_submitit(sweep, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    check(statuses(sweep, tmp_path, Slurm(tmp_path / "logs", cluster="local", timeout_min=20)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_of_two_nodes(sweep, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        check(statuses(sweep, tmp_path, RayCluster(cluster.address)))
        assert len(ray.nodes()) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    with pytest.raises(LauncherError, match=r"no Ray cluster answers at 127.0.0.1:1"):
        RayCluster("127.0.0.1:1")
