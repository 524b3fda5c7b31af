"""A training step against transformers and unpatched megatron-core: paired ratios of steps taken in turn, on two threads.

    python -m tests.bench.bench_train [--shapes nano tiny] [--vocab 8192 65280] [--rounds 5] [--parts step loss loop]

On a machine that others use too, look at the ratio of CPU time with `--threads 1`: threads that wait for each other spend it.

`step`: each contender lives in a process of its own and takes a step when it is told to, so that no two compute at once.
`loss`: head and cross-entropy alone, chunked against all logits, at 65,280 pieces and 4,096 tokens.
`loop`: the real program on real text, with and without checkpoints: what data, loop and asynchronous saves cost.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEQ, ROWS = 1024, 2  # a step is ROWS sequences in one micro batch
CONTENDERS = ("windtunnel", "transformers", "megatron")
LOSS_SHAPE = {"vocab": 65280, "tokens": 4096, "hidden": 256}


# --- a contender, in a process of its own ----------------------------------------------------------------------------


def config_of(shape: str, vocab: int) -> Any:
    from recipe.load import load_recipe

    overrides = [
        f"model.vocab_size={vocab}", f"batch.global_tokens={ROWS * SEQ}", f"batch.micro_seqs={ROWS}", "precision=fp32",
        "sources={}", "stages=[]", "mup.parametrization=standard", "tokenizer.train_on={}",
    ]  # fmt: skip
    return load_recipe(shape, overrides)


def _windtunnel(config: Any) -> Callable[[Any], float]:
    import numpy as np

    import megatron_patches
    from recipe import distributed
    from recipe.batch import micro_batch
    from recipe.engine import Engine
    from recipe.lower import deepspeed_config, transformer_arguments
    from recipe.model import initialise_parallel
    from recipe.resolve import resolve

    distributed.start(device="cpu", timeout_s=600)
    megatron_patches.apply(cpu=True)
    resolved = resolve(config, world_size=1)
    initialise_parallel(resolved)
    engine = Engine(resolved, transformer=transformer_arguments(resolved), deepspeed_config=deepspeed_config(resolved))
    engine.set_lr(1e-3)
    mask = np.ones((ROWS, SEQ), np.float32)
    return lambda tokens: engine.train_step([micro_batch(tokens.numpy(), mask)], num_targets=ROWS * SEQ).loss


def _transformers(config: Any) -> Callable[[Any], float]:
    from transformers import LlamaConfig, LlamaForCausalLM

    m = config.model
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=m.vocab_size, hidden_size=m.hidden_size, intermediate_size=m.ffn_hidden_size, num_hidden_layers=m.num_layers,
        num_attention_heads=m.num_heads, num_key_value_heads=m.num_kv_heads, max_position_embeddings=m.seq_length_tokens,
        tie_word_embeddings=m.tied, use_cache=False, attn_implementation="sdpa",
    ))  # fmt: skip

    def loss(tokens: Any) -> Any:
        return model(input_ids=tokens[:, :-1], labels=tokens[:, 1:], shift_labels=tokens[:, 1:].contiguous()).loss

    return _with_adam(model, loss)


def _megatron(config: Any) -> Callable[[Any], float]:
    import torch
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel

    import megatron_patches
    from megatron_patches.cpu.world import single_process_world
    from recipe.lower import transformer_arguments
    from recipe.model import transformer_config
    from recipe.resolve import resolve

    megatron_patches.apply(cpu=True)  # without these it doesn't run on a CPU at all; model and attention are upstream's own
    single_process_world()
    arguments = transformer_config(transformer_arguments(resolve(config, world_size=1)))
    arguments.perform_initialization = True
    m = config.model
    model = GPTModel(
        arguments, get_gpt_layer_local_spec(normalization="RMSNorm"), vocab_size=m.vocab_size, max_sequence_length=SEQ,
        position_embedding_type="rope", share_embeddings_and_output_weights=m.tied,
    )  # fmt: skip
    position = torch.arange(SEQ).expand(ROWS, SEQ)
    causal = torch.ones(1, 1, SEQ, SEQ, dtype=torch.bool).triu(1)
    return _with_adam(model, lambda tokens: model(tokens[:, :-1], position, causal, labels=tokens[:, 1:]).mean())


def _with_adam(model: Any, loss_of: Callable[[Any], Any]) -> Callable[[Any], float]:
    import torch

    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(tokens: Any) -> float:
        loss = loss_of(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        return float(loss)

    return step


def contend(name: str, shape: str, vocab: int) -> None:
    """Answers each line on stdin with the seconds of one step, and its CPU seconds; at the end, with peak memory."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config = config_of(shape, vocab)
    before = _peak_bytes()
    step = {"windtunnel": _windtunnel, "transformers": _transformers, "megatron": _megatron}[name](config)
    tokens = torch.randint(0, vocab, (ROWS, SEQ + 1), generator=torch.Generator().manual_seed(1))
    for line in sys.stdin:
        if line.strip() == "peak":
            from recipe.peak import matmul_peak_tflops

            _say(matmul_peak_tflops(device="cpu", dtype=torch.float32, budget_s=1.0))
            continue
        started, cpu_started = time.perf_counter(), time.process_time()
        step(tokens)
        _say(time.perf_counter() - started)
        _say(time.process_time() - cpu_started)
    _say(_peak_bytes() - before)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(number: float) -> None:
    print(f"@{number}", flush=True)


