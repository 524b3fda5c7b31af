"""A few steps of a run under torch's profiler, one rank of it: `python -m recipe.profiled RUN_DIR`, as recipe.train is started.

Each rank writes `profile/rank_00000.json` (Perfetto and chrome://tracing show it), rank 0 also the table of operations. The run
directory is a scratch one that `windtunnel profile` made.
"""

import os
import sys

import torch

from recipe.train import StopRequest, main
from recipe.trainer import Trainer as WholeTrainer
from recipe.trainer import enter_stage

SKIPPED_STEPS = 2  # the first allocates, the second has the allocations
STEPS_VARIABLE = "WINDTUNNEL_PROFILE_STEPS"


class Trainer(WholeTrainer):
    """Takes the first steps only, profiled."""

    def run(self, stop: StopRequest) -> str | None:
        num_steps = min(int(os.environ[STEPS_VARIABLE]), self.resolved.num_steps - SKIPPED_STEPS)
        enter_stage(self.resolved.config.stages[0], samples=self.samples, engine=self.engine)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.device == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        for _ in range(SKIPPED_STEPS):
            self._one_step(stop)
        with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
            for _ in range(num_steps):
                with torch.profiler.record_function("step"):
                    self._one_step(stop)
        folder = self.run_dir.root / "profile"
        folder.mkdir(exist_ok=True)
        profiler.export_chrome_trace(str(folder / f"rank_{self.rank:05d}.json"))
        if self.rank == 0:
            order = f"self_{self.device}_time_total"
            (folder / "operations.txt").write_text(profiler.key_averages().table(sort_by=order, row_limit=25))
        return None


if __name__ == "__main__":
    sys.exit(main(trainer_module="recipe.profiled"))
