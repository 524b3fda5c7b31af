"""Where a run's curves can be watched: TensorBoard, and Weights & Biases where the recipe names a project. Rank 0 only."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from recipe.config import RunConfig
from recipe.errors import ConfigError
from recipe.rundir import RunDir

if TYPE_CHECKING:
    from torch import Tensor

Scalars = Iterable[tuple[str, float]]


class Board(Protocol):
    """Takes scalars and histograms by step, and says at the end how the run's hyperparameters fared."""

    def scalars(self, values: Scalars, step: int) -> None: ...

    def histogram(self, name: str, values: "Tensor", step: int) -> None: ...

    def close(self, last_loss: float | None) -> None: ...


class TensorBoard:
    """Event files in the run directory."""

    def __init__(self, run: RunDir, config: RunConfig, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._hparams = hyperparameters(config)
        self._writer = SummaryWriter(str(run.tensorboard), purge_step=first_step)

    def scalars(self, values: Scalars, step: int) -> None:
        for name, value in values:
            self._writer.add_scalar(name, value, step)

    def histogram(self, name: str, values: "Tensor", step: int) -> None:
        self._writer.add_histogram(name, values, step)

    def close(self, last_loss: float | None) -> None:
        """Hyperparameters go with the last loss, so that TensorBoard's table compares the runs of a sweep."""
        if last_loss is not None:
            self._writer.add_hparams(dict(self._hparams), {"hparams/last_loss": last_loss}, run_name=".")
        self._writer.close()


class WeightsAndBiases:
    """A run of the project, continued under the same id after a resume; `WANDB_MODE=offline` keeps it in the run directory."""

    def __init__(self, run: RunDir, config: RunConfig, *, first_step: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("logging.wandb: the package is not installed; pip install wandb, or leave it out") from error
        self._wandb = wandb
        self._run = wandb.init(
            project=config.logging.wandb, name=run.name, id=f"{run.name}-{config.seed}", dir=str(run.root), resume="allow",
            config=config.model_dump(mode="json"),
        )

    def scalars(self, values: Scalars, step: int) -> None:
        self._run.log(dict(values), step=step)

    def histogram(self, name: str, values: "Tensor", step: int) -> None:
        self._run.log({name: self._wandb.Histogram(values.tolist())}, step=step)

    def close(self, last_loss: float | None) -> None:
        self._run.finish()


def open_boards(run: RunDir, config: RunConfig, *, first_step: int) -> list[Board]:
    """Those that the recipe asks for; raises `ConfigError` for one that isn't installed."""
    boards: list[Board] = []
    if config.logging.tensorboard:
        boards.append(TensorBoard(run, config, first_step=first_step))
    if config.logging.wandb:
        boards.append(WeightsAndBiases(run, config, first_step=first_step))
    return boards


def hyperparameters(config: RunConfig) -> Mapping[str, float | str]:
    """What a sweep varies, by its key in the recipe."""
    sections = {"model": config.model, "mup": config.mup, "optim": config.optim, "batch": config.batch}
    return {
        f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in section.model_dump(mode="json").items()
        if isinstance(value, int | float | str)
    }
