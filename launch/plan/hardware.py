"""Devices and clusters, read from `hardware/*.yaml`: every figure there states its source. A site may add its own files.

windtunnel plan RECIPE --gpu h100-sxm --gpus 64
"""

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from launch.plan.errors import PlanError

HERE = Path(__file__).parent / "hardware"
GIB = 2**30
HEADROOM_FRAC = 0.05  # of a device's memory, kept free: the planner's own error of memory is 6 % in the mean


@dataclass(frozen=True)
class Link:
    """One way, of one device. `frac`: share that NCCL's bus bandwidth reaches for long messages."""

    gb_s: float
    frac: float
    latency_us: float
    gather_frac: float = 1.0
    """All-gather and reduce-scatter against all-reduce, which switches and trees speed up."""

    @property
    def bytes_per_s(self) -> float:
        return self.gb_s * 1e9 * self.frac

    @property
    def latency_s(self) -> float:
        return self.latency_us * 1e-6


@dataclass(frozen=True)
class Hardware:
    """One device, and the node it sits in. Rates are peak; `frac` fields are the share that is reached."""

    name: str
    kind: str
    peak_tflops: dict[str, float]
    memory_gib: float
    memory_bandwidth_gb_s: float
    memory_bandwidth_frac: float
    num_sms: int
    matmul_max_frac: float
    matmul_frac_by_k: dict[int, float]
    attention_frac: dict[str, float]
    gpus_per_node: int
    node_link: Link
    fabric_link: Link
    host_link_gb_s: float
    power_w: float
    aliases: tuple[str, ...] = ()
    price_per_hour: float | None = None
    launch_us: float = 4.0
    """One small operation, whatever it computes: a kernel's launch (measured by `windtunnel doctor --bench`)."""

    @property
    def memory_bytes(self) -> float:
        return self.memory_gib * GIB

    @property
    def usable_bytes(self) -> float:
        """What a plan may fill: the memory less a stated headroom."""
        return self.memory_bytes * (1 - HEADROOM_FRAC)

    @property
    def memory_bytes_per_s(self) -> float:
        return self.memory_bandwidth_gb_s * 1e9 * self.memory_bandwidth_frac

    def peak_flops(self, precision: str) -> float:
        """Dense peak of a precision, in FLOP/s."""
        if precision not in self.peak_tflops:
            raise PlanError(f"{self.name} has no {precision}; it has {', '.join(self.peak_tflops)}")
        return self.peak_tflops[precision] * 1e12

    @property
    def k_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """log2 of the reduced dimension, share of peak there."""
        pairs = sorted(self.matmul_frac_by_k.items())
        return np.log2([k for k, _ in pairs]), np.array([frac for _, frac in pairs])


@dataclass(frozen=True)
class Cluster:
    """Equal devices in nodes. `num_gpus`: how many the plan may use."""

    hardware: Hardware
    num_gpus: int
    name: str = "cluster"
    reserve_frac: float = field(default=0.0)

    def with_gpus(self, num_gpus: int) -> "Cluster":
        return replace(self, num_gpus=num_gpus)


def from_mapping(raw: dict[str, Any], *, where: str) -> Hardware:
    """Validates one hardware file.

    Raises:
        PlanError: a key is missing, unknown or of the wrong kind.
    """
    known = set(Hardware.__dataclass_fields__)
    if unknown := set(raw) - known:
        near = get_close_matches(min(unknown), sorted(known), n=1)
        raise PlanError(f"{where}: unknown key {min(unknown)}" + (f"; did you mean {near[0]}?" if near else ""))
    values = dict(raw)
    try:
        values["node_link"], values["fabric_link"] = Link(**raw["node_link"]), Link(**raw["fabric_link"])
        values["aliases"] = tuple(raw.get("aliases", ()))
        values["matmul_frac_by_k"] = {int(k): float(frac) for k, frac in raw["matmul_frac_by_k"].items()}
        return Hardware(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"{where}: {error}; compare with {HERE.name}/h100-sxm.yaml") from error


def load_file(path: Path) -> Hardware:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PlanError(f"{path}: can't be read: {error}") from error
    if not isinstance(raw, dict):
        raise PlanError(f"{path}: expected a mapping of the keys of hardware/h100-sxm.yaml")
    return from_mapping(raw, where=str(path))


@cache
def builtin() -> dict[str, Hardware]:
    """All devices known here, by name."""
    devices = [load_file(path) for path in sorted(HERE.glob("*.yaml"))]
    return {device.name: device for device in devices}


def find(name: str) -> Hardware:
    """A device by name, alias, or path of a YAML file.

    Raises:
        PlanError: unknown; the nearest names are in the message.
    """
    if name.endswith((".yaml", ".yml")):
        return load_file(Path(name))
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    names = {alias: device for device in builtin().values() for alias in (device.name, *device.aliases)}
    if key in names:
        return names[key]
    near = get_close_matches(key, sorted(names), n=4, cutoff=0.4)
    raise PlanError(f"unknown GPU {name!r}; nearest: {', '.join(near) or '-'}; known: {', '.join(builtin())}")
