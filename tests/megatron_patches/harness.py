"""What the tests of this room share: one process as a world of its own, small GPTModels, real layouts by torchrun."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from megatron_patches.mup.rules import Mup

ROOT = Path(__file__).parents[2]


def transformer_config(
    *, layers: int = 4, hidden: int = 64, ffn: int = 160, heads: int = 4, groups: int = 2, **more: Any
) -> Any:
    """A Llama-like TransformerConfig in fp32."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    from megatron_patches.cpu.config import CPU_CONFIG

    fields: dict[str, Any] = {
        "num_layers": layers,
        "hidden_size": hidden,
        "ffn_hidden_size": ffn,
        "num_attention_heads": heads,
        "num_query_groups": groups,
        "gated_linear_unit": True,
        "activation_func": F.silu,
        "add_bias_linear": False,
        "normalization": "RMSNorm",
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "pipeline_dtype": torch.float32,
        **CPU_CONFIG,
    }
    return TransformerConfig(**{**fields, **more})


def build(mup: Mup, *, tied: bool = True, groups: int = 2, heads: int = 4, vocab: int = 96, seed: int = 1, **more: Any) -> Any:
    """A GPTModel of the table's width and depth with everything of ours on it."""
    from megatron.core.models.gpt.gpt_model import GPTModel

    from megatron_patches.mup.init import initialise
    from megatron_patches.mup.model import attach, build_spec, configure

    sizes = {"layers": mup.depth, "hidden": mup.width, "ffn": mup.width * 5 // 2, "heads": heads, "groups": groups}
    config = configure(transformer_config(**{**sizes, **more}), mup)
    model = GPTModel(
        config,
        build_spec(config, mup=mup),
        vocab_size=vocab,
        max_sequence_length=64,
        position_embedding_type="rope",
        share_embeddings_and_output_weights=tied,
    )
    initialise(attach(model, mup), mup, seed, config)
    return model


def tokens(seed: int, *, batch: int = 2, seq: int = 16, vocab: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """Arithmetic sequences modulo the vocabulary: learnable, and different for every seed."""
    g = torch.Generator().manual_seed(seed)
    first, stride = torch.randint(0, vocab, (batch, 1), generator=g), torch.randint(1, 6, (batch, 1), generator=g)
    ids = (first + stride * torch.arange(seq + 1)) % vocab
    return ids[:, :-1], ids[:, 1:]


def loss_of(model: Any, seed: int, **sizes: int) -> torch.Tensor:
    """Mean nats a token on `tokens(seed)`."""
    x, y = tokens(seed, **sizes)
    return model(x, torch.arange(x.shape[1]).expand_as(x), None, labels=y).mean()


def torchrun(script: str, *args: str, processes: int) -> Any:
    """Runs a worker of this folder on real processes; rank 0 prints one JSON line, which is returned."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(port)]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name(script)), *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {args} failed:\n{done.stderr[-4000:]}")
    return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
