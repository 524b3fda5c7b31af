"""What a node shows before an attempt starts on it: `python -m launch.supervise.health FOLDER RUN_DIR`, one task a node.

Each node writes `FOLDER/<node>.json` with what it sees, before it talks to any other: a node that never writes is bad.
Then neighbours all-reduce in pairs. A slow node is slow with both its neighbours, its neighbours only with it, so a node
is rated by the better of its two pairs.
"""

import os
import shutil
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep.atomic import write_json
from launch.cluster import Health
from recipe.rundir import read_json
from recipe.units import format_bytes

PAIR_BYTES = 32 * 2**20
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What a node saw; None for what it couldn't measure."""

    node: str
    num_devices: int
    min_device_memory_free_bytes: int | None
    disk_free_bytes: int
    time: float
    bandwidth: float | None = None
    """Bytes a second, all-reduce with a neighbour."""


def node_name() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def look(run_dir: Path) -> NodeReport:
    """What this node has now."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    num_devices = len([one for one in (visible or "").split(",") if one.strip()])
    memory = None
    if _has_gpus():  # importing torch takes seconds, for nothing on a CPU node
        import torch

        num_devices = torch.cuda.device_count()
        memory = min((torch.cuda.mem_get_info(index)[0] for index in range(num_devices)), default=None)
    return NodeReport(
        node=node_name(), num_devices=num_devices, min_device_memory_free_bytes=memory,
        disk_free_bytes=shutil.disk_usage(run_dir).free, time=time.time(),
    )


def faults(
    reports: dict[str, NodeReport], *, nodes: list[str], limits: Health, num_devices: int | None,
    between: tuple[float, float],
) -> dict[str, str]:
    """Node → what is wrong with it; a node that isn't named is fit. Pure.

    Args:
        reports: By node.
        nodes: Of the allocation.
        num_devices: That each must have; None where none are asked for.
        between: When the check was started and when its reports were read, by the first node's clock.
    """
    found: dict[str, str] = {}
    for node in nodes:
        report = reports.get(node)
        if report is None:
            found[node] = f"no answer within {limits.timeout:g} s"
            continue
        wrong = []
        if num_devices is not None and report.num_devices < num_devices:
            wrong.append(f"{report.num_devices} devices of {num_devices}")
        memory = report.min_device_memory_free_bytes
        if memory is not None and memory < limits.min_device_memory_free:
            wrong.append(f"{format_bytes(memory)} of device memory free, under {format_bytes(limits.min_device_memory_free)}")
        if report.disk_free_bytes < limits.min_disk_free:
            wrong.append(f"{format_bytes(report.disk_free_bytes)} of disk free, under {format_bytes(limits.min_disk_free)}")
        skew = max(between[0] - report.time, report.time - between[1])  # what no delay of the check explains
        if skew > limits.max_clock_skew:
            wrong.append(f"clock {skew:.1f} s off, over {limits.max_clock_skew:g} s")
        if report.bandwidth is not None and report.bandwidth < limits.min_bandwidth:
            wrong.append(f"{format_bytes(report.bandwidth)}/s to its neighbours, under {format_bytes(limits.min_bandwidth)}/s")
        if wrong:
            found[node] = ", ".join(wrong)
    return found


def read_reports(folder: Path) -> dict[str, NodeReport]:
    return {path.stem: NodeReport(**read_json(path)) for path in sorted(folder.glob("*.json"))}


def pair_bandwidth(*, rank: int, world_size: int) -> float:
    """Bytes a second of the better of this node's two pairs on a ring; every node calls it."""
    import torch
    import torch.distributed as dist

    device = "cuda" if _has_gpus() else "cpu"
    buffer = torch.ones(PAIR_BYTES // 4, device=device)  # fp32
    best = 0.0
    pairs = [(one, (one + 1) % world_size) for one in range(world_size)] if world_size > 2 else [(0, 1)]
    for phase in (0, 1, 2):  # in a phase no node is in two pairs; three phases do for an odd ring
        chosen = [pair for index, pair in enumerate(pairs) if _phase(index, len(pairs)) == phase]
        groups = [dist.new_group(list(pair)) for pair in chosen]  # collective: every rank makes every group
        for pair, group in zip(chosen, groups, strict=True):
            if rank in pair:
                dist.all_reduce(buffer, group=group)
                start = time.perf_counter()
                for _ in range(REPEATS):
                    dist.all_reduce(buffer, group=group)
                if device == "cuda":
                    torch.cuda.synchronize()
                best = max(best, REPEATS * PAIR_BYTES / (time.perf_counter() - start))
        dist.barrier()
    return best


def _phase(index: int, count: int) -> int:
    return 2 if count % 2 and index == count - 1 else index % 2


def main() -> int:
    folder, run_dir = Path(sys.argv[1]), Path(sys.argv[2])
    report = look(run_dir)
    path = folder / f"{report.node}.json"
    write_json(path, asdict(report))
    world_size = int(os.environ.get("SLURM_NTASKS", "1"))
    if world_size == 1:
        return 0
    from recipe import distributed

    distributed.start(device="cuda" if _has_gpus() else "cpu", timeout_s=60)
    bandwidth = pair_bandwidth(rank=int(os.environ["SLURM_PROCID"]), world_size=world_size)
    write_json(path, asdict(report) | {"bandwidth": bandwidth})
    return 0


def _has_gpus() -> bool:
    """Whether a driver shows devices here and torch can use them."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        return False
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
