"""The loop: draw samples, one step, record; checkpoints and evaluations where they are due."""

import resource
import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state as ps

from data_prep.tokenizer import load_tokenizer
from recipe.audit import audit_engine, weights_by_role
from recipe.batch import MicroBatch, micro_batch
from recipe.boards import open_boards
from recipe.checkpoint.format import run_state
from recipe.checkpoint.restore import check_identity, load_engine, newest_whole
from recipe.checkpoint.retention import remove_old
from recipe.checkpoint.writer import CheckpointWriter
from recipe.config import StageConfig
from recipe.engine import Engine, StepResult
from recipe.errors import RunError, TrainingFault
from recipe.evaluate.during import heldout_losses
from recipe.faults import Faults
from recipe.lower import schedule_of
from recipe.metrics import Recorder, append_event
from recipe.model import initialise_parallel
from recipe.peak import matmul_peak_tflops
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, read_json
from recipe.size import model_flops_per_token
from recipe.stream import Ledger, SampleStream, open_streams, rank_share
from recipe.train import StopRequest
from recipe.units import format_count, format_seconds
from recipe.watchdog import Watchdog

FENCE_EVERY_S = 5.0


def enter_stage(stage: StageConfig, *, samples: SampleStream, engine: Engine) -> None:
    """Mixture, sequence length and rotary base of a stage, from its first step or from where a checkpoint stands in it."""
    model = engine.resolved.config.model_at(stage.name)
    samples.enter(stage.name, stage.mixture, seq_length_tokens=model.seq_length_tokens)
    engine.set_rope_base(model.rope_base)


