"""What this device's matrix unit reaches in a plain loop: the denominator of the MFU that runs report."""

import time

import torch


def matmul_peak_tflops(*, device: str, dtype: torch.dtype, budget_s: float = 0.3) -> float:
    """Best of repeated square products, in TFLOP/s; measured in every process at once, as training uses the machine."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best_s = float("inf")
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * size**3 / best_s / 1e12
