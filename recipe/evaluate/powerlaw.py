"""Loss against the index of the token in its context, and the power law through it (Figure 5 of the report). No torch.

L(t) = b + (t/c)^a: b is what no context removes, a how fast more context helps. c only sets the scale, and a and c lean on
each other strongly, so the fit runs in log c and reports intervals of all three.
"""

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import t as student

from recipe.errors import RecipeError

MAX_LOG_C = 300.0  # an interval of c that reaches e^±300 says nothing of c


class FitError(RecipeError):
    """A curve that no power law can be fitted to."""


@dataclass(frozen=True)
class PowerLaw:
    """Constants with 95 % intervals (low, high), and the root mean square of what is left."""

    a: float
    b: float
    c: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    c_interval: tuple[float, float]
    residual: float

    def __call__(self, index: NDArray[np.floating]) -> NDArray[np.float64]:
        return self.b + (np.asarray(index, dtype=np.float64) / self.c) ** self.a

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def loss_by_index(nats: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean loss and its standard error at each index, from windows of losses [num_windows, num_tokens].

    Index t is the number of tokens that the prediction could look at, from 1.
    """
    values = np.asarray(nats, dtype=np.float64)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.ones(values.shape[1])
    return values.mean(axis=0), error


def fit(index: NDArray[np.floating], loss: NDArray[np.floating], *, error: NDArray[np.floating] | None = None) -> PowerLaw:
    """Least squares, weighted by the standard errors where they are given.

    Args:
        index: Tokens of context, above 0, [n].
        loss: Mean nats there, [n].

    Raises:
        FitError: Fewer points than unknowns, no minimum is found, or the points leave the constants open.
    """
    x, y = np.asarray(index, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    usable = (x > 0) & np.isfinite(y)
    x, y = x[usable], y[usable]
    sigma = None if error is None else np.maximum(np.asarray(error, dtype=np.float64)[usable], 1e-9)
    if len(x) < 5:
        raise FitError(f"{len(x)} usable points; a power law with three constants needs at least 5")

    def law(t: NDArray[np.float64], a: float, b: float, log_c: float) -> NDArray[np.float64]:
        return b + np.exp(a * (np.log(t) - log_c))

    try:
        start = (-0.5, float(y[-len(y) // 4 :].mean()) - 0.1, 2.0)
        with warnings.catch_warnings(action="ignore", category=OptimizeWarning):  # no covariance: checked below
            best, covariance = curve_fit(law, x, y, p0=start, sigma=sigma, maxfev=20_000)
    except RuntimeError as failure:
        raise FitError(f"no power law fits these {len(x)} points: {failure}") from failure
    spread = np.sqrt(np.maximum(np.diag(covariance), 0)) * student.ppf(0.975, max(len(x) - 3, 1))
    a, b, log_c = (float(value) for value in best)
    low, high = best - spread, best + spread
    if not np.isfinite([low, high]).all() or max(abs(low[2]), abs(high[2])) > MAX_LOG_C:
        raise FitError(f"these {len(x)} points leave a, b and c open: the loss hardly changes with the index")
    return PowerLaw(
        a, b, float(np.exp(log_c)), (float(low[0]), float(high[0])), (float(low[1]), float(high[1])),
        (float(np.exp(low[2])), float(np.exp(high[2]))), float(np.sqrt(np.mean((law(x, *best) - y) ** 2))),
    )
