"""Seconds of one device's arithmetic: matrix products, attention and what lies between them, for a table of layouts.

Matrix products stand on a roofline by shape: share of peak by the reduced dimension (tables in `hardware/*.yaml`), lowered
where the output has too few tiles for the device's multiprocessors, bounded by memory traffic, plus a launch. The efficiency
of a layer is therefore not one constant: tensor parallelism shrinks reduced dimensions and outputs, and pays for it.
"""

from dataclasses import dataclass

import numpy as np

from launch.plan.calibration import Calibration
from launch.plan.hardware import Hardware
from launch.plan.shapes import Engine, Layouts, ModelShape, padded_vocab

TILE = 128  # rows and columns of the output that one multiprocessor computes (cuBLAS's usual tile is 128 × 256)
MASKED_FRAC = 0.5  # speed with an explicit mask where it was not measured (torch's memory-efficient kernel)
REFERENCE_WAVES = 10.0  # waves of tiles at the shapes that the tables' medians were taken on (m ≥ 4096)

Size = np.ndarray | float


@dataclass(frozen=True)
class Device:
    """Hardware with what calibration knows of its behaviour in a training loop."""

    hardware: Hardware
    calibration: Calibration
    precision: str = "bf16"

    @property
    def hot_frac(self) -> float:
        """Clocks in a hot training loop against an isolated kernel (isolated products are 10 to 15 % faster)."""
        return self.calibration.hot(self.hardware.name)

    @property
    def launch_s(self) -> float:
        """Seconds that an operation costs however small it is."""
        return 1e-6 * self.hardware.launch_us * self.calibration.launch_scale

    def matmul_s(self, m: Size, n: Size, k: Size, *, extra_bytes: np.ndarray | float = 0.0) -> np.ndarray:
        """Seconds of one m×k by k×n product; m, n, k local sizes (broadcast together). extra_bytes: traffic beside operands."""
        grid, frac = self.hardware.k_curve
        share = np.interp(np.log2(np.maximum(k, 1)), grid, frac)
        waves = np.ceil(m / TILE) * np.ceil(n / TILE) / self.hardware.num_sms
        filled = np.minimum(waves / (waves + 0.5) * (REFERENCE_WAVES + 0.5) / REFERENCE_WAVES, 1.0)
        arithmetic = 2.0 * m * n * k / (self.hardware.peak_flops(self.precision) * share * filled * self.hot_frac)
        width = 4 if self.precision == "fp32" else 2
        traffic = (width * (m * k + k * n + m * n) + extra_bytes) / self.hardware.memory_bytes_per_s
        return np.maximum(arithmetic, traffic) + self.launch_s

    def stream_s(self, num_bytes: Size) -> np.ndarray:
        """Seconds to move bytes through device memory."""
        return np.asarray(num_bytes) / self.hardware.memory_bytes_per_s


@dataclass(frozen=True)
class LayerTime:
    """Seconds of one layer for one microbatch; core: the attention part, which selective recomputation repeats."""

    forward: np.ndarray
    backward: np.ndarray
    core_forward: np.ndarray


def attention_saturation(seq_tokens: float, head_size: float) -> float:
    """Share of a fused kernel's speed at long sequences and heads of 128 that is reached at these."""
    return seq_tokens / (seq_tokens + 400.0) * min(1.0, (head_size / 128) ** 0.23)


