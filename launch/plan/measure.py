"""This machine as a hardware file: `windtunnel doctor --bench FILE` measures what the planner's closed forms ask of a device.

All processes that a node runs measure at the same time, as they compute in training: cores, caches and memory that they share
are in the figures. Matrix products by the reduced dimension, attention, a long copy, the cost of a small operation, all-reduces
by size (gloo on CPUs, NCCL on GPUs). Each figure in the file says how it came about.

    write_hardware(Path("here.yaml"), num_processes=2)
"""

import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.atomic import write_json, write_text
from launch.plan.compute import attention_saturation
from launch.plan.errors import PlanError
from launch.plan.hardware import GIB, load_file

REDUCED = {"cpu": (32, 64, 128, 256, 512, 1024), "cuda": (128, 256, 512, 1024, 2048, 4096, 8192)}
ROWS = {"cpu": 2048, "cuda": 8192}  # of the products
ATTENTION = {"cpu": (1, 4, 1024, 64), "cuda": (4, 16, 4096, 128)}  # batch, heads, sequence, head size
MESSAGES = (2**14, 2**18, 2**22, 2**25)  # bytes of an all-reduce
BUDGET_S = 0.25  # for each figure


def _best_s(work: Callable[[], Any], *, device: str, repeats: int = 1) -> float:
    """Seconds of one call, the median of those that fit the budget, after one that isn't counted."""
    import torch

    def once() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    once()
    end, taken = time.perf_counter() + BUDGET_S, [once()]
    while time.perf_counter() < end:
        taken.append(once())
    return median(taken)


def matmul_tflops(*, k: int, device: str, dtype: Any) -> float:
    """A product with `k` as the reduced dimension; rows and columns large."""
    import torch

    rows, columns = ROWS[device], ROWS[device] // (4 if device == "cpu" else 1)
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((rows, k), (k, columns)))
    return 2 * rows * columns * k / _best_s(lambda: a @ b, device=device) / 1e12


