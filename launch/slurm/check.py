"""What SLURM would take silently and never run, or run otherwise than it reads: refused before it is asked. Pure."""

import re
from difflib import get_close_matches

from launch.cluster import Site
from launch.slurm.client import Partition
from recipe.units import format_seconds

# sbatch's long options that a site may want and that don't collide with what we set (sbatch --help, SLURM 22.05 to 24.11)
EXTRA_OPTIONS = (
    "begin", "bb", "bbf", "clusters", "comment", "contiguous", "core-spec", "cpu-freq", "deadline", "distribution", "exclude",
    "gpu-bind", "gpu-freq", "hint", "licenses", "mail-type", "mail-user", "mem-bind", "mem-per-cpu", "mem-per-gpu", "network",
    "nice", "nodelist", "overcommit", "oversubscribe", "power", "prefer", "priority", "profile", "reboot",
    "sockets-per-node", "spread-job", "switches", "threads-per-core", "tmp", "tres-per-task", "use-min-nodes", "wckey",
)
_DIRECTIVE = re.compile(r"^#SBATCH\s+--?([A-Za-z-]+)")
_SET_BY_US = (
    "job-name", "partition", "account", "qos", "reservation", "constraint", "chdir", "output", "open-mode", "export", "nodes",
    "ntasks-per-node", "ntasks", "cpus-per-task", "mincpus", "gres", "mem", "exclusive", "time", "signal", "requeue", "array",
)


def script_faults(text: str) -> list[str]:
    """What is wrong with an sbatch file, a line each; each names the line."""
    faults = []
    lines = text.split("\n")
    if "\r" in text:
        number = next(index for index, line in enumerate(lines, start=1) if "\r" in line)
        faults.append(f"line {number}: ends as on Windows (CRLF), which sbatch or the shell fails on; `tr -d '\\r'` mends it")
    if not lines[0].startswith("#!"):
        faults.append("line 1: no interpreter; an sbatch file starts with #!/bin/bash")
    command = 0
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if stripped.startswith("#SBATCH") and command:
            faults.append(f"line {number}: {stripped!r} comes after the first command (line {command}): SLURM ignores it there")
        elif stripped.startswith("#SBATCH") and not line.startswith("#SBATCH"):
            faults.append(f"line {number}: {stripped!r} is indented: SLURM ignores it")
        elif stripped.startswith("#SBATCH"):
            faults += _option_faults(stripped, number)
        elif stripped and not stripped.startswith("#"):
            command = command or number
    return faults


def _option_faults(line: str, number: int) -> list[str]:
    match = _DIRECTIVE.match(line)
    if match is None:
        return [f"line {number}: {line!r} has no option"]
    known = (*_SET_BY_US, *EXTRA_OPTIONS)
    if len(match[1]) == 1 or match[1] in known:
        return []
    return [f"line {number}: --{match[1]} is no option of sbatch; {_near(match[1], known)}"]


def extra_faults(site: Site) -> list[str]:
    """Options under `extra` that don't exist, or that another key of the site file sets."""
    faults = []
    for name in site.extra:
        if name in _SET_BY_US:
            faults.append(f"extra.{name}: set by Windtunnel itself from the other keys of the site file")
        elif name not in EXTRA_OPTIONS:
            faults.append(f"extra.{name}: no such option; {_near(name, EXTRA_OPTIONS)}")
    for index, line in enumerate(site.setup):
        if line.lstrip().startswith("#SBATCH"):
            faults.append(f"setup.{index}: SLURM ignores an #SBATCH line that comes after a command; write it under extra")
        if "\n" in line or "\r" in line:
            faults.append(f"setup.{index}: holds a line break; write one line an item")
    return faults


def _near(name: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"valid: {', '.join(sorted(known))}"


def cluster_faults(site: Site, *, num_nodes: int, partitions: dict[str, Partition]) -> list[str]:
    """What the site file asks for and the cluster, as sinfo describes it, doesn't have."""
    faults = []
    if site.max_nodes is not None and num_nodes > site.max_nodes:
        faults.append(f"--nodes {num_nodes}: the site file allows max_nodes={site.max_nodes}")
    for key in ("partition", "cpu_partition"):
        name = getattr(site, key)
        if name is not None and name not in partitions:
            faults.append(f"{key}={name}: no such partition; {_near(name, tuple(partitions))}")
    partition = partitions.get(site.partition)
    if partition is None:
        return faults
    here = f"partition {site.partition}"
    if not partition.up:
        faults.append(f"{here} is down: a job there stays pending; others: {_others(partitions, site.partition)}")
    if num_nodes > partition.num_nodes:
        faults.append(f"--nodes {num_nodes}: {here} has {partition.num_nodes}; SLURM would keep the job pending for ever")
    cpus = site.processes_per_node * site.cpus_per_process
    if cpus > partition.cpus:
        faults.append(
            f"processes_per_node × cpus_per_process = {cpus}: a node of {here} has {partition.cpus} cores; "
            f"cpus_per_process is {partition.cpus // site.processes_per_node} at most"
        )
    if site.memory_per_node and site.memory_per_node > partition.memory_bytes:
        faults.append(f"memory_per_node={site.memory_per_node}: a node of {here} has {partition.memory_bytes} bytes")
    faults += _limit_faults(site, partition, here)
    return faults + _gres_faults(site, partition, here)


def _limit_faults(site: Site, partition: Partition, here: str) -> list[str]:
    if partition.limit_s is not None and site.time_limit > partition.limit_s:
        longest = format_seconds(partition.limit_s)
        return [f"time_limit={format_seconds(site.time_limit)}: {here} ends jobs after {longest}; SLURM would keep it pending"]
    return []


def _gres_faults(site: Site, partition: Partition, here: str) -> list[str]:
    if not site.gres:
        return []
    *kind, count = site.gres.split(":")
    wanted = int(count) if count.isdigit() else 1
    kind = kind if count.isdigit() else [*kind, count]
    have = partition.gres.get(":".join(kind), 0)
    if wanted > have:
        shown = ", ".join(f"{name}:{number}" for name, number in partition.gres.items()) or "none"
        return [f"gres={site.gres}: a node of {here} has {shown}"]
    return []


def _others(partitions: dict[str, Partition], name: str) -> str:
    return ", ".join(other for other, facts in partitions.items() if facts.up and other != name) or "none"
