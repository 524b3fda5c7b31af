"""One trial in this process: the recipe's own engine, streams and schedule, without launcher, ranks or run directory.

Imports, patches, memory maps and held-out windows are made once and serve every trial of the worker.
"""

import gc
import math
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import megatron_patches
from data_prep.tokenizer import load_tokenizer
from launch.search.folder import Study
from launch.search.scores import Scores
from launch.search.trial import Result, Trial, objective_of
from recipe import distributed
from recipe.batch import micro_batch
from recipe.branch import branch_config
from recipe.checkpoint.format import run_state
from recipe.checkpoint.reader import CheckpointReader
from recipe.checkpoint.restore import check_identity, load_engine
from recipe.checkpoint.writer import CheckpointWriter
from recipe.config import ParallelConfig, RunConfig
from recipe.engine import Engine, eval_mode
from recipe.evaluate.during import window_nats
from recipe.evaluate.heldout import heldout_sets
from recipe.load import load_recipe
from recipe.lower import deepspeed_config, schedule_of, transformer_arguments
from recipe.model import initialise_parallel
from recipe.resolve import DataRef, ResolvedRun, resolve
from recipe.rundir import read_json
from recipe.stream import Ledger, Permutation, SampleStream, SourceStream, TokenStore, Window
from recipe.trainer import enter_stage

HOPELESS_AFTER_FRAC = 0.3  # from here on, a loss that isn't below the uniform guess won't be the best one
_LAST_STEPS = 16


