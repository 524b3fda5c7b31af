"""srun's arguments: how a step starts on the nodes, in a container or not. Pure."""

from dataclasses import dataclass
from pathlib import Path

from launch.cluster import Site
from launch.supervise.node import TRAIN_MODULE


@dataclass(frozen=True, kw_only=True)
class StepPlace:
    """Where a step runs.

    Attributes:
        nodes: Their names.
        python: Interpreter outside containers.
        visible: Directories that a container must see.
    """

    nodes: tuple[str, ...]
    python: str
    visible: tuple[Path, ...]


def train_step(
    site: Site, place: StepPlace, *, run_dir: Path, attempt: int, log_dir: Path, module: str = TRAIN_MODULE
) -> list[str]:
    """One step with all ranks: a task for each rank, or a task for each node that starts the node's ranks."""
    if site.tasks == "per_node":
        program = ["launch.supervise.node", str(run_dir), "--attempt", str(attempt), "--log-dir", str(log_dir)]
        return step(site, place, program, tasks_per_node=1, log=log_dir / "node_%4t.log")
    program = ["launch.supervise.rank", "-", module, str(run_dir), "--attempt", str(attempt)]
    return step(site, place, program, tasks_per_node=site.processes_per_node, log=log_dir / "rank_%5t.log")


def health_step(site: Site, place: StepPlace, *, folder: Path, run_dir: Path, log: Path) -> list[str]:
    """One task on each node, all of them even when one fails."""
    program = ["launch.supervise.health", str(folder), str(run_dir)]
    command = step(site, place, program, tasks_per_node=1, log=log)
    command[1:1] = ["--wait=0", f"--time={-(-round(site.health.timeout) // 60)}"]
    return [one for one in command if one != "--kill-on-bad-exit=1"]


def step(site: Site, place: StepPlace, program: list[str], *, tasks_per_node: int, log: Path) -> list[str]:
    """srun with what it would otherwise take from the environment, where SLURM's versions differ, said outright."""
    num_nodes = len(place.nodes)
    flags, prefix, python = container(site, visible=place.visible, python=place.python)
    cpus = site.cpus_per_process * site.processes_per_node // tasks_per_node
    return [
        "srun", f"--nodes={num_nodes}", f"--nodelist={','.join(place.nodes)}", f"--ntasks={num_nodes * tasks_per_node}",
        f"--ntasks-per-node={tasks_per_node}", f"--cpus-per-task={cpus}", "--cpu-bind=cores", "--mpi=none",
        "--kill-on-bad-exit=1", "--export=ALL", f"--output={log}", *flags, *prefix, python, "-u", "-m", *program,
    ]


def container(site: Site, *, visible: tuple[Path, ...], python: str) -> tuple[list[str], list[str], str]:
    """(flags of srun, what stands before the program, interpreter) for a program in the site's container, if it has one.

    Args:
        visible: Directories that it must see.
        python: Interpreter outside containers.
    """
    box = site.container
    if box is None:
        return [], [], python
    mounts = [*(f"{path}:{path}" for path in visible), *box.mounts]
    if box.kind == "pyxis":
        return [f"--container-image={box.image}", f"--container-mounts={','.join(mounts)}"], [], box.python
    binds = [part for mount in mounts for part in ("--bind", mount)]
    devices = ["--nv"] if site.accelerator == "cuda" else []
    return [], ["apptainer", "exec", *devices, *binds, box.image], box.python
