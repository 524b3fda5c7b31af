"""Seconds of one optimizer step, by part, for a table of layouts.

    step = (m − 1)·slowest stage + Σ stages (bubble; ÷ v for what interleaving shortens) + exposed communication + optimizer

The first line is 1F1B's time with uneven stages; with equal ones it is (m + p − 1)·c, and with v virtual stages the bubble is
(p − 1)/v of c (arXiv 2104.04473 §2.2). Overlap follows what each engine does (shapes.Engine), never a free constant.
"""

from dataclasses import dataclass

import numpy as np

from launch.plan.calibration import Calibration
from launch.plan.comm import context_group, data_group, pipeline_s, tensor_group
from launch.plan.compute import Device, head_time, layer_time, optimizer_s
from launch.plan.hardware import Hardware
from launch.plan.memory import layers_at, stage_index, stage_params
from launch.plan.shapes import Engine, Layouts, ModelShape

OVERLAP_SLOWDOWN = 1.13  # compute slows while it overlaps communication (Galvatron measured 1.1256)


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step by part, one value per layout; parts add up to step_s."""

    parts: dict[str, np.ndarray]
    stage_s: np.ndarray
    """Forward and backward of one microbatch on the slowest stage."""
    forward_frac: np.ndarray
    """Share of stage_s that is forward."""

    @property
    def step_s(self) -> np.ndarray:
        return np.asarray(sum(self.parts.values()))


def _tensor_comm(shape: ModelShape, layouts: Layouts, engine: Engine, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Exposed traffic of one layer, forward and backward: two all-reduces each (or as many gathers and scatters, of the same
    bytes, under sequence parallelism; its third gather in backward runs behind the product that gives the inputs' gradient).
    Context parallelism passes keys and values around a ring behind attention's blocks.
    """
    tokens = layouts.mbs * shape.seq_tokens / layouts.cp
    width = 4 if device.precision == "fp32" else 2
    ring = tensor_group(layouts, device.hardware)
    exposed = (1 - engine.overlap_tp_frac) * device.calibration.tp_exposed_frac
    message = width * tokens * shape.hidden
    one_way = exposed * 2 * np.where(layouts.sp > 0, 2 * ring.gather_s(message), ring.reduce_s(message))
    keys = 2 * width * shape.kv_hidden / layouts.tp * layouts.mbs * shape.seq_tokens
    around = 0.3 * context_group(layouts, device.hardware).gather_s(keys, messages=layouts.cp)
    return one_way + around, one_way + 2 * around


def microbatch_parts(shape: ModelShape, layouts: Layouts, engine: Engine, device: Device) -> dict[str, np.ndarray]:
    """One microbatch: compute and visible communication of a layer and of the head, with recomputation."""
    layer = layer_time(shape, layouts, engine, device)
    comm_forward, comm_backward = _tensor_comm(shape, layouts, engine, device)
    again = np.select(
        [layouts.recompute == 2, layouts.recompute == 1],
        [
            layer.forward + comm_forward,
            {"attention": layer.core_forward, "op": 0.4 * (layer.forward + comm_forward)}[engine.selective],
        ],
        0.0,
    )
    head_forward, head_backward = head_time(shape, layouts, engine, device)
    return {
        "forward": layer.forward + comm_forward, "backward": layer.backward + comm_backward + again, "again": again,
        "comm": comm_forward + comm_backward, "head_forward": head_forward, "head_backward": head_backward,
    }  # fmt: skip


def _zero3_exposed(
    shape: ModelShape, layouts: Layouts, engine: Engine, device: Device, compute_s: np.ndarray, params: np.ndarray
) -> np.ndarray:
    """Per microbatch under ZeRO-3: weights gathered forward and backward, gradients scattered, behind the layers' compute."""
    ring = data_group(layouts, device.hardware)
    messages = shape.num_layers / layouts.pp
    gradients = 0.0 if engine.flush_bytes else ring.gather_s(engine.wire_bytes * params, messages=messages)
    traffic = 2 * ring.gather_s(2 * params, messages=messages) + gradients
    hidden = np.minimum(engine.overlap_dp_frac * traffic, compute_s / OVERLAP_SLOWDOWN)
    exposed = traffic - hidden + hidden * (OVERLAP_SLOWDOWN - 1) * 0.5
    return np.where(layouts.zero == 3, device.calibration.dp_exposed_frac * exposed, 0.0)