class PooledStream(SourceStream):
    """A source of which only so many tokens may be read (the same windows in every trial), and repeated."""

    def __init__(self, name: str, store: TokenStore, *, block_tokens: int, seed: int, pool_tokens: int | None) -> None:
        super().__init__(name, store, block_tokens=block_tokens, seed=seed)
        self._pool = Permutation(self.num_blocks, key=f"pool/{name}") if pool_tokens is not None else None
        if pool_tokens is not None:
            self.num_blocks = min(self.num_blocks, max(1, pool_tokens // block_tokens))

    def window(self, draw: int) -> Window:
        window = super().window(draw)
        return window if self._pool is None else replace(window, index=self._pool(window.index))


class Diverged(Exception):
    """The trial can't become the best; the message says at which step and why."""


class Workshop:
    """What the trials of one study share."""

    def __init__(self, study: Study) -> None:
        self.study = study
        facts = read_json(study.data)
        self.data = {name: DataRef.model_validate(ref) for name, ref in facts["sources"].items()}
        self.tokenizer = {key: facts[key] for key in ("tokenizer_dir", "tokenizer_sha256")}
        tokenizer = load_tokenizer(facts["tokenizer_dir"])
        self.eod_id, self.scores = tokenizer.eod_id, Scores(tokenizer, data=facts.get("eval_data", ""))
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        distributed.start(device=self.device, timeout_s=600)
        megatron_patches.apply(cpu=self.device == "cpu")
        self._store = cache(TokenStore)
        self._heldout: dict[tuple[int, int], dict[str, np.ndarray]] = {}

    def run(self, trial: Trial) -> Result:
        """Trains and evaluates; raises for a recipe that can't be carried out."""
        started = time.perf_counter()
        config = load_recipe(str(self.study.recipe), list(trial.overrides))
        if trial.rung_frac is None:
            return self._train(trial, config, started)
        rung = self._train(trial, shortened(config, trial.rung_frac), started)
        if rung.status == "diverged" or (trial.rung_above is not None and rung.loss > trial.rung_above):
            status = "pruned" if rung.status == "done" else rung.status
            return rung.model_copy(update={"status": status, "rung": rung.objective})
        full = self._train(trial, config, time.perf_counter())
        seconds = time.perf_counter() - started
        return full.model_copy(update={"rung": rung.objective, "start_s": rung.start_s, "seconds": seconds})

    def _train(self, trial: Trial, config: RunConfig, started: float) -> Result:
        resolved = self._resolve(trial, config)
        initialise_parallel(resolved)
        engine = Engine(
            resolved, transformer=transformer_arguments(resolved), deepspeed_config=deepspeed_config(resolved),
            device=self.device,
        )
        try:
            run = _Run(self, trial, resolved, engine)
            start_s = time.perf_counter() - started
            losses = run.train()
        except Diverged as error:
            return Result(
                trial=trial, status="diverged", objective=self._of_nothing(trial, config), start_s=start_s,
                tokens=resolved.tokens_before(run.step), seconds=time.perf_counter() - started, detail=str(error),
            )
        finally:
            engine.close()
            del engine
            gc.collect()
        return Result(
            trial=trial, status="done", losses=losses, objective=objective_of(losses, trial.weights), start_s=start_s,
            tokens=resolved.total_tokens, seconds=time.perf_counter() - started,
        )

    def _of_nothing(self, trial: Trial, config: RunConfig) -> float:
        """The objective of a uniform guess."""
        losses = dict.fromkeys(self.data, math.log(config.model.vocab_size))
        scores = self.scores.of_nothing(trial.weights, limit=trial.max_questions, vocab_size=config.model.vocab_size)
        return objective_of(losses | scores, trial.weights)

    def _resolve(self, trial: Trial, config: RunConfig) -> ResolvedRun:
        if trial.start is not None:
            folder = Path(trial.start)
            stage, _, tokens = folder.name.rpartition("-")
            config = branch_config(
                config, name=config.name, stage=stage, tokens=int(tokens), duration_tokens=config.duration_tokens
            )
        config = config.model_copy(update={"parallel": ParallelConfig()})
        drawn = {source for stage in config.stages for source in stage.mixture}
        resolved = resolve(config, world_size=1)
        return resolved.model_copy(update={"data": {name: self.data[name] for name in sorted(drawn)}, **self.tokenizer})

    def streams(self, trial: Trial, resolved: ResolvedRun) -> dict[str, SourceStream]:
        config = resolved.config
        return {
            name: PooledStream(
                name, self._store(ref.train), block_tokens=config.block_tokens, seed=config.seed,
                pool_tokens=trial.pools.get(name),
            )
            for name, ref in resolved.data.items()
        }

    def heldout(self, resolved: ResolvedRun) -> dict[str, np.ndarray]:
        """Held-out windows of every source of the study, drawn from in this trial or not."""
        key = (resolved.config.model.seq_length_tokens, resolved.config.evaluate.heldout_tokens)
        if key not in self._heldout:
            self._heldout[key] = heldout_sets(resolved.model_copy(update={"data": self.data}))
        return self._heldout[key]


class _Run:
    """The loop of one trial."""

    def __init__(self, shop: Workshop, trial: Trial, resolved: ResolvedRun, engine: Engine) -> None:
        self.shop, self.trial, self.resolved, self.engine = shop, trial, resolved, engine
        self.schedule = schedule_of(resolved)
        state: dict[str, Any] = self._restore() if trial.start is not None else {"step": 0, "ledger": None}
        self.step: int = state["step"]
        self.samples = SampleStream(shop.streams(trial, resolved), ledger=Ledger(state["ledger"]))
        self._writer = CheckpointWriter(engine, asynchronous=False)
        self._last: list[float] = []

    def train(self) -> dict[str, float]:
        """Trains to the end; returns held-out losses by source, and scores that the objective names."""
        while self.step < self.resolved.num_steps:
            stage = self.resolved.config.stages[self.resolved.stage_at(self.step)]
            enter_stage(stage, samples=self.samples, engine=self.engine)
            self._one_step()
            if (tokens := self.resolved.tokens_before(self.step)) in self.trial.save_tokens:
                self._save(stage.name, self.shop.study.root / self.trial.checkpoint(stage.name, tokens))
        return self._losses()

    def _one_step(self) -> None:
        config, step = self.resolved.config, self.step
        windows = self.samples.draw(self.resolved.batch_seqs_at(step))
        eod = self.shop.eod_id if config.model.reset_attention_at_document_end else None
        micro = config.batch.micro_seqs
        read = [self.samples.read(windows[at : at + micro]) for at in range(0, len(windows), micro)]
        num_targets = max(1, round(sum(float(mask.sum()) for _, mask in read)))
        self.engine.set_lr(config.optim.peak_lr * self.schedule.lr_mult_at(self.resolved.tokens_before(step + 1)))
        result = self.engine.train_step([micro_batch(t, m, eod_id=eod) for t, m in read], num_targets=num_targets)
        self.step = step + 1
        if not result.applied:
            raise Diverged(f"step {step}: loss or gradients aren't finite")
        self._last = [*self._last[-_LAST_STEPS + 1 :], result.loss]
        far = self.step > HOPELESS_AFTER_FRAC * self.resolved.num_steps and len(self._last) == _LAST_STEPS
        if far and min(self._last) > math.log(config.model.vocab_size):
            raise Diverged(f"step {step}: loss {result.loss:.2f} isn't below the uniform guess")

    def _losses(self) -> dict[str, float]:
        with eval_mode(self.engine):
            losses = {
                name: window_nats(self.engine, self.resolved, windows) / windows[:, 1:].size
                for name, windows in self.shop.heldout(self.resolved).items()
            }
            return losses | self.shop.scores.of(self.engine, self.trial.weights, limit=self.trial.max_questions)

    def _restore(self) -> dict[str, Any]:
        assert self.trial.start is not None
        folder = self.shop.study.root / self.trial.start
        state = CheckpointReader(folder).state
        # another seed than the trunk's is another order of the decay's data: the noise that a study wants to know
        own = self.resolved.config.model_copy(update={"seed": state["seed"]})
        check_identity(state, self.resolved.model_copy(update={"config": own}), folder=folder, branch=True)
        load_engine(self.engine, folder)
        return state

    def _save(self, stage: str, folder: Path) -> None:
        state = run_state(self.resolved, stage=stage, step=self.step, ledger=self.samples.ledger.state(), attempt=1)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._writer.save(folder, state | {"seed": self.resolved.config.seed})


def shortened(config: RunConfig, frac: float) -> RunConfig:
    """The same run at a share of its tokens: warmup, stages, rewarming and half-life in proportion."""
    stages = []
    for stage in config.stages:
        half_life = stage.lr.half_life_tokens
        lr = stage.lr.model_copy(
            update={"half_life_tokens": max(1, round(half_life * frac)) if half_life else None,
                    "rewarm_tokens": int(stage.lr.rewarm_tokens * frac)}
        )
        ramp = stage.batch and stage.batch.model_copy(update={"over_tokens": round(stage.batch.over_tokens * frac)})
        stages.append(stage.model_copy(update={"tokens": max(1, round(stage.tokens * frac)), "lr": lr, "batch": ramp}))
    optim = config.optim.model_copy(update={"warmup_tokens": round(config.optim.warmup_tokens * frac)})
    return config.model_copy(update={"stages": stages, "optim": optim})
