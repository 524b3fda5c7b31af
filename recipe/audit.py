"""The live run against the muP table: by the trainer after each attempt's first step, and by `windtunnel audit`.

    python -m recipe.audit RUN_DIR      # one rank of it; restores the newest checkpoint, audits, prints the table
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from megatron_patches.mup.audit import Mismatch, audit, enforce, live_groups, root_mean_square
from megatron_patches.mup.init import is_tied, named_parameters
from megatron_patches.mup.rules import role_of
from recipe.engine import Engine


def audit_engine(engine: Engine, *, base_lr: float, fresh_moved: float | None = None) -> None:
    """Audits this rank and raises on all if any differs.

    Args:
        base_lr: Of the last step, before the table's multipliers.
        fresh_moved: Sum of base rates so far, on a run that began here; None on a resume.

    Raises:
        AuditError: Names every difference.
    """
    enforce(differences(engine, base_lr=base_lr, fresh_moved=fresh_moved))


def differences(engine: Engine, *, base_lr: float, fresh_moved: float | None = None) -> list[Mismatch]:
    """What on this rank isn't the table's; arguments as `audit_engine`'s."""
    config, optim = engine.resolved.config, engine.resolved.config.optim
    return audit(
        engine.chunks, engine.engine.optimizer, engine.mup, base_lr=base_lr, peak_lr=optim.peak_lr,
        weight_decay=optim.weight_decay, eps=optim.eps, betas=optim.betas, decay_mode=optim.weight_decay_mode,
        fresh_moved=fresh_moved, vocab_size=config.model.vocab_size,
    )


def measured(engine: Engine) -> Iterator[dict[str, Any]]:
    """What this rank's parameters and groups really hold, one row a parameter. Collective under ZeRO-3."""
    groups = {id(p): group for group, params in live_groups(engine.engine.optimizer) for p in params}
    for chunk in engine.chunks:
        tied = is_tied(chunk)
        for name, param in named_parameters(chunk):
            group = groups.get(id(param), {})
            rms, _count = root_mean_square(param)
            values = {key: group.get(key) for key in ("lr", "weight_decay", "eps", "betas")}
            yield {"parameter": name, "role": str(role_of(name, tied=tied)), "rms": rms, **values}


def weights_by_role(engine: Engine) -> dict[str, Any]:
    """This rank's weights of each role, flattened, float32 on the CPU; under ZeRO-3 the share that it keeps."""
    import torch

    by_role: dict[str, list[Any]] = {}
    for chunk in engine.chunks:
        tied = is_tied(chunk)
        for name, param in named_parameters(chunk):
            values = getattr(param, "ds_tensor", param).detach().float().flatten().cpu()
            by_role.setdefault(str(role_of(name, tied=tied)), []).append(values)
    return {role: torch.cat(parts) for role, parts in by_role.items()}


def main(folder: str) -> int:
    """One rank: restores, audits, and (rank 0) prints the rows as a line of JSON."""
    import torch
    import torch.distributed as dist

    import megatron_patches
    from recipe import distributed
    from recipe.checkpoint.restore import load_engine, newest_whole
    from recipe.lower import schedule_of
    from recipe.model import initialise_parallel
    from recipe.prepare import load_resolved
    from recipe.rundir import RunDir, read_json

    run = RunDir.existing(folder)
    resolved = load_resolved(run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    distributed.start(device=device, timeout_s=600)
    with megatron_patches.apply(cpu=device == "cpu"):
        initialise_parallel(resolved)
        engine = Engine(
            resolved, transformer=read_json(run.transformer), deepspeed_config=read_json(run.deepspeed), device=device
        )
        checkpoint, _complaints = newest_whole(run)
        tokens = load_engine(engine, checkpoint)["tokens"] if checkpoint else 0
        base_lr = resolved.config.optim.peak_lr * schedule_of(resolved).lr_mult_at(tokens)
        engine.set_lr(base_lr)
        found = differences(engine, base_lr=base_lr, fresh_moved=None if checkpoint else 0.0)
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, ([str(one) for one in found], list(measured(engine))))
        if dist.get_rank() == 0:
            told = [f"rank {rank}: {line}" for rank, (lines, _rows) in enumerate(gathered) for line in lines]
            rows = {row["parameter"]: row for _lines, some in gathered for row in some}
            answer = {"checkpoint": checkpoint.name if checkpoint else None, "tokens": tokens, "base_lr": base_lr}
            print("\n" + json.dumps({**answer, "differences": told, "rows": list(rows.values())}), flush=True)
        dist.barrier()
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