def _attention(shape: ModelShape, layouts: Layouts, engine: Engine, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Scores and values: 4·s²·h operations forward, half of them masked; 2.5 times that backward (arXiv 2307.08691 §3.1).

    The kernels' published shares are used as they are: they draw less power than matrix products, and clocks hold.
    Without a flash kernel the s×s matrix travels through memory, and nothing is gained from the mask. Bytes a score: forward 13
    (product out 2, masked softmax 2 + 2, dropout 2 + 2 + 1, product in 2); backward 19.
    """
    tokens, heads = layouts.mbs * shape.seq_tokens / layouts.cp, shape.num_heads / layouts.tp
    operations = 4.0 * tokens * shape.seq_tokens * heads * shape.head_size
    masked = engine.masked_context & (layouts.cp > 1)
    if engine.masked_context:  # a slice's rows by all that lies before its end: (2c + 1)/2c of the causal half
        operations = operations * np.where(masked, 1 + 1 / (2 * layouts.cp), 1.0)
    if not engine.flash:
        scores = tokens * shape.seq_tokens * heads
        base = device.hardware.peak_flops("fp16" if device.precision == "fp8" else device.precision) * 0.5 * device.hot_frac
        forward = operations / base + device.stream_s(13.0 * scores)
        return forward, 2.0 * operations / base + device.stream_s(19.0 * scores)
    frac = device.hardware.attention_frac
    kind = "fused_" if engine.fused_attention and "fused_forward" in frac else ""
    saturation = attention_saturation(shape.seq_tokens, shape.head_size)
    precision = "bf16" if device.precision == "fp8" else device.precision
    base = device.hardware.peak_flops(precision) * saturation * engine.attention_frac
    forward, backward = (
        np.where(masked, frac.get(f"masked_{way}", MASKED_FRAC * frac[kind + way]), frac[kind + way])
        for way in ("forward", "backward")
    )
    return operations / 2 / (base * forward), 2.5 * operations / 2 / (base * backward)


def _between(shape: ModelShape, layouts: Layouts, engine: Engine, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Norms, residuals, rotary embedding, activation: bytes through memory.

    Forward, a token: two norms 8h, two residual sums 12h, rotary 4(h+k), SwiGLU 6f or GELU 4f; backward about twice.
    """
    h, f, kv = shape.hidden, shape.ffn, shape.kv_hidden
    tokens = layouts.mbs * shape.seq_tokens / layouts.cp
    n = np.where(layouts.sp > 0, layouts.tp, 1)
    rows = 20 * h / n
    columns = (4 * (h + kv) + (6 if shape.gated else 4) * f) / layouts.tp
    masks = 6 * h / n if engine.dropout else 0.0
    width = (2 if device.precision == "fp32" else 1) * (1.0 if engine.fused_elementwise else device.calibration.eager_scale)
    forward = device.stream_s(width * tokens * (rows + columns + masks)) + 8 * device.launch_s
    backward = device.stream_s(width * tokens * (1.2 * rows + 1.7 * columns + masks)) + 16 * device.launch_s
    return forward, backward


def layer_time(shape: ModelShape, layouts: Layouts, engine: Engine, device: Device) -> LayerTime:
    """Compute of one layer on one rank. Backward: the product with the weights, and the one that gives their gradient."""
    h, f, kv, t = shape.hidden, shape.ffn, shape.kv_hidden, layouts.tp
    m = layouts.mbs * shape.seq_tokens / layouts.cp
    linears: list[tuple[Size, Size]] = [  # (in, out), local
        (h, (h + 2 * kv) / t), (h / t, h), (h, (2 if shape.gated else 1) * f / t), (f / t, h),
    ]  # fmt: skip
    forward, backward = _between(shape, layouts, engine, device)
    for k, n in linears:
        forward = forward + device.matmul_s(m, n, k)
        accumulate = (8 if engine.fused_accumulate else 14) * n * k  # read and write fp32; unfused: through a bf16 gradient
        backward = backward + device.matmul_s(m, k, n) + device.matmul_s(n, k, m) + device.stream_s(accumulate)
    core, core_backward = _attention(shape, layouts, engine, device)
    return LayerTime(forward + core, backward + core_backward, core)


def head_time(shape: ModelShape, layouts: Layouts, engine: Engine, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Output head and loss on the last stage, forward and backward: three products of the vocabulary, and its traffic.

    By chunks the products are a chunk's, and each chunk adds its product to the head's gradient in fp32 (8 bytes a weight; 12
    where a bf16 product is written and read), which is zeroed, scaled and accumulated once (24).
    """
    m = layouts.mbs * shape.seq_tokens / layouts.cp
    columns, h = padded_vocab(shape, layouts.tp) / layouts.tp, shape.hidden
    logits = device.stream_s(m * columns * engine.logit_bytes)
    chunk, added = m, np.zeros_like(m)
    if engine.loss_chunk_bytes:
        chunk = engine.loss_chunk_tokens(m, columns)
        added = device.stream_s((24 + np.ceil(m / chunk) * (8 if device.precision == "fp32" else 12)) * columns * h)
    count = np.ceil(m / chunk)
    forward = count * device.matmul_s(chunk, columns, h) + logits
    backward = count * (device.matmul_s(chunk, h, columns) + device.matmul_s(columns, h, chunk)) + logits + added
    return forward, backward


def optimizer_s(params: np.ndarray, layouts: Layouts, engine: Engine, device: Device) -> np.ndarray:
    """Adam is memory traffic: gradient, master and two moments in, the latter three and the weight out (30 bytes a
    parameter of the shard), the norm's pass and the zeroing over all local gradients. Offloaded: over the host's link.
    """
    shard = params / np.where(layouts.zero >= 1, layouts.dp * layouts.cp, 1)
    resident = params / np.where(layouts.zero == 3, layouts.dp * layouts.cp, 1)
    here = device.stream_s(30.0 * shard + 2.0 * engine.grad_bytes * resident)
    away = shard * 6.0 / (device.hardware.host_link_gb_s * 1e9) + shard * 30.0 / 100e9  # 100 GB/s: eight host channels shared
    return np.where(layouts.offload > 0, away, here)
