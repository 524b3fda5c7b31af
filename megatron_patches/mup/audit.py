"""Holds the live model and the live optimizer against the muP table.

    mismatches = audit(chunks, engine.optimizer, mup, base_lr=0.01, weight_decay=0.1)
    enforce(mismatches)      # collects all ranks', raises AuditError

Run it after the first step and after every resume. It looks at what training uses, not at what was asked for: which
group a parameter's values really sit in (through ZeRO's flat buffers), that group's lr, weight decay and eps, the
multipliers that hooks and branch functions apply to a probe, and, on a fresh model, the spread of the weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isclose, sqrt
from typing import Any

import torch
from torch import Tensor

from megatron_patches.errors import AuditError
from megatron_patches.mup.init import is_tied, named_parameters, unwrapped
from megatron_patches.mup.rules import VECTORS, Mup, Role, group_values, role_of

_REL = 1e-6  # settings are copied, not computed: they must agree to rounding


@dataclass(frozen=True)
class Mismatch:
    """One number that isn't the table's."""

    role: str
    quantity: str
    where: str
    expected: float | str
    found: float | str

    def __str__(self) -> str:
        return f"{self.role}: {self.quantity} of {self.where} is {_short(self.found)}, the table says {_short(self.expected)}"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def audit(
    model: torch.nn.Module | Sequence[torch.nn.Module],
    optimizer: Any,
    mup: Mup,
    *,
    base_lr: float,
    weight_decay: float,
    peak_lr: float | None = None,
    eps: float = 1e-8,
    betas: tuple[float, float] | None = None,
    decay_mode: str = "coupled",
    fresh_moved: float | None = None,
    vocab_size: int | None = None,
) -> list[Mismatch]:
    """Compares this rank's share of the model with the table.

    Args:
        model: A GPTModel or an interleaved pipeline's chunks.
        optimizer: A torch, DeepSpeed ZeRO or Megatron-Core optimizer.
        base_lr: Base learning rate at this moment (peak × schedule).
        weight_decay: Base weight decay, before the table's multiplier.
        peak_lr: Needed with independent decay; base_lr where left out.
        betas: Adam's base betas, as given to `parameter_groups`; None leaves them unchecked.
        fresh_moved: Sum of base learning rates stepped so far; given, the weights' spread is checked too, within what
            Adam can have moved it. None on a resume.
        vocab_size: Real vocabulary, as given to `initialise`.

    Returns:
        Every difference on this rank, worst explained first; empty if all is well.
    """
    chunks = [model] if isinstance(model, torch.nn.Module) else list(model)
    values = {
        role: {
            **group_values(role, rule, peak_lr or base_lr, weight_decay, eps=eps, betas=betas, decay_mode=decay_mode),
            "lr": base_lr * rule.lr_mult,
        }
        for role, rule in mup.table().items()
    }
    found = _audit_groups(chunks, optimizer, values)
    for chunk in chunks:
        found += _audit_forward(unwrapped(chunk), mup)
        if fresh_moved is not None:
            found += _audit_spread(chunk, mup, fresh_moved, vocab_size)
    return found


def enforce(mismatches: Sequence[Mismatch]) -> None:
    """Raises on every rank if any rank found anything, so that no rank waits for one that left.

    Raises:
        AuditError: With all ranks' findings.
    """
    told = [str(mismatch) for mismatch in mismatches]
    if torch.distributed.is_initialized():
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, told)
        told = [f"rank {rank}: {line}" for rank, lines in enumerate(gathered) for line in lines]
    if told:
        shown = "\n  ".join(told[:40])
        raise AuditError(f"the live run differs from the muP table in {len(told)} places:\n  {shown}")


def live_groups(optimizer: Any) -> Iterator[tuple[dict[str, Any], list[torch.nn.Parameter]]]:
    """Each live group with the model parameters whose values it updates.

    ZeRO puts flat buffers in the groups; the model's own parameters are kept beside them, under other names in each
    stage. Megatron-Core's distributed optimizer does likewise.
    """
    if hasattr(optimizer, "chained_optimizers"):
        for inner in optimizer.chained_optimizers:
            yield from live_groups(inner)
    elif hasattr(optimizer, "sub_group_to_group_id"):  # ZeRO-3
        for index, params in enumerate(optimizer.fp16_groups):
            yield optimizer.param_groups[optimizer.sub_group_to_group_id[index]], list(params)
    elif hasattr(optimizer, "bit16_groups"):  # ZeRO-1, 2
        yield from zip(optimizer.param_groups, map(list, optimizer.bit16_groups))
    elif hasattr(optimizer, "model_param_group_index_map"):  # Megatron-Core's distributed optimizer
        by_group: dict[int, list[Any]] = {}
        for param, (index, _order) in optimizer.model_param_group_index_map.items():
            by_group.setdefault(index, []).append(param)
        yield from ((optimizer.optimizer.param_groups[index], params) for index, params in by_group.items())
    else:
        yield from ((group, list(group["params"])) for group in optimizer.param_groups)


def _audit_groups(chunks: Sequence[torch.nn.Module], optimizer: Any, values: dict[Role, dict[str, Any]]) -> list[Mismatch]:
    where: dict[int, list[dict[str, Any]]] = {}
    for group, params in live_groups(optimizer):
        for param in params:
            where.setdefault(id(param), []).append(group)
    found = []
    for chunk in chunks:
        tied = is_tied(chunk)
        for name, param in named_parameters(chunk):
            role = role_of(name, tied=tied)
            groups = where.get(id(param), [])
            if len(groups) != 1 and not _sharded_away(optimizer):
                found.append(Mismatch(role, "number of optimizer groups", name, 1.0, float(len(groups))))
            for group in groups:
                found += _compare(role, name, group, values[role])
    return found


def _sharded_away(optimizer: Any) -> bool:
    """Megatron-Core's distributed optimizer lists only the parameters that this rank owns a piece of."""
    inner = getattr(optimizer, "chained_optimizers", [optimizer])
    return any(hasattr(one, "model_param_group_index_map") for one in inner)


