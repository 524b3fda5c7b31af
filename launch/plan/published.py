"""Published runs as cases for the planner: one CSV row → shape, layout, engine, and what was measured.

    cases = load_cases(Path("tests/data/parallelism_measurements.csv"))

Tables leave columns out. What is missing is inferred by one rule: the authors ran the fastest that fits. So an empty micro
batch, number of virtual stages or recomputation is what the planner itself would choose there, with everything stated held
fixed; how many values were inferred is part of a case. FLOP conventions differ by source (ModelShape.flops_per_token).
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from launch.plan.engines import (
    DEEPSPEED,
    FSDP,
    LLM_FOUNDRY,
    MEGATRON,
    MEGATRON_2021,
    MEGATRON_2022,
    NANOTRON,
    TORCHTITAN,
    WINDTUNNEL,
)  # fmt: skip
from launch.plan.errors import PlanError
from launch.plan.hardware import Hardware, find
from launch.plan.shapes import Engine, ModelShape

REQUIRED = ("gpu", "hidden", "layers", "seq")
MEASURES = ("tok_s_gpu", "step_s", "tflops_per_gpu", "mfu_pct")
OUT_OF_MEMORY = ("oom", "out of memory", "out-of-memory")
EXPERTS = ("experts", "num_experts", "moe", "topk")  # columns of mixture-of-experts models, which aren't modelled
KEYWORDS = (  # words in the source or note → engine, first match
    ("2104.04473", MEGATRON_2021), ("sc21", MEGATRON_2021), ("april 2021", MEGATRON_2021), ("2205.05198", MEGATRON_2022),
    ("nanotron", NANOTRON), ("torchtitan", TORCHTITAN), ("fsdp2", TORCHTITAN), ("windtunnel", WINDTUNNEL),
    ("llm-foundry", LLM_FOUNDRY), ("fsdp", FSDP), ("tinyllama", FSDP), ("deepspeed", DEEPSPEED),
    ("megatron", MEGATRON), ("nemo", MEGATRON), ("nemotron", MEGATRON),
)  # fmt: skip
DEFAULT_BATCH_TOKENS = 2_000_000  # where a table states none; torchtitan's benchmarks don't accumulate


@dataclass(frozen=True)
class Case:
    """One published run. `stated` holds the layout columns that the table gives; the rest is to be inferred."""

    row: str
    family: str
    model: str
    shape: ModelShape
    engine: Engine
    hardware: Hardware
    num_gpus: int
    stated: dict[str, int | str | bool]
    global_seqs: int | None
    precision: str
    tokens_per_s_gpu: float | None
    memory_gib: float | None
    memory_kind: str
    ran_out_of_memory: bool = False
    notes: tuple[str, ...] = field(default=())


def load_cases(path: Path) -> list[Case]:
    """Every row as a case.

    Raises:
        PlanError: the file can't be read, a column is missing, or a row can't be priced (file and line are named).
    """
    cases, skipped = read_cases(path)
    if skipped:
        raise PlanError(skipped[0])
    return cases


def read_cases(path: Path) -> tuple[list[Case], list[str]]:
    """Every row that can be priced, and for each other one why it can't (file and line are named).

    Raises:
        PlanError: the file can't be read, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlanError(f"{path}: can't be read: {error}") from error
    if not rows:
        raise PlanError(f"{path}: no rows")
    if missing := [name for name in REQUIRED if name not in rows[0]]:
        raise PlanError(f"{path}: column {missing[0]} is missing; expected those of tests/data/parallelism_measurements.csv")
    cases, skipped = [], []
    for line, row in enumerate(rows, start=2):
        try:
            cases.append(_case({key.strip(): (value or "").strip() for key, value in row.items() if isinstance(key, str)}))
        except (ValueError, KeyError, PlanError) as error:
            skipped.append(f"{path}:{line}: {error}")
    return cases, skipped


def _number(row: dict[str, str], key: str) -> float | None:
    text = row.get(key, "").replace(",", "").rstrip("%").strip()
    missing = not text or text.lower() in {"-", "–", "?", "n/a", "na", "none", "null", "nan"}
    return None if missing or any(word in text.lower() for word in OUT_OF_MEMORY) else float(text)


def _integer(row: dict[str, str], key: str) -> int | None:
    value = _number(row, key)
    if value is not None and value != int(value):
        raise ValueError(f"{key}={row[key]} is not a whole number")
    return None if value is None else int(value)


def _size(row: dict[str, str], key: str) -> int:
    value = _integer(row, key)
    if value is None or value < 1:
        raise ValueError(f"{key}={row.get(key, '')!r} is not a size")
    return value


def _flag(row: dict[str, str], key: str, *, default: bool) -> bool:
    text = row.get(key, "").lower()
    return default if text in {"", "-"} else text in {"1", "1.0", "true", "yes"}


def _engine(row: dict[str, str]) -> Engine:
    text = f"{row.get('source', '')} {row.get('note', '')}".lower()
    if "april 2021" not in text and "2104" not in text and "2205.05198" in text:
        return MEGATRON_2022
    for word, engine in KEYWORDS:
        if word in text:
            return engine
    return FSDP if row.get("zero", "").startswith("3") else MEGATRON


