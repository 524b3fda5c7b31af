"""This process among the others: rank and rendezvous from the launcher's environment.

torchrun and the DeepSpeed launcher set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; under srun the same facts
come as SLURM_* and are translated. A process started by itself is a world of one.
"""

import ctypes
import os
from datetime import timedelta

from recipe.errors import RunError

_FROM_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
_ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


def rendezvous(environment: dict[str, str]) -> dict[str, str]:
    """The five variables of torch's `env://`; raises `RunError` naming what is missing."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if all(name in environment for name in names):
        facts = {name: environment[name] for name in names}
    elif "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        facts = {name: environment[slurm] for name, slurm in _FROM_SLURM.items()}
    else:
        return dict(_ALONE)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in environment:
            raise RunError(f"{name} is not set; the launcher must give the address and port of rank 0")
        facts[name] = environment[name]
    return facts


def _keep_freed_memory() -> None:
    """glibc gives large blocks back to the kernel when they are freed, and each step would wait for fresh pages."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # mallopt(3): M_MMAP_THRESHOLD is −3, M_TRIM_THRESHOLD −1
        mallopt(-3, 2**30)
        mallopt(-1, 2**31 - 1)


def start(*, device: str, timeout_s: float) -> None:
    """Joins the process group (nccl on GPUs, gloo on CPUs)."""
    import torch
    import torch.distributed as dist

    if device == "cpu":
        _keep_freed_memory()
    facts = rendezvous(dict(os.environ))
    os.environ.update(facts)
    timeout = timedelta(seconds=timeout_s)
    if device == "cuda":
        torch.cuda.set_device(int(facts["LOCAL_RANK"]))
    backend = "nccl" if device == "cuda" else "gloo"
    if facts["MASTER_PORT"] == "0":  # alone: no port to agree on
        store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
        os.environ["MASTER_PORT"] = str(store.port)
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    else:
        dist.init_process_group(backend, timeout=timeout)