def _numbers(group: dict[str, Any]) -> dict[str, float]:
    """What of a group the table decides; betas one by one."""
    found = {key: float(group[key]) for key in ("lr", "weight_decay", "eps") if group.get(key) is not None}
    return found | {f"beta{number}": beta for number, beta in enumerate(group.get("betas", ()), 1)}


def _compare(role: Role, name: str, group: dict[str, Any], expected: dict[str, Any]) -> list[Mismatch]:
    out = []
    live = _numbers(group)
    for key, wanted in _numbers(expected).items():
        if key not in live or not isclose(live[key], wanted, rel_tol=_REL, abs_tol=1e-30):
            out.append(Mismatch(role, key, name, wanted, live.get(key, "absent")))
    if group.get("role") not in (None, str(role)):
        out.append(Mismatch(role, "group", name, str(role), str(group["role"])))
    return out


def forward_multipliers(model: Any) -> dict[str, float]:
    """What this GPTModel stage really multiplies by, measured on probes: no weight and no batch is needed.

    Returns:
        `embedding`, `logits`, `softmax` where the stage has them, and `layers.N.attention` / `layers.N.mlp`.
    """
    found: dict[str, float] = {}
    one, zero = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    if model.pre_process:
        found["embedding"] = _through(model.embedding._forward_hooks, model.embedding, one)
    if model.post_process:
        layer = model.output_layer
        scaled = _through_inputs(layer._forward_pre_hooks, layer, one)
        found["logits"] = scaled * _through_outputs(layer._forward_hooks, layer)
    for layer in model.decoder.layers:
        number = layer.layer_number - 1
        for key, branch in (("attention", layer.self_attn_bda), ("mlp", layer.mlp_bda)):
            found[f"layers.{number}.{key}"] = float(branch(False, False)((one.clone(), None), zero, 0.0).sum())
        scale = getattr(layer.self_attention.core_attention, "softmax_scale", None)
        if scale is not None:
            found[f"layers.{number}.softmax"] = float(scale)
    return found


def _ours(hooks: Any) -> Iterator[Any]:
    """Hooks that may scale; DeepSpeed's fetch and release partitions, and must not be called by hand."""
    for hook in hooks.values():
        origin = getattr(hook, "func", hook)
        if not str(getattr(origin, "__module__", "")).startswith("deepspeed"):
            yield hook


def _through(hooks: Any, module: Any, probe: Tensor) -> float:
    for hook in _ours(hooks):
        out = hook(module, (), probe)
        probe = probe if out is None else out
    return float(probe.sum())


