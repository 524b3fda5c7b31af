"""A first site file from what sinfo says: it loads, and fits the cluster it came from."""

from pathlib import Path

from launch.cluster import load_site
from launch.describe import site_text
from launch.slurm.check import cluster_faults
from launch.slurm.client import Partition


def test_the_partition_with_most_accelerators_is_chosen(tmp_path: Path) -> None:
    partitions = {
        "cpu": Partition("cpu", True, None, 40, 64, 256 * 2**30, default=True),
        "gpu": Partition("gpu", True, 2 * 86400.0, 4, 96, 2**40, {"gpu": 8, "gpu:h100": 8}),
        "old": Partition("old", False, None, 9, 96, 2**40, {"gpu": 16}),
    }
    path = tmp_path / "site.yaml"
    path.write_text(site_text(partitions, name="sim"))
    site = load_site(str(path))
    assert (site.partition, site.cpu_partition, site.gres, site.processes_per_node) == ("gpu", "cpu", "gpu:h100:8", 8)
    assert (site.cpus_per_process, site.time_limit, site.accelerator) == (12, 86400, "cuda")
    assert cluster_faults(site, num_nodes=4, partitions=partitions) == []


def test_without_accelerators(tmp_path: Path) -> None:
    partitions = {"batch": Partition("batch", True, 600.0, 4, 16, 2**36)}
    path = tmp_path / "site.yaml"
    path.write_text(site_text(partitions, name="sim"))
    site = load_site(str(path))
    assert (site.accelerator, site.gres, site.processes_per_node, site.time_limit) == ("cpu", None, 2, 600)
    assert cluster_faults(site, num_nodes=1, partitions=partitions) == []
