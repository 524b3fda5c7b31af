"""Studies without a trainer: a formula answers at once, so that the statistics can be tested by the hundred."""

from collections.abc import Callable, Sequence

from launch.search.trial import Result, Trial, objective_of


class Formula:
    """Runs trials by `losses(trial)`, and remembers which it was asked for."""

    def __init__(self, losses: Callable[[Trial], dict[str, float]]) -> None:
        self.losses, self.asked = losses, []

    def __call__(self, trials: Sequence[Trial]) -> list[Result]:
        self.asked += trials
        return [self._result(trial) for trial in trials]

    def _result(self, trial: Trial) -> Result:
        losses = self.losses(trial)
        value = objective_of(losses, trial.weights)
        pruned = trial.rung_above is not None and value > trial.rung_above
        rung = value if trial.rung_frac is not None else None
        return Result(trial=trial, status="pruned" if pruned else "done", losses=losses, objective=value, rung=rung)