# --- the parent: steps in turn ---------------------------------------------------------------------------------------


class Contender:
    """A process that steps when asked."""

    def __init__(self, name: str, shape: str, vocab: int) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "tests.bench.bench_train", "--contend", name, shape, str(vocab)]
        env = os.environ | {"DS_ACCELERATOR": "cpu"}
        self.process = subprocess.Popen(
            command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def peak(self) -> float:
        """Matrix products, in TFLOP/s."""
        self._tell("peak")
        return self._number()

    def step(self) -> tuple[float, float]:
        """Seconds, CPU seconds."""
        self._tell("step")
        return self._number(), self._number()

    def close(self) -> float:
        """Peak memory in bytes, over what imports took."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        number = self._number()
        self.process.wait()
        return number

    def _tell(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def _number(self) -> float:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return float(line[1:])
        raise SystemExit("a contender died; run it alone with --contend to see why")


def steps(shape: str, vocab: int, rounds: int) -> None:
    from recipe.size import model_flops_per_token

    field = {name: Contender(name, shape, vocab) for name in CONTENDERS}
    for one in field.values():
        for _ in range(2):  # the first allocates, the second has its memory
            one.step()
    peak = field["windtunnel"].peak()
    times = [{name: one.step() for name, one in field.items()} for _ in range(rounds)]
    memory = {name: one.close() for name, one in field.items()}
    flops = model_flops_per_token(config_of(shape, vocab).model, seq_length_tokens=SEQ) * ROWS * SEQ
    for name in CONTENDERS:
        median = statistics.median(row[name][0] for row in times)
        ratio, cpu_ratio = (statistics.median(row[name][i] / row["windtunnel"][i] for row in times) for i in (0, 1))
        print(
            f"{shape:5s} {vocab:6d} {name:13s} {ROWS * SEQ / median:7.0f} tokens/s  takes {ratio:4.2f} of our time  "
            f"{cpu_ratio:4.2f} of our CPU time  "
            f"{memory[name] / 2**20:6.0f} MiB  {flops / median / peak / 1e12:4.0%} of the matmul peak", flush=True,
        )  # fmt: skip


# --- head and loss alone ---------------------------------------------------------------------------------------------


def loss_alone(kind: str) -> None:
    """One process, one kind: seconds of forward and backward, and peak bytes over inputs and weight gradient."""
    import torch
    import torch.nn.functional as F

    from megatron_patches.cpu.world import single_process_world
    from megatron_patches.loss.chunked import summed_loss
    from recipe import distributed

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    distributed.start(device="cpu", timeout_s=600)
    single_process_world()
    vocab, n, h = LOSS_SHAPE.values()
    hidden, weight = (torch.randn(rows, h, requires_grad=True) for rows in (n, vocab))
    labels, mask = torch.randint(0, vocab, (n,)), torch.ones(n)
    weight.grad = torch.zeros_like(weight)
    before = _peak_bytes()
    for _ in range(4):
        started = time.perf_counter()
        if kind == "chunked":
            total = summed_loss(hidden, weight, labels, mask, num_rows=vocab, group=torch.distributed.group.WORLD)
        elif kind == "torch":
            total = F.cross_entropy(hidden @ weight.t(), labels, reduction="sum")
        else:
            from megatron.core.tensor_parallel.cross_entropy import vocab_parallel_cross_entropy

            total = vocab_parallel_cross_entropy((hidden @ weight.t())[:, None], labels[:, None]).sum()
        total.backward()
        _say(time.perf_counter() - started)
    _say(_peak_bytes() - before)


def losses(rounds: int) -> None:
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for kind in ("chunked", "megatron", "torch"):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "tests.bench.bench_train", "--contend-loss", kind],
                text=True, stdout=subprocess.PIPE, check=True,
            )  # fmt: skip
            *found, memory[kind] = [float(line[1:]) for line in done.stdout.splitlines() if line.startswith("@")]
            seconds.setdefault(kind, []).append(min(found))
    for kind in seconds:
        ratio = statistics.median(a / b for a, b in zip(seconds[kind], seconds["megatron"], strict=True))
        print(f"loss {kind:9s} {statistics.median(seconds[kind]):5.2f} s ({ratio:4.2f} of the plain path)  "
              f"{memory[kind] / 2**20:6.0f} MiB ({memory[kind] / memory['megatron']:4.2f})", flush=True)  # fmt: skip


# --- the loop around the step ----------------------------------------------------------------------------------------


def loop(num_steps: int = 60, every_steps: int = 20) -> None:
    from recipe.rundir import read_jsonl

    with tempfile.TemporaryDirectory() as scratch:
        wall: dict[bool, float] = {}
        for saving in (False, True):
            run = _real_run(Path(scratch), num_steps, every_steps if saving else None)
            records = read_jsonl(run.metrics)[1:]
            time_of = {event["event"]: event["time"] for event in read_jsonl(run.events)}
            busy = sum(sum(s for phase, s in record["phase_s"].items() if phase != "data") for record in records)
            data = sum(record["phase_s"]["data"] for record in records)
            wall[saving] = statistics.median(record["step_s"] for record in records)
            blocked = [e["blocked_s"] for e in read_jsonl(run.events) if e["event"] == "checkpoint"]
            total = time_of["stage_end"] - time_of["audit"]
            print(f"loop saving={saving}: {len(records)} steps of {busy / len(records):.3f} s; data {data / total:.2%}, "
                  f"everything else around the step {(total - busy - data) / total:.2%}; "
                  f"saves blocked {json.dumps([round(s, 4) for s in blocked])} s", flush=True)  # fmt: skip
            if saving:
                inside = [r["step_s"] for r in records if r["step"] % every_steps in (0, 1) and r["step"] > 1]
                slower = (sum(inside) - len(inside) * wall[False] + sum(blocked[:-1])) / max(1, len(blocked) - 1)
                print(f"loop: a save costs {slower / (every_steps * wall[False]):.2%} of {every_steps} steps")


def _real_run(scratch: Path, num_steps: int, every_steps: int | None) -> Any:
    from recipe.load import load_recipe
    from recipe.prepare import create_run
    from tests.recipe.runs import finish

    library = Path(os.__file__).parent
    overrides = [
        "model.vocab_size=8192", f"batch.global_tokens={SEQ}", "batch.micro_seqs=1", "precision=fp32",
        "tokenizer.train_on={text: 1}",
        f"sources={{text: {{kind: text, path: '{library}/*.py', heldout_frac: 0.01}}}}", "tokenizer.train_bytes=2MB",
        f"stages=[{{name: stable, tokens: {num_steps * SEQ}, mixture: {{text: 100}}}}]", "evaluate.heldout_tokens=1024",
        f"checkpoint.every_tokens={every_steps * SEQ if every_steps else 'null'}", "optim.warmup_tokens=10240",
    ]  # fmt: skip
    run = create_run(load_recipe("nano", overrides), scratch / f"run-{every_steps}", world_size=1, data_dir=scratch / "data")
    finish(run, processes=1)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps as paired ratios.")
    parser.add_argument("--shapes", nargs="*", default=["nano", "tiny"])
    parser.add_argument("--vocab", nargs="*", type=int, default=[8192, 65280])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="*", default=["step", "loss", "loop"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contend", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--contend-loss", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        return contend(options.contend[0], options.contend[1], int(options.contend[2]))
    if options.contend_loss:
        return loss_alone(options.contend_loss)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if "loss" in options.parts:
        losses(3)
    if "step" in options.parts:
        for shape in options.shapes:
            for vocab in options.vocab:
                steps(shape, vocab, options.rounds)
    if "loop" in options.parts:
        loop()


if __name__ == "__main__":
    main()
