"""A site: where runs go, never what they are. One typed YAML file per cluster; examples in `launch/clusters/`.

    site = load_site("h100")          # launch/clusters/h100.yaml, or the path of a file
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from launch.errors import ClusterError
from recipe.config import Bytes, Seconds, Section
from recipe.errors import ConfigError
from recipe.load import read_yaml, validate

EXAMPLES = Path(__file__).parent / "clusters"
SIGNAL_EARLY_S = 60.0  # by how much SLURM may send --signal before its time (sbatch's manual)
LOCAL = "local"  # the site that is this machine: the same chain without SLURM


class Container(Section):
    """An image that the ranks run in."""

    kind: Literal["pyxis", "apptainer"]
    image: str
    mounts: list[str] = Field(default_factory=list)
    """host:inside pairs; the run directory and the data must be among what is visible inside."""
    python: str = "python3"
    """The interpreter in the image that has Windtunnel's dependencies."""


class Health(Section):
    """What a node must show before an attempt starts on it."""

    min_disk_free: Bytes = 10 * 2**30
    """On the file system of the run directory."""
    min_device_memory_free: Bytes = 0
    """Of each GPU."""
    max_clock_skew: Seconds = 5.0
    """Against the first node."""
    min_bandwidth: Bytes = 0
    """Bytes a second of an all-reduce with a neighbour node."""
    timeout: Seconds = 180.0


class Site(Section):
    """One cluster as its users see it."""

    name: str
    partition: str
    """For training."""
    cpu_partition: str | None = None
    """For jobs without accelerators (tokenizing, reports); the training partition where absent."""
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    accelerator: Literal["cuda", "cpu"]
    processes_per_node: int = Field(ge=1)
    """Ranks on a node: one per GPU."""
    gres: str | None = None
    """As the site writes it, for a whole node: gpu:8, gpu:h100:8."""
    gpu: str | None = None
    """The device as `windtunnel plan` knows it, or a YAML file; gres's type (gpu:h100:8) where absent."""
    cpus_per_process: int = Field(default=1, ge=1)
    memory_per_node: Bytes | None = None
    exclusive: bool = False
    """Whole nodes, nobody beside us."""
    time_limit: Seconds
    leave_before: Seconds = 300.0
    """So long before the time limit, ranks are told to write a checkpoint and leave."""
    cpu_time_limit: Seconds = 4 * 3600.0
    tasks: Literal["per_process", "per_node"] = "per_process"
    """srun starts every rank, or one launcher on each node that starts its ranks."""
    max_nodes: int | None = None
    """More are refused before SLURM is asked."""
    array_limit: int = Field(default=16, ge=1)
    """Tasks of an array that run at once."""
    modules: list[str] = Field(default_factory=list)
    setup: list[str] = Field(default_factory=list)
    """Shell lines that run first in every job."""
    environment: dict[str, str] = Field(default_factory=dict)
    """For all ranks: NCCL's and gloo's network settings, mostly."""
    python: str | None = None
    """Interpreter on the nodes that has Windtunnel installed; the submitting one where absent."""
    container: Container | None = None
    extra: dict[str, str | int | bool] = Field(default_factory=dict)
    """More sbatch options by their long names: {mail-type: FAIL, mail-user: me@site}."""
    health: Health = Health()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.accelerator == "cuda" and self.gres is None and not self.exclusive:
            raise ValueError("accelerator: cuda needs gres (gpu:8, say), or exclusive: true where nodes come whole")
        if self.leave_before < 30:
            raise ValueError(f"leave_before={self.leave_before:g}s is under 30s: SLURM's signals are that late themselves")
        if self.time_limit < self.leave_before + SIGNAL_EARLY_S + 30:
            least = f"leave_before + {SIGNAL_EARLY_S + 30:g}s = {self.leave_before + SIGNAL_EARLY_S + 30:g}s"
            raise ValueError(f"time_limit={self.time_limit:g}s is under {least}: SLURM signals up to a minute early")
        return self


def site_names() -> list[str]:
    return sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def load_site(name: str, settings: dict[str, object] | None = None) -> Site:
    """The site of a file or example, with single keys replaced; raises `ClusterError` naming file and key."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else EXAMPLES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(site_names())
        raise ClusterError(f"{name}: no such site file; examples: {known}; `windtunnel doctor --cluster` writes one for here")
    try:
        content = read_yaml(path)
        return validate(Site, {"name": path.stem} | content | (settings or {}), where=str(path))
    except ConfigError as error:
        raise ClusterError(str(error)) from error