class Trainer:
    """One rank of a run, from its newest checkpoint."""

    def __init__(self, run: RunDir, resolved: ResolvedRun, *, attempt: int, device: str, watchdog: Watchdog) -> None:
        self.run_dir, self.resolved, self.attempt, self.device, self.watchdog = run, resolved, attempt, device, watchdog
        world = dist.get_world_size()
        if world != resolved.layout.world_size:
            raise RunError(
                f"{run.root}: laid out for {resolved.layout.world_size} processes ({resolved.layout}), started with {world}"
            )
        self.rank, config = dist.get_rank(), resolved.config
        initialise_parallel(resolved)
        self.engine = Engine(
            resolved, transformer=read_json(run.transformer), deepspeed_config=read_json(run.deepspeed), device=device
        )
        self.schedule = schedule_of(resolved)
        assert resolved.tokenizer_dir is not None, "prepare writes it"
        self.eod_id = load_tokenizer(resolved.tokenizer_dir).eod_id
        self.faults = Faults(config.faults)
        self.step, state = self._restore()
        self._fresh = not state  # weights are the initialisation's own, which an imported checkpoint's are not
        streams = open_streams(
            {name: ref.train for name, ref in resolved.data.items()},
            block_tokens=config.block_tokens, seed=config.seed,
        )
        self.samples = SampleStream(streams, ledger=Ledger(state.get("ledger")))
        self._masked = any(stream.store.manifest.has_loss_mask for stream in streams.values())
        self.writer = CheckpointWriter(self.engine, asynchronous=config.checkpoint.asynchronous)
        self.recorder = self._recorder()
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self.peak_tflops = matmul_peak_tflops(device=device, dtype=dtype)
        self._fenced_at = self._saved_at_step = 0.0
        self._audited = False

    def run(self, stop: StopRequest) -> str | None:
        """Trains to the end; returns None, or why it left before (a checkpoint is written in either case)."""
        layout = self.resolved.layout
        facts = {"world_size": layout.world_size, "layout": str(layout), "backends": self.engine.backends}
        self._event("start", step=self.step, tokens=self.tokens, **facts)
        while self.step < self.resolved.num_steps:
            index = self.resolved.stage_at(self.step)
            stage = self.resolved.config.stages[index]
            enter_stage(stage, samples=self.samples, engine=self.engine)
            result = self._one_step(stop)
            if self._judge(result):
                continue
            asked = result.stop
            at_stage_end = self.step == self.resolved.stages[index].end_step
            if at_stage_end:
                self._event("stage_end", stage=stage.name, step=self.step, tokens=self.tokens)
            if at_stage_end or asked or self._due(self.resolved.config.checkpoint.every_tokens):
                self._save(stage.name)
            if at_stage_end or self._due(self.resolved.config.evaluate.every_tokens):
                self._evaluate(stage.name)
            if asked and self.step < self.resolved.num_steps:
                self.writer.wait()
                self._event("interrupted", step=self.step, tokens=self.tokens, signal=stop.asked)
                return f"told to leave ({stop.asked or 'by another rank'})"
        self.writer.wait()
        self._event("finished", step=self.step, tokens=self.tokens)
        return None

    @property
    def tokens(self) -> int:
        return self.resolved.tokens_before(self.step)

    def progress(self) -> dict[str, int]:
        return {"step": self.step, "tokens": self.tokens}

    def close(self) -> None:
        self.writer.wait()
        if self.rank == 0:
            remove_old(self.run_dir, self.resolved)  # the last checkpoint is whole only now: LATEST must name it
        if self.recorder is not None:
            self.recorder.close()
        self.engine.close()

    def _one_step(self, stop: StopRequest) -> StepResult:
        started = time.perf_counter()
        layout, step = self.resolved.layout, self.step
        batch_seqs = self.resolved.batch_seqs_at(step)
        tokens_after = self.resolved.tokens_before(step + 1)
        micro_batches, num_targets = self._draw(batch_seqs)
        data_s = time.perf_counter() - started
        self.watchdog.beat(f"step {step}: batch read")
        base_lr = self.resolved.config.optim.peak_lr * self.schedule.lr_mult_at(tokens_after)
        self.engine.set_lr(base_lr)
        every = self.resolved.config.faults.digest_every_steps
        result = self.engine.train_step(
            micro_batches, num_targets=num_targets, stop=stop.asked is not None,
            compare_replicas=every is not None and step % every == 0,
        )
        self.step = step + 1
        if not self._audited:
            self._audit(base_lr, fresh=self._fresh)
        self.watchdog.beat(f"step {step}")
        self._fence()
        step_s = time.perf_counter() - started
        self._record(result, step=step, batch_seqs=batch_seqs, step_s=step_s, data_s=data_s, num_ranks=layout.world_size)
        return result

    def _judge(self, result: StepResult) -> bool:
        """Records what was wrong with a step; True where the run went back for it. Raises `TrainingFault` beyond the limits."""
        events = self.faults.judge(result, step=self.step - 1)
        for event in events:
            self._event(**event, step=self.step - 1, tokens=self.tokens)
        if not any(event["event"] == "rollback" for event in events):
            return False
        self._go_back(events[-1]["why"])
        return True

    def _go_back(self, why: str) -> None:
        """To the newest checkpoint; the samples drawn since are left out, as the ledger stays where it is."""
        self.writer.wait()
        dist.barrier()  # every rank's checkpoint in flight is whole
        self.step, state = self._restore()
        if not state:
            raise TrainingFault(f"{why}; there is no checkpoint to go back to")
        if self.recorder is not None:
            self.recorder.close()
            self.recorder = self._recorder()
        self._event("rolled_back", step=self.step, tokens=self.tokens)

    def _audit(self, base_lr: float, *, fresh: bool) -> None:
        """Once an attempt, after its first step: rates and multipliers that are really in force; raises `AuditError`."""
        audit_engine(self.engine, base_lr=base_lr, fresh_moved=base_lr if fresh else None)
        self._audited = True
        self._event("audit", step=self.step, tokens=self.tokens)

    def _draw(self, batch_seqs: int) -> tuple[list[MicroBatch], int]:
        windows = self.samples.draw(batch_seqs)
        layout, micro = self.resolved.layout, self.resolved.config.batch.micro_seqs
        eod = self.eod_id if self.resolved.config.model.reset_attention_at_document_end else None
        mine = rank_share(windows, dp_rank=ps.get_data_parallel_rank(), dp=layout.dp, micro_seqs=micro)
        read = [self.samples.read(share) for share in mine]
        num_targets = self.resolved.tokens_before(self.step + 1) - self.tokens
        if self._masked:
            counted = torch.tensor(sum(float(mask.sum()) for _, mask in read), dtype=torch.float64, device=self.device)
            dist.all_reduce(counted, group=ps.get_data_parallel_group())
            num_targets = max(1, int(counted))
        return [micro_batch(tokens, mask, eod_id=eod) for tokens, mask in read], num_targets

    def _due(self, every_tokens: int | None) -> bool:
        """Whether a multiple of `every_tokens` was passed by the step just taken."""
        if not every_tokens:
            return False
        return self.tokens // every_tokens > self.resolved.tokens_before(self.step - 1) // every_tokens

    def _save(self, stage: str) -> None:
        self._fence(now=True)
        if self.recorder is not None:
            self.recorder.sync()
        folder = self.run_dir.checkpoint(stage, self.tokens)
        started = time.perf_counter()
        self.writer.save(folder, self._state(stage))
        if self.rank == 0:
            remove_old(self.run_dir, self.resolved)
        self._event("checkpoint", path=folder.name, step=self.step, tokens=self.tokens, blocked_s=time.perf_counter() - started)

    def _state(self, stage: str) -> dict[str, Any]:
        return run_state(
            self.resolved, stage=stage, step=self.step, ledger=self.samples.ledger.state(), attempt=self.attempt,
            num_skipped=self.faults.num_skipped,
        )  # fmt: skip

    def _restore(self) -> tuple[int, dict[str, Any]]:
        folder, complaints = newest_whole(self.run_dir)
        for complaint in complaints:
            self._say(f"damaged checkpoint set aside: {complaint}")
        if complaints and self.rank == 0:  # no recorder yet
            append_event(self.run_dir, "set_aside", attempt=self.attempt, problems=complaints)
        branch = self.resolved.branch
        if folder is None and branch is not None:
            from pathlib import Path

            folder = Path(branch.checkpoint)
        if folder is None:
            return 0, {}
        from recipe.checkpoint.reader import CheckpointReader

        state = CheckpointReader(folder).state
        check_identity(state, self.resolved, folder=folder, branch=branch is not None)
        load_engine(self.engine, folder)
        self.faults.num_skipped = state["num_skipped"]
        self._say(f"going on from {folder} at step {state['step']}")
        return state["step"], state

    def _evaluate(self, stage: str) -> None:
        self.watchdog.beat("evaluation")
        started = time.perf_counter()
        losses = heldout_losses(self.engine, self.resolved)
        if self.recorder is not None:
            from recipe.evaluate.heldout import write_heldout

            write_heldout(self.run_dir.heldout(stage, self.tokens), stage=stage, tokens=self.tokens, sources=losses)
            for source, result in losses.items():
                self.recorder.scalar(f"heldout/{source}_bits_per_byte", result["bits_per_byte"], self.step)
        self._event("evaluate", step=self.step, tokens=self.tokens, seconds=time.perf_counter() - started)

    def _recorder(self) -> Recorder | None:
        if self.rank != 0:
            return None
        boards = open_boards(self.run_dir, self.resolved.config, first_step=self.step)
        return Recorder(self.run_dir, attempt=self.attempt, first_step=self.step, boards=boards)

    def _record(self, result: StepResult, *, step: int, batch_seqs: int, step_s: float, data_s: float, num_ranks: int) -> None:
        if self.recorder is None:
            return
        stage = self.resolved.stages[self.resolved.stage_at(step)]
        model = self.resolved.config.model_at(stage.name)
        tokens = batch_seqs * model.seq_length_tokens
        tflops = model_flops_per_token(model) * tokens / step_s / 1e12
        groups = self.engine.param_groups
        record = {
            "step": step, "stage": stage.name, "tokens": self.tokens, "loss": result.loss,
            "grad_norm": result.grad_norm if result.applied else None,
            "lr": groups[0]["lr"] / groups[0]["lr_mult"], "lr_by_role": {group["role"]: group["lr"] for group in groups},
            "batch_seqs": batch_seqs, "tokens_per_s": tokens / step_s, "step_s": step_s,
            "phase_s": {"data": data_s, **result.phase_s}, "tflops": tflops,
            "mfu_frac": tflops / (self.peak_tflops * num_ranks), "skipped": not result.applied,
            "memory_bytes": _peak_memory_bytes(self.device), "drawn": dict(self.samples.ledger.drawn),
        }
        self.recorder.step(record)
        every = self.resolved.config.logging.histograms_every_steps
        if every is not None and step % every == 0:
            self.recorder.histograms(weights_by_role(self.engine), step)
        if step % self.resolved.config.logging.every_steps == 0 or step + 1 == self.resolved.num_steps:
            left_s = (self.resolved.total_tokens - self.tokens) / record["tokens_per_s"]
            self._say(
                f"step {step + 1}/{self.resolved.num_steps} {stage.name} tokens {format_count(self.tokens)} "
                f"loss {result.loss:.4f} grad {result.grad_norm:.3f} lr {record['lr']:.3g} "
                f"{format_count(record['tokens_per_s'])} tokens/s, {format_seconds(left_s)} left"
            )

    def _fence(self, *, now: bool = False) -> None:
        """A later attempt owns the run: ranks of an earlier one (of a lost node) may write no more."""
        if not now and time.monotonic() - self._fenced_at < FENCE_EVERY_S:
            return
        self._fenced_at = time.monotonic()
        newest = max((int(path.name.partition("-")[0]) for path in self.run_dir.attempt_dirs()), default=0)
        if newest > self.attempt:
            raise TrainingFault(f"attempt {self.attempt}: attempt {newest} has taken over {self.run_dir.root}; this one stops")

    def _event(self, event: str, **facts: Any) -> None:
        if self.recorder is not None:
            self.recorder.event(event, **facts)

    def _say(self, line: str) -> None:
        if self.rank == 0:
            print(line, file=sys.stderr, flush=True)


def _peak_memory_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