def _shape(row: dict[str, str]) -> ModelShape:
    for key in EXPERTS:
        if (_number(row, key) or 0) > 1:
            raise ValueError(f"{key}={row[key]}: mixture-of-experts models aren't modelled")
    hidden = _size(row, "hidden")
    heads = _integer(row, "heads") or max(1, hidden // 128)
    gated = _flag(row, "gated", default=False)
    ffn = _integer(row, "ffn") or (round(hidden * 8 / 3 / 256) * 256 if gated else 4 * hidden)
    return ModelShape(
        num_layers=_size(row, "layers"), hidden=hidden, ffn=ffn,
        num_heads=heads, num_kv_heads=_integer(row, "kv_heads") or heads,
        vocab=_integer(row, "vocab") or 50304, seq_tokens=_size(row, "seq"), tied=_flag(row, "tied", default=True), gated=gated,
    )  # fmt: skip


def _hardware(row: dict[str, str], engine: Engine) -> Hardware:
    """By name and memory; else by the known name that it contains ("NVIDIA H100 80GB HBM3")."""
    name, size = row["gpu"].lower(), _integer(row, "gpu_mem_gb")
    if engine.name == "nanotron" and name == "h100":
        return find("h100-sxm-efa")  # the network that those benchmarks ran on
    parts = [name, *name.replace("_", " ").replace("-", " ").split()]
    for one in [f"{part}-{size}" for part in parts if size] + parts:
        try:
            return find(one)
        except PlanError:
            continue
    return find(row["gpu"])


def _stated(row: dict[str, str], engine: Engine) -> dict[str, int | str | bool]:
    stated: dict[str, int | str | bool] = {key: value for key in ("tp", "pp", "cp", "mbs") if (value := _integer(row, key))}
    stated |= {"tp": stated.get("tp", 1), "pp": stated.get("pp", 1), "cp": stated.get("cp", 1)}
    if (vp := _integer(row, "vp")) is not None:
        stated["vp"] = max(1, vp)
    elif engine.name not in {"megatron", "megatron-2021", "megatron-2022"} or stated["pp"] == 1:
        stated["vp"] = 1
    recompute = row.get("recompute", "").lower()
    for word in ("none", "selective", "full"):
        if word in recompute:
            stated["recompute"] = word
    if engine.name == "nanotron" or (engine.name == "megatron" and not recompute):
        stated.setdefault("recompute", "none")
    stated["sp"] = "sp" in recompute.split("+") or engine.name in {"megatron", "nanotron", "torchtitan", "windtunnel"}
    zero = _integer(row, "zero")
    stated["zero"] = zero if zero is not None else engine.zero_stages[-1]
    return stated


def _measured(row: dict[str, str], shape: ModelShape, engine: Engine, hardware: Hardware, precision: str) -> float | None:
    """Tokens a second and device, from whichever column is there, by the source's FLOP convention."""
    if rate := _number(row, "tok_s_gpu"):
        return rate
    step_s, seqs, gpus = _number(row, "step_s"), _integer(row, "gbs_seqs"), _integer(row, "gpus")
    if step_s and seqs and gpus:
        return seqs * shape.seq_tokens / step_s / gpus
    text = row.get("note", "").lower()
    hardware_flops = "hardware flops" in text or "recompute counted" in text
    flops = shape.flops_per_token(convention="hardware" if hardware_flops else "6N+attention")
    if tflops := _number(row, "tflops_per_gpu"):
        return tflops * 1e12 / flops
    if percent := _number(row, "mfu_pct"):
        percent *= 100 if percent <= 1 else 1  # some write 0.41
        return percent / 100 * hardware.peak_flops("bf16" if precision == "fp8" else precision) / flops
    return None


def _case(row: dict[str, str]) -> Case:
    shape, engine = _shape(row), _engine(row)
    hardware = _hardware(row, engine)
    stated = _stated(row, engine)
    model_ranks = int(stated["tp"]) * int(stated["pp"]) * int(stated["cp"])
    num_gpus = _integer(row, "gpus") or model_ranks * (_integer(row, "dp") or 1)
    stated["dp"] = max(1, num_gpus // model_ranks)
    precision = row.get("precision", "").lower() or "bf16"
    precision = "fp8" if "8" in precision else precision.split("+")[0]
    precision = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "mixed": "bf16", "float32": "fp32"}.get(
        precision, precision
    )
    hardware.peak_flops(precision)  # a precision that the device hasn't is said here, with the line
    batch = _integer(row, "gbs_seqs")
    if batch is None:
        if engine.name == "torchtitan" and "mbs" in stated:
            batch = int(stated["dp"]) * int(stated["mbs"])
        elif "mbs" in stated:
            unit = int(stated["dp"]) * int(stated["mbs"])
            batch = unit * max(1, round(DEFAULT_BATCH_TOKENS / (unit * shape.seq_tokens)))
    died = any(word in " ".join(row.get(key, "") for key in (*MEASURES, "mem_gib", "note")).lower() for word in OUT_OF_MEMORY)
    return Case(
        row=row.get("row", ""), family=row.get("family") or "?", model=row.get("model", ""),
        shape=shape, engine=engine, hardware=hardware,
        num_gpus=num_gpus, stated=stated, global_seqs=batch, precision=precision,
        tokens_per_s_gpu=_measured(row, shape, engine, hardware, precision), memory_gib=_number(row, "mem_gib"),
        memory_kind="reserved" if engine.name == "torchtitan" else "allocated",
        ran_out_of_memory=died, notes=(row.get("note", ""),),
    )  # fmt: skip