def _data_exposed(
    layouts: Layouts, engine: Engine, device: Device, params: np.ndarray, last_s: np.ndarray, first_s: np.ndarray
) -> np.ndarray:
    """Per step under ZeRO 0 to 2: gradients reduced (behind the last microbatch's backward where the engine overlaps),
    weights gathered (behind the first forward)."""
    ring = data_group(layouts, device.hardware)
    grads, weights = float(engine.wire_bytes) * params, 2.0 * params
    bucket = engine.bucket_bytes * (np.maximum(1.0, ring.size / 40) if engine.bucket_grows else 1.0)
    buckets = np.ceil(grads / bucket)
    reduce_s = np.where(layouts.zero == 0, ring.reduce_s(grads, messages=buckets), ring.gather_s(grads, messages=buckets))
    gather_s = np.where(layouts.zero == 0, 0.0, ring.gather_s(weights, messages=buckets))
    hidden = np.minimum(engine.overlap_dp_frac * reduce_s, last_s) + np.minimum(engine.overlap_dp_frac * gather_s, first_s)
    exposed = reduce_s + gather_s - hidden * (1 - (OVERLAP_SLOWDOWN - 1) * 0.5)
    flushed = ring.gather_s(grads, messages=buckets) if engine.flush_bytes else 0.0  # under ZeRO-3: once a step, at the flush
    return device.calibration.dp_exposed_frac * np.where(layouts.zero == 3, flushed, exposed)


def step_time(
    shape: ModelShape,
    layouts: Layouts,
    engine: Engine,
    hardware: Hardware,
    calibration: Calibration,
    *,
    precision: str = "bf16",
) -> StepTime:
    """Seconds of one step, by part."""
    device = Device(hardware, calibration, precision)
    one = microbatch_parts(shape, layouts, engine, device)
    first, widest, last = (
        layers_at(shape, layouts, engine, stage_index(shape, layouts, engine, name)) for name in ("first", "widest", "last")
    )
    per_layer = one["forward"] + one["backward"]
    head = one["head_forward"] + one["head_backward"]
    tokens = layouts.mbs * shape.seq_tokens / layouts.cp
    cut = (layouts.sp > 0) | engine.scatters_messages
    message = pipeline_s(2 * tokens * shape.hidden / np.where(cut, layouts.tp, 1), layouts, hardware)
    stages = np.stack([widest * per_layer, last * per_layer + head])
    slowest = stages.max(axis=0)
    total = shape.num_layers * per_layer + head  # every stage once
    params = stage_params(shape, layouts, engine, stage_index(shape, layouts, engine, "first"))
    m, v = layouts.num_microbatches, layouts.vp
    bubble = np.maximum(total - slowest, 0.0) / v
    visible = 0.0 if engine.overlap_pp else 2.0
    transfers = message * (visible * m * v + 2 * (layouts.pp - 1))
    forward = one["forward"] * first + one["head_forward"] * (layouts.pp == 1)
    backward = one["backward"] * first + one["head_backward"] * (layouts.pp == 1)
    busy = m * slowest
    comm = m * first * one["comm"]
    parts = {
        "compute": busy - comm - m * first * one["again"],
        "recomputation": m * first * one["again"],
        "tensor and context parallel": comm,
        "bubble": bubble,
        "pipeline messages": transfers,
        "ZeRO-3 gathers": m * _zero3_exposed(shape, layouts, engine, device, slowest, params),
        "data parallel": _data_exposed(layouts, engine, device, params, backward, forward),
        "optimizer": optimizer_s(params, layouts, engine, device),
        "overhead": np.full(len(layouts), calibration.step_overhead_s),
    }
    nodes = np.maximum(1.0, layouts.num_gpus / hardware.gpus_per_node)
    parts["stragglers"] = calibration.jitter_frac * np.log2(nodes) * sum(parts.values())
    return StepTime(parts, slowest, forward / np.maximum(forward + backward, 1e-12))