def _through_inputs(hooks: Any, module: Any, probe: Tensor) -> float:
    args: Any = (probe,)
    for hook in _ours(hooks):
        out = hook(module, args)
        args = args if out is None else out if isinstance(out, tuple) else (out,)
    return float(args[0].sum())


def _through_outputs(hooks: Any, module: Any) -> float:
    """The largest logit of a row of ones: a hook that masks padding leaves the others alone."""
    rows = module.output_size_per_partition
    output: Any = (torch.ones(1, 1, rows), None)
    for hook in _ours(hooks):
        out = hook(module, (), output)
        output = output if out is None else out
    largest = float(output[0].max())
    return 1.0 if largest == float("-inf") else largest  # this rank holds padding only


def _audit_forward(model: Any, mup: Mup) -> list[Mismatch]:
    softmax = mup.softmax_scale if mup.softmax_scale is not None else 1 / sqrt(model.config.kv_channels)
    role = Role.TIED_EMBEDDING if is_tied(model) else Role.INPUT_EMBEDDING
    head = Role.TIED_EMBEDDING if is_tied(model) else Role.OUTPUT_HEAD
    table = {
        "embedding": (role, mup.embedding_mult),
        "logits": (head, mup.logits_mult),
        "softmax": (Role.HIDDEN_QKV, softmax),
        "attention": (Role.HIDDEN_PROJ, mup.residual_mult),
        "mlp": (Role.HIDDEN_FC2, mup.residual_mult),
    }
    found = []
    for where, value in forward_multipliers(model).items():
        owner, expected = table[where.split(".")[-1]]
        if not isclose(value, expected, rel_tol=1e-5):
            found.append(Mismatch(owner, "forward multiplier", where, expected, value))
    return found


def _audit_spread(chunk: torch.nn.Module, mup: Mup, moved: float, vocab_size: int | None) -> list[Mismatch]:
    table, tied, found = mup.table(), is_tied(chunk), []
    for name, param in named_parameters(chunk):
        role = role_of(name, tied=tied)
        rms, count = root_mean_square(param, real_rows=_real_rows(unwrapped(chunk), role, vocab_size))
        if not count:
            continue
        bias = name.endswith("bias")
        expected = (0.0 if bias else 1.0) if role in VECTORS else table[role].init_std
        # Adam's steps are at most about lr a parameter, so the root mean square can't have moved further (triangle
        # inequality); an estimate from `count` normal numbers is off by std/√(2 count), and 6 of those never happens.
        noise = 0.0 if role in VECTORS else 6 * expected / sqrt(2 * count)
        slack = 1.5 * moved * table[role].lr_mult + noise + 1e-2 * expected
        if abs(rms - expected) > slack:
            found.append(Mismatch(role, "root mean square", name, expected, rms))
    return found


def _real_rows(model: Any, role: Role, vocab_size: int | None) -> int | None:
    """How many of this rank's vocabulary rows are no padding; None for other roles."""
    if vocab_size is None or role not in (Role.INPUT_EMBEDDING, Role.TIED_EMBEDDING, Role.OUTPUT_HEAD):
        return None
    from megatron.core import parallel_state

    size = model.config.tensor_model_parallel_size
    rows = model.vocab_size // size
    rank = parallel_state.get_tensor_model_parallel_rank() if size > 1 else 0
    return min(max(vocab_size - rank * rows, 0), rows)


@torch.no_grad()
def root_mean_square(param: Any, *, real_rows: int | None = None) -> tuple[float, int]:
    """Root mean square and number of a parameter's real elements; under ZeRO-3 over all its partitions.

    A partitioned parameter makes this a collective: every rank of its group must call it, in the same order.
    """
    if hasattr(param, "ds_tensor"):
        shape, width = param.ds_shape, param.ds_tensor.numel()
        start = width * torch.distributed.get_rank(param.ds_process_group)
        mine = min(max(param.ds_numel - start, 0), width)  # the last partition's tail is padding
        squares = param.ds_tensor.view(-1)[:mine].float().square().sum()
        torch.distributed.all_reduce(squares, group=param.ds_process_group)
    else:
        shape, squares = param.shape, param.detach().float().square().sum()
    count = shape.numel() if real_rows is None else real_rows * shape[1:].numel()
    return (sqrt(float(squares) / count), count) if count else (0.0, 0)
