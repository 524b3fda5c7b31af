"""A metric as a function of the mixture, in two forms: the log-linear law of Data Mixing Laws, and a process over √x.

Both predict a mean and a standard deviation of *differences* to a reference mix, which is what a choice needs.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import least_squares

from launch.search.surrogate import Gp, fit_gp

_DRAWS = 256
_RIDGE = 0.05  # t of a group that hardly varies stays near the others'
_FLOORS = (0.3, 0.8, 0.97)  # starts for c, as shares of the least loss


class Law(Protocol):
    """A fitted metric."""

    def mean(self, x: np.ndarray) -> np.ndarray: ...

    def difference_sd(self, x: np.ndarray, other: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class LogLinear:
    """L(x) = c + exp(t · x) (arXiv 2403.16952; k is in t, since shares sum to one)."""

    floor: float
    slopes: np.ndarray
    draws: np.ndarray
    """[draws, 1 + num_groups] plausible (c, t), from the curvature of the fit."""
    residuals: np.ndarray

    def mean(self, x: np.ndarray) -> np.ndarray:
        return self.floor + np.exp(x @ self.slopes)

    def difference_sd(self, x: np.ndarray, other: np.ndarray) -> np.ndarray:
        values = np.exp(np.clip(self.draws[:, 1:] @ np.vstack([x, other[None]]).T, -50, 50))  # c cancels
        return np.std(values[:, :-1] - values[:, -1:], axis=0)


def fit_loglinear(x: np.ndarray, y: np.ndarray, *, noise: float, seed: int = 0) -> LogLinear:
    """Least squares from several starts.

    Args:
        x: Shares [n, num_groups].
        y: The metric [n].
        noise: Standard deviation of one run; residuals above it widen the uncertainty.
        seed: Of the draws.
    """
    size = x.shape[1]
    sigma = max(noise, 1e-6)

    def residuals(theta: np.ndarray) -> np.ndarray:
        fit = (y - theta[0] - np.exp(np.clip(x @ theta[1:], -50, 50))) / sigma
        return np.concatenate([fit, _RIDGE * (theta[1:] - theta[1:].mean())])

    def jacobian(theta: np.ndarray) -> np.ndarray:
        fit = np.hstack([-np.ones((len(y), 1)), -np.exp(np.clip(x @ theta[1:], -50, 50))[:, None] * x]) / sigma
        ridge = np.hstack([np.zeros((size, 1)), _RIDGE * (np.eye(size) - 1 / size)])
        return np.vstack([fit, ridge])

    bounds = (np.array([0.0] + [-20.0] * size), np.array([max(float(y.min()), 1e-9)] + [20.0] * size))
    fits = []
    for floor in _FLOORS:
        start = np.concatenate([[floor * y.min()], np.full(size, np.log(max(y.mean() - floor * y.min(), 1e-6)))])
        start = np.clip(start, bounds[0] + 1e-9, bounds[1] - 1e-9)
        fits.append(least_squares(residuals, start, jac=jacobian, bounds=bounds, max_nfev=200))
    best = min(fits, key=lambda fit: fit.cost)
    left = y - best.x[0] - np.exp(x @ best.x[1:])
    inflation = max(1.0, float(np.sum((left / sigma) ** 2)) / max(1, len(y) - size - 1))
    curvature = best.jac.T @ best.jac + 1e-9 * np.eye(size + 1)
    covariance = inflation * np.linalg.pinv(curvature, hermitian=True)
    draws = np.random.default_rng(seed).multivariate_normal(best.x, covariance, size=_DRAWS, method="eigh")
    return LogLinear(float(best.x[0]), best.x[1:], draws, left)


@dataclass(frozen=True)
class RootProcess:
    """A Gaussian process over √x: no form assumed, so a minimum inside or a penalty for repeating can show."""

    gp: Gp

    def mean(self, x: np.ndarray) -> np.ndarray:
        return self.gp.predict(np.sqrt(np.maximum(x, 0.0)))[0]

    def difference_sd(self, x: np.ndarray, other: np.ndarray) -> np.ndarray:
        return self.gp.difference_sd(np.sqrt(np.maximum(x, 0.0)), np.sqrt(np.maximum(other, 0.0)))


def fit_process(x: np.ndarray, y: np.ndarray, *, noise: float) -> RootProcess:
    return RootProcess(fit_gp(np.sqrt(np.maximum(x, 0.0)), y, noise=max(noise, 1e-6), one_length=True))


@dataclass(frozen=True)
class Objective:
    """Weighted sum of laws, one a metric."""

    laws: tuple[Law, ...]
    weights: np.ndarray
    overlap: float = 1.0
    """Noise of the sum against that of independent metrics: the metrics of one run err together."""

    def mean(self, x: np.ndarray) -> np.ndarray:
        return sum(weight * law.mean(x) for weight, law in zip(self.weights, self.laws))

    def difference_sd(self, x: np.ndarray, other: np.ndarray) -> np.ndarray:
        variance = sum((weight * law.difference_sd(x, other)) ** 2 for weight, law in zip(self.weights, self.laws))
        return self.overlap * np.sqrt(variance)
