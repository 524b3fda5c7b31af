"""All ranks of one machine, by DeepSpeed's launcher: here (one node), or as the one task of a node under srun.

Under srun: `python -m launch.supervise.node RUN_DIR --attempt N --log-dir DIR`, with MASTER_ADDR, MASTER_PORT and
WINDTUNNEL_PROCESSES_PER_NODE in the environment and the node's rank from SLURM.
"""

import argparse
import base64
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from launch.errors import LaunchError
from launch.supervise.child import run_child, signal_descendants, stop_requests
from launch.supervise.outcome import normal_exit_code

TRAIN_MODULE = "recipe.train"


def launcher_command(
    run_dir: Path, *, attempt: int, log_dir: Path, processes_per_node: int, num_nodes: int = 1, node_rank: int = 0,
    master_addr: str = "127.0.0.1", master_port: int, visible_devices: str | None = None, module: str = TRAIN_MODULE,
) -> list[str]:
    """DeepSpeed's per-node launcher for `python -m recipe.train RUN_DIR --attempt N` on each rank.

    Args:
        visible_devices: CUDA_VISIBLE_DEVICES as this node has it: the launcher would otherwise give the ranks devices 0, 1, …
            that SLURM may have given to somebody else.
    """
    count = list(range(processes_per_node))
    here = [int(one) for one in visible_devices.split(",")] if visible_devices else count
    if len(here) < processes_per_node:
        raise LaunchError(f"CUDA_VISIBLE_DEVICES={visible_devices}: fewer devices than the node's {processes_per_node} ranks")
    world = {f"node{rank}": here[:processes_per_node] if rank == node_rank else count for rank in range(num_nodes)}
    return [
        sys.executable, "-m", "deepspeed.launcher.launch", "--quiet", "--module", "--no_local_rank",
        f"--world_info={base64.urlsafe_b64encode(json.dumps(world).encode()).decode()}",
        f"--node_rank={node_rank}", f"--master_addr={master_addr}", f"--master_port={master_port}",
        "launch.supervise.rank", str(log_dir), module, str(run_dir), "--attempt", str(attempt),
    ]


def run_node(
    command: list[str], *, env: dict[str, str], received: list[signal.Signals], log: Path,
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Runs the launcher to its end; a stop request goes to the ranks as SIGUSR1."""
    module = command[command.index("launch.supervise.rank") + 2]
    leave = partial(signal_descendants, marker=module)
    code = run_child(command, env=env, received=received, ask_to_leave=leave, watch=watch, log=log)
    return normal_exit_code(code)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--log-dir", type=Path, required=True)
    args = parser.parse_args()
    env = dict(os.environ)
    node_rank = int(env["SLURM_NODEID"])
    command = launcher_command(
        args.run_dir, attempt=args.attempt, log_dir=args.log_dir, processes_per_node=int(env["WINDTUNNEL_PROCESSES_PER_NODE"]),
        num_nodes=int(env["SLURM_STEP_NUM_NODES"]), node_rank=node_rank, master_addr=env["MASTER_ADDR"],
        master_port=int(env["MASTER_PORT"]), visible_devices=env.get("CUDA_VISIBLE_DEVICES"),
        module=env.get("WINDTUNNEL_TRAIN_MODULE", TRAIN_MODULE),
    )
    with stop_requests() as received:
        return run_node(command, env=env, received=received, log=args.log_dir / f"node_{node_rank:04d}.log")


if __name__ == "__main__":
    sys.exit(main())