def attention_tflops(*, device: str, dtype: Any) -> dict[str, float]:
    """Attention forward and backward: causal (the masked half of the operations isn't counted), and masked.

    Masked is what context parallelism runs: a quarter of the rows by all keys, under an explicit mask, and all of it counts.
    The planner's saturation is taken off, so that it predicts what was measured at this shape.
    """
    import torch

    batch, heads, length, size = ATTENTION[device]
    q, k, v = (torch.randn(batch, heads, length, size, device=device).to(dtype).requires_grad_() for _ in range(3))
    rows = q.detach()[:, :, -length // 4 :].clone().requires_grad_()
    mask = torch.ones(length // 4, length, dtype=torch.bool, device=device).tril(diagonal=length - length // 4)
    attend = torch.nn.functional.scaled_dot_product_attention

    def causal() -> torch.Tensor:
        return attend(q, k, v, is_causal=True)

    def masked() -> torch.Tensor:
        return attend(rows, k, v, attn_mask=mask)

    def backward_too(run: Callable[[], torch.Tensor]) -> Callable[[], None]:
        return lambda: run().sum().backward()

    whole = 4.0 * batch * heads * length * length * size / attention_saturation(length, size) / 1e12
    found = {}
    for kind, operations, run in (("", whole / 2, causal), ("masked_", whole / 4, masked)):
        forward, both = _best_s(run, device=device), _best_s(backward_too(run), device=device)
        found[f"{kind}forward"] = operations / forward
        found[f"{kind}backward"] = 2.5 * operations / max(both - forward, 0.1 * both)
    return found


def copy_gb_s(*, device: str) -> float:
    """A long copy: bytes read and written a second."""
    import torch

    size = 2**27 if device == "cpu" else 2**30
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / _best_s(lambda: target.copy_(source), device=device) / 1e9


def small_op_us(*, device: str) -> float:
    """What one small operation costs whatever it computes: dispatch, autograd's record, the kernel's start."""
    import torch

    x = torch.zeros(16, 16, device=device, requires_grad=True)
    return 1e6 * _best_s(lambda: x * 1.5, device=device, repeats=200)


def all_reduce_s(num_bytes: int, *, device: str) -> float:
    import torch
    import torch.distributed as dist

    values = torch.zeros(num_bytes // 4, device=device)
    times = []
    for _ in range(8):  # as many on every rank: a budget would end at different times
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(values)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[2:])


def _measure(rank: int, num_processes: int, meeting: str, out: str) -> None:
    """One of the processes; rank r writes out.r."""
    import torch
    import torch.distributed as dist

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // num_processes))
    if device == "cuda":
        torch.cuda.set_device(rank)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=num_processes)
    found: dict[str, Any] = {"device": device, "threads": torch.get_num_threads()}
    dist.barrier()
    main, other = (torch.float32, torch.bfloat16) if device == "cpu" else (torch.bfloat16, torch.float32)
    found["matmul"] = {k: matmul_tflops(k=k, device=device, dtype=main) for k in REDUCED[device]}
    found["other"] = matmul_tflops(k=512, device=device, dtype=other)
    found["attention"] = attention_tflops(device=device, dtype=main)
    found["copy"], found["small"] = copy_gb_s(device=device), small_op_us(device=device)
    found["reduce"] = {size: all_reduce_s(size, device=device) for size in MESSAGES} if num_processes > 1 else {}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(rank)
        found |= {"memory": properties.total_memory, "sms": properties.multi_processor_count, "name": properties.name}
    dist.destroy_process_group()
    write_json(Path(f"{out}.{rank}"), found)


def measure(num_processes: int) -> list[dict[str, Any]]:
    """What each of so many processes measured, all at once.

    Raises:
        PlanError: one of them failed.
    """
    with TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        asked = [(rank, num_processes, f"{folder}/meeting", f"{folder}/found") for rank in range(num_processes)]
        ranks = [context.Process(target=_measure, args=one) for one in asked]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            raise PlanError("doctor --bench: a measuring process failed; its message is above")
        return [json.loads(Path(f"{folder}/found.{rank}").read_text(encoding="utf-8")) for rank in range(num_processes)]


def _link(reduce_s: dict[str, float], num_processes: int) -> tuple[float, float]:
    """(GB/s of the bus, µs a hop): the least and the largest message; one process has no link: a copy's speed would be free."""
    if not reduce_s:
        return 100.0, 1.0
    sizes = sorted(reduce_s, key=int)
    small, large = reduce_s[sizes[0]], reduce_s[sizes[-1]]
    moved = 2 * (num_processes - 1) / num_processes * int(sizes[-1])
    return moved / max(large - small, 1e-9) / 1e9, 1e6 * small / (2 * (num_processes - 1))


def as_yaml(found: list[dict[str, Any]], *, name: str) -> str:
    """The hardware file's text: medians over processes, each with how it was measured."""
    first, count = found[0], len(found)
    kind, main, other = ("gpu", "bf16", "fp32") if first["device"] == "cuda" else ("cpu", "fp32", "bf16")
    middle = lambda pick: median(pick(one) for one in found)  # noqa: E731
    by_k = {k: middle(lambda one, k=k: one["matmul"][k]) for k in first["matmul"]}
    peak = max(by_k.values())
    attention = ", ".join(
        f"{way}: {middle(lambda one, way=way: one['attention'][way]) / peak:.3f}" for way in first["attention"]
    )
    bus_gb_s, hop_us = _link(first["reduce"], count)
    memory = first["memory"] if kind == "gpu" else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / count
    fractions = ", ".join(f"{k}: {rate / peak:.3f}" for k, rate in by_k.items())
    reduces = ", ".join(f"{int(size) >> 10} KiB {1e3 * taken:.2f} ms" for size, taken in first["reduce"].items()) or "none"
    how = f"measured {date.today().isoformat()}, {count} processes at once, {first['threads']} threads each"
    return f"""# {first.get("name", platform.processor() or platform.machine())}, as `windtunnel doctor --bench` {how}.
name: {name}
kind: {kind}
peak_tflops: {{{main}: {peak:.5g}, {other}: {first["other"]:.5g}}}   # best product of the list below; {other}: at k = 512
memory_gib: {memory / GIB:.2f}   # {"what torch reports" if kind == "gpu" else "physical memory over the processes"}
memory_bandwidth_gb_s: {middle(lambda one: one["copy"]):.4g}   # a long copy, read and written
memory_bandwidth_frac: 1.0   # already measured
num_sms: {first.get("sms", 1)}   # {"what torch reports" if kind == "gpu" else "a core computes one tile at a time"}
matmul_max_frac: 1.0   # of the measured best
matmul_frac_by_k: {{{fractions}}}   # products of {ROWS[first["device"]]} rows in {main}, by the reduced dimension
attention_frac: {{{attention}}}   # torch's attention in {main}, at long sequences
gpus_per_node: {count}   # processes measured
launch_us: {middle(lambda one: one["small"]):.3g}   # an operation on 256 numbers, recorded by autograd
node_link: {{gb_s: {bus_gb_s:.4g}, frac: 1.0, latency_us: {hop_us:.4g}}}   # all-reduce: {reduces}
fabric_link: {{gb_s: {bus_gb_s:.4g}, frac: 1.0, latency_us: {hop_us:.4g}}}   # not measured: as in the node; put in yours
host_link_gb_s: {middle(lambda one: one["copy"]):.4g}   # not measured: a copy in memory
power_w: {20 if kind == "cpu" else 700}   # not measured: put in the device's
"""


def write_hardware(path: Path, *, num_processes: int) -> None:
    """Measures and writes a file that `windtunnel plan --gpu FILE` takes."""
    if path.exists():
        raise PlanError(f"{path}: is there already; choose another name, or remove it")
    write_text(path, as_yaml(measure(num_processes), name=path.stem))
    load_file(path)  # what can't be read back would be our fault: said now
