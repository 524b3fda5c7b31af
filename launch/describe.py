"""A first site file for the cluster that this machine belongs to, from what sinfo says: for `windtunnel doctor --cluster`."""

import getpass
from pathlib import Path

from data_prep.atomic import write_text
from launch.cluster import Site, load_site
from launch.slurm import client
from launch.slurm.check import cluster_faults, extra_faults
from launch.slurm.client import Partition
from recipe.units import format_seconds

LONGEST_S = 24 * 3600.0


def describe_from_sinfo() -> str:
    """The text of a site file; raises `SlurmError` where there is no SLURM."""
    return site_text(client.partitions(), name=_cluster_name())


def _cluster_name() -> str:
    for line in client.call("scontrol", "show", "config").splitlines():
        if line.startswith("ClusterName"):
            return line.partition("=")[2].strip()
    return "cluster"


def site_text(partitions: dict[str, Partition], *, name: str) -> str:
    """Pure: the partition with the most accelerators, of those the one with the most nodes; the rest is listed."""
    up = [partition for partition in partitions.values() if partition.up and partition.num_nodes]
    if not up:
        return ""
    chosen = max(up, key=lambda one: (max(one.gres.values(), default=0), one.num_nodes, one.default))
    plain = [one for one in up if not one.gres]
    gres = max(chosen.gres, key=lambda kind: (kind.count(":"), chosen.gres[kind]), default="")
    ranks = chosen.gres[gres] if gres else 2 if chosen.cpus >= 2 else 1
    limit_s = min(chosen.limit_s or LONGEST_S, LONGEST_S)
    listed = ", ".join(
        f"{one.name} ({one.num_nodes} nodes, {one.cpus} cores, {_gres(one)}, {_limit(one)})" for one in up
    )
    lines = [
        f"# Cluster {name}, as sinfo describes it to {getpass.getuser()}. Partitions: {listed}.",
        "# What it can't tell (account, modules, network, python) you must add: launch/clusters/ has explained examples.",
        f"name: {name}", f"partition: {chosen.name}",
    ]
    if gres and plain:
        lines.append(f"cpu_partition: {max(plain, key=lambda one: one.num_nodes).name}")
    lines += [f"accelerator: {'cuda' if gres else 'cpu'}", f"processes_per_node: {ranks}"]
    if gres:
        lines.append(f"gres: {gres}:{chosen.gres[gres]}")
    lines += [
        f"cpus_per_process: {max(chosen.cpus // ranks, 1)}",
        f"time_limit: {limit_s / 60:.0f}m  # {format_seconds(limit_s)}",
        f"leave_before: {max(min(300, limit_s / 4), 30):.0f}s",
        "# account: YOUR-ACCOUNT",
        "# modules: [cuda]",
        "# environment: {NCCL_SOCKET_IFNAME: ib0, GLOO_SOCKET_IFNAME: ib0}",
        "",
    ]
    return "\n".join(lines)


def _gres(one: Partition) -> str:
    return ", ".join(f"{name}:{count}" for name, count in one.gres.items()) or "no accelerators"


def _limit(one: Partition) -> str:
    return "no limit" if one.limit_s is None else format_seconds(one.limit_s)


def check_site(name: str) -> list[str]:
    """What is wrong with a site file on the cluster at hand; raises `ClusterError` for one that can't be read."""
    site: Site = load_site(name)
    return extra_faults(site) + cluster_faults(site, num_nodes=1, partitions=client.partitions())


def write_first_site(path: Path) -> None:
    """Writes a first site file; an existing file is left alone."""
    if not path.exists():
        write_text(path, describe_from_sinfo())
