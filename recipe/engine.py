"""One rank's training engine: Megatron-Core's schedule over the model, DeepSpeed's ZeRO over the optimizer.

The schedule runs the raw modules, so that DeepSpeed's wrapper doesn't see micro batches; all gradients are then reduced in
one pass. Everything here is the same on CPU and GPU, in every layout, in training and in tests.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed
from megatron.core import parallel_state as ps
from megatron.core.pipeline_parallel import get_forward_backward_func

from megatron_patches.adam import build_adam
from megatron_patches.capabilities import choose_all
from megatron_patches.mup.groups import parameter_groups
from megatron_patches.mup.init import named_parameters
from megatron_patches.mup.rules import Mup
from megatron_patches.zero.partition import allocate_state
from megatron_patches.zero.reduce import average_data_parallel, leave_alone, reduce_model_parallel
from megatron_patches.zero.replicas import disagreements
from megatron_patches.zero.topology import Topology, mark_tied_copy
from recipe.batch import MicroBatch, model_inputs
from recipe.errors import TrainingFault
from recipe.lower import mup_of
from recipe.model import build_chunks, set_rope_base
from recipe.resolve import ResolvedRun
from recipe.stopwatch import Stopwatch


@dataclass(frozen=True)
class StepResult:
    """One optimizer step, the same on every rank."""

    loss: float
    """Nats per target token, over the global batch."""
    grad_norm: float
    """Before clipping, over the whole model."""
    applied: bool
    """False where a value wasn't finite and the step was skipped."""
    stop: bool
    """Whether some rank was asked to leave."""
    phase_s: dict[str, float]
    """Time of this rank by phase: forward, backward (a pipeline's waiting with it), communication of gradients, optimizer."""
    nonfinite: tuple[str, ...] = ()
    """`rank 3: decoder.layers.…` for each parameter whose gradient wasn't finite."""


