"""Loss over N and D, cheaply: one stable run a size, decays from several of its checkpoints (WSD), a larger run held out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from launch.search.errors import SearchError
from launch.search.owner import Run
from launch.search.scaling.fit import ScalingLaw, fit
from launch.search.trial import Numbering, Result, check_trunk, must_have_worked, same_duration
from launch.search.wider import widened, wider_overrides
from recipe.config import ParallelConfig, RunConfig, Section
from recipe.resolve import resolve
from recipe.size import model_size


class ScalingSpec(Section):
    """What decides a scaling study, beside its recipe, whose last stage is the decay."""

    kind: Literal["scaling"] = "scaling"
    widths: tuple[int, ...] = Field(default=(1, 2, 3), min_length=2)
    """Factors on the recipe's width."""
    tokens: tuple[int, ...] = Field(min_length=2)
    """Stable tokens after which a decay branches off, in whole batches."""
    held_out: int = Field(default=4, ge=2)
    """Factor of the larger model that the law is checked on, at the most tokens."""
    seeds: int = Field(default=2, ge=2)
    """Of the smallest size at the most tokens: the noise of a run."""


@dataclass(frozen=True)
class Point:
    """One decayed run."""

    params: int
    tokens: int
    result: Result


class ScalingStudy:
    """The runs of a scaling study and the law through them."""

    def __init__(self, spec: ScalingSpec, config: RunConfig, run: Run) -> None:
        self.spec, self.config, self._run, self._numbering = spec, config, run, Numbering()
        if len(config.stages) < 2:
            raise SearchError("stages: a scaling study needs stable stages and a last one that decays")
        check_trunk(config, config.stages[:1])
        if bad := [tokens for tokens in spec.tokens if tokens % config.batch.global_tokens]:
            raise SearchError(f"--tokens {bad[0]}: not a multiple of batch.global_tokens={config.batch.global_tokens}")
        self.fitted: list[Point] = []
        self.held_out: Point | None = None
        self.noise = 0.0
        self.law: ScalingLaw | None = None

    def conduct(self) -> "ScalingStudy":
        """Runs what isn't there yet; the same trials whenever it is called."""
        for factor in sorted(self.spec.widths):
            self.fitted += self._size(factor, self.spec.tokens)
        most = max(self.spec.tokens)
        smallest = min(self.spec.widths)
        repeats = [self._size(smallest, (most,), seed=self.config.seed + 100 * place)[0] for place in range(1, self.spec.seeds)]
        first = next(one for one in self.fitted if one.tokens == max(point.tokens for point in self.fitted))
        self.noise = float(np.std([one.result.loss for one in (first, *repeats)], ddof=1))
        self.law = fit(*self.arrays(), noise=self.noise)
        (self.held_out,) = self._size(self.spec.held_out, (most,))
        return self

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Parameters, tokens and losses of the fitted runs."""
        rows = [(one.params, one.tokens, one.result.loss) for one in self.fitted]
        params, tokens, losses = np.array(rows, dtype=float).T
        return params, tokens, losses

    def _size(self, factor: int, tokens: Sequence[int], *, seed: int | None = None) -> list[Point]:
        """One stable run of this width and a decay from each of its checkpoints."""
        model = widened(self.config.model, factor)
        extra = [*wider_overrides(self.config.model, factor), *same_duration(self.config)]
        extra += [f"seed={seed}"] if seed is not None else []
        stable, _ = self._stages(max(tokens))
        alone = (f"stages={json.dumps([stable])}", *extra)
        trunk = self._numbering.trial(f"stable run, width × {factor}", alone, save_tokens=tuple(tokens))
        branches, lengths = [], []
        for at in tokens:
            stages = [stable, self._stages(at)[1]]
            lengths.append(at + stages[1]["tokens"])
            start = trunk.checkpoint(stable["name"], at)
            branches.append(self._numbering.trial(f"decay after {at}", (f"stages={json.dumps(stages)}", *extra), start=start))
        must_have_worked(self._run([trunk])[0])
        params = model_size(self.config.model.model_copy(update=model)).num_non_embedding
        results = zip(lengths, self._run(branches), strict=True)
        return [Point(params, length, one) for length, one in results if one.status == "done"]

    def _stages(self, at: int) -> tuple[dict, dict]:
        """A stable stage of so many tokens, and the recipe's decay in the same proportion to it."""
        stable, decay = self.config.stages[0], self.config.stages[-1]
        batch = self.config.batch.global_tokens
        before = sum(stage.tokens for stage in self.config.stages[:-1])
        length = max(1, round(decay.tokens * at / before / batch)) * batch
        half_life = decay.lr.half_life_tokens
        scaled = round(half_life * length / decay.tokens) if half_life else None
        lr = decay.lr.model_copy(update={"half_life_tokens": scaled})
        stages = [stable.model_copy(update={"tokens": at, "batch": None})]
        stages.append(decay.model_copy(update={"tokens": length, "lr": lr}))
        alone = self.config.model_copy(update={"stages": stages, "parallel": ParallelConfig()})
        resolve(alone, world_size=1)  # raises for a stage that can't hold
        first, last = (stage.model_dump(mode="json", exclude_defaults=True) for stage in stages)
        return first, last