class Engine:
    """Built once per process and layout; `close()` before building another in the same process."""

    def __init__(
        self, resolved: ResolvedRun, *, transformer: dict[str, Any], deepspeed_config: dict[str, Any],
        device: str = "cpu",
    ) -> None:
        self.resolved, self.device = resolved, device
        self.mup = mup_of(resolved.config)
        self.backends = choose_all(_forced_backends(resolved))
        self.chunks = build_chunks(resolved, transformer, backends=self.backends, device=device)
        self.model_config, self._rope_base = self.chunks[0].config, resolved.config.model.rope_base
        self.model_config.finalize_model_grads_func = None
        mark_tied_copy(self.chunks)
        optim = resolved.config.optim
        groups = parameter_groups(
            self.chunks, self.mup, optim.peak_lr, optim.weight_decay, eps=optim.eps, betas=optim.betas,
            decay_mode=optim.weight_decay_mode,
        )
        groups, placeholders = _same_groups_on_all_stages(groups, self.mup, device=device)
        adam = build_adam(self.backends["adam"], groups, lr=optim.peak_lr, betas=optim.betas, eps=optim.eps)
        # ZeRO-3 gathers a tied weight only within the forward of the module that it was given: give it the model itself
        whole = self.chunks[0] if resolved.layout.pp == 1 else torch.nn.ModuleList([*self.chunks, placeholders])
        self.topology = Topology(partitioned=resolved.layout.zero > 0)
        self.engine, *_ = deepspeed.initialize(
            model=whole, optimizer=adam, mpu=self.topology, config=deepspeed_config
        )
        allocate_state(self.engine)
        leave_alone(self.engine)
        self._schedule = get_forward_backward_func()
        self._dp_cp = resolved.layout.dp * resolved.layout.cp

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The live optimizer's groups, one per muP role on this rank."""
        return self.engine.optimizer.param_groups

    def set_lr(self, base_lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = base_lr * group["lr_mult"]

    def set_rope_base(self, base: float) -> None:
        """Of the rotary embedding, which a stage may change."""
        if base != self._rope_base:
            set_rope_base(self.chunks, base)
            self._rope_base = base

    def train_step(
        self, micro_batches: Sequence[MicroBatch], *, num_targets: int, stop: bool = False, compare_replicas: bool = False
    ) -> StepResult:
        """Forward, backward, one update.

        Args:
            micro_batches: This rank's share of the global batch.
            num_targets: Tokens that count in the loss, over the global batch.
            stop: Whether this rank was asked to leave; the result says whether any was.
            compare_replicas: Look whether all replicas hold the same weights.

        Raises:
            TrainingFault: They don't; names ranks and parameters.
        """
        clock = Stopwatch(self.device)
        with self.engine.coalesce_grad_reduction():
            loss_sum = self._run(micro_batches, num_targets=num_targets, clock=clock)
            clock.lap("backward")
            reduce_model_parallel(self.chunks)
            if not self.topology.partitioned:
                average_data_parallel(self.chunks)
            loss, finite, stopping = self._agree(loss_sum, num_targets, stop=stop)
            culprits = () if finite else self._nonfinite_parameters()
            if not finite:
                self._drop_gradients()
        clock.lap("communication")
        if compare_replicas and (wrong := disagreements(self.engine, self.chunks)):
            raise TrainingFault("weights differ between replicas:\n  " + "\n  ".join(wrong))
        if not finite:
            return StepResult(loss, float("nan"), False, stopping, clock.laps, culprits)
        self.engine.step()
        clock.lap("optimizer")
        return StepResult(loss, float(self.engine.get_global_grad_norm()), True, stopping, clock.laps)

    def loss_sums(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """Nats summed over each micro batch's targets (over context-parallel ranks too); the same on all ranks of a replica."""
        with torch.no_grad():
            sums = self._forward(micro_batches, scale=1.0, forward_only=True, clock=Stopwatch(self.device))
        total = torch.zeros(len(micro_batches), dtype=torch.float64)
        if sums and ps.get_tensor_model_parallel_rank() == 0:
            total += torch.stack(sums).double().cpu()
        total = total.to(self.device)
        for group in (ps.get_model_parallel_group(), ps.get_context_parallel_group()):
            dist.all_reduce(total, group=group)
        return total.tolist()

    def close(self) -> None:
        """Frees the engine and the process groups of this layout."""
        self.engine.destroy()
        ps.destroy_model_parallel()

    def _run(self, micro_batches: Sequence[MicroBatch], *, num_targets: int, clock: Stopwatch) -> torch.Tensor:
        # DeepSpeed averages gradients over dp·cp, the schedule over micro batches (and multiplies by cp): undo both,
        # so that the gradient is that of Σ loss / num_targets whatever the layout.
        scale = self.resolved.layout.dp * len(micro_batches) / num_targets
        sums = self._forward(micro_batches, scale=scale, forward_only=False, clock=clock)
        mine = ps.get_tensor_model_parallel_rank() == 0 and bool(sums)
        return torch.stack(sums).sum() if mine else torch.zeros((), device=self.device)

    def _forward(
        self, micro_batches: Sequence[MicroBatch], *, scale: float, forward_only: bool, clock: Stopwatch
    ) -> list[torch.Tensor]:
        def step(iterator: Any, chunk: torch.nn.Module) -> tuple[torch.Tensor, Any]:
            batch = next(iterator)

            def loss(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                return total * scale, total.detach()

            with clock.inside("forward"):
                return chunk(**model_inputs(batch)), loss

        on_device = [batch.to(self.device) for batch in micro_batches]
        first = on_device[0]
        return self._schedule(
            forward_step_func=step,
            data_iterator=[iter(on_device) for _ in self.chunks] if len(self.chunks) > 1 else iter(on_device),
            model=self.chunks if len(self.chunks) > 1 else self.chunks[0],
            num_microbatches=len(on_device),
            seq_length=first.full_seq_length,
            micro_batch_size=first.num_rows,
            forward_only=forward_only,
        )

    def _agree(self, loss_sum: torch.Tensor, num_targets: int, *, stop: bool) -> tuple[float, bool, bool]:
        """The global loss, whether loss and gradients are finite everywhere, whether a rank must leave; one reduction."""
        bad = torch.zeros((), device=self.device)
        for _, gradient in self._gradients():
            bad += (~torch.isfinite(gradient.sum())).float()
        facts = torch.stack([loss_sum.float(), bad, torch.tensor(float(stop), device=self.device)]).double()
        dist.all_reduce(facts)
        loss, num_bad, num_stop = facts.tolist()
        return loss / num_targets, num_bad == 0 and math.isfinite(loss), num_stop > 0

    def _nonfinite_parameters(self) -> tuple[str, ...]:
        mine = [
            f"rank {dist.get_rank()}: {name}"
            for name, gradient in self._gradients()
            if not torch.isfinite(gradient).all()
        ]
        everyone: list[list[str]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(everyone, mine)
        return tuple(line for lines in everyone for line in lines)

    def _gradients(self) -> Iterator[tuple[str, torch.Tensor]]:
        for chunk in self.chunks:
            for name, parameter in named_parameters(chunk):
                if parameter.grad is not None:
                    yield name, parameter.grad

    def _drop_gradients(self) -> None:
        for chunk in self.chunks:
            for parameter in chunk.parameters():
                parameter.grad = None


def _forced_backends(resolved: ResolvedRun) -> dict[str, str | None]:
    forced = resolved.config.backends.model_dump()
    if resolved.layout.offload_optimizer and forced["adam"] is None:
        forced["adam"] = "torch"  # the table's best may step GPU memory only
    return forced


def _same_groups_on_all_stages(
    groups: list[dict[str, Any]], mup: Mup, *, device: str
) -> tuple[list[dict[str, Any]], torch.nn.ParameterList]:
    """DeepSpeed reduces the gradient norm once a group over TP × PP: every stage needs as many groups, in one order.

    A role that this stage lacks (the middle of a pipeline has no embedding) gets a placeholder without gradient; the
    placeholders come back too, since DeepSpeed wants every optimized parameter in the module.
    """
    placeholders = torch.nn.ParameterList()
    if ps.get_pipeline_model_parallel_world_size() == 1:
        return groups, placeholders
    here = {group["role"]: group for group in groups}
    roles: list[list[str]] = [[] for _ in range(ps.get_pipeline_model_parallel_world_size())]
    dist.all_gather_object(roles, list(here), group=ps.get_pipeline_model_parallel_group())
    for role in mup.table():
        if any(role in stage for stage in roles) and role not in here:
            placeholder = torch.nn.Parameter(torch.zeros(1, device=device, dtype=groups[0]["params"][0].dtype))
            placeholders.append(placeholder)
            here[role] = groups[0] | {"params": [placeholder], "role": str(role)}
    return [here[role] for role in mup.table() if role in here], placeholders


@contextmanager
def eval_mode(engine: Engine):
    """The model in evaluation mode for a while."""
    for chunk in engine.chunks:
        chunk.eval()
    try:
        yield
    finally:
        for chunk in engine.chunks:
            chunk.train()
