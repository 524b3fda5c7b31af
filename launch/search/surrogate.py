"""A Gaussian process over few points: a smooth guess with its uncertainty, without a form being assumed.

Squared-exponential kernel, constant mean; lengths, amplitude and noise by the greatest marginal likelihood. For up to a few
hundred trials, which is what a study has.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

_BOUNDS_LENGTH = (np.log(0.05), np.log(20.0))
_JITTER = 1e-8


@dataclass(frozen=True)
class Gp:
    """A fitted process; y is standardized inside."""

    x: np.ndarray  # [n, d]
    weights: np.ndarray  # [n]
    factor: tuple[np.ndarray, bool]
    lengths: np.ndarray  # [d]
    amplitude: float
    noise: float
    """Standard deviation of one observation, in units of y."""
    mean: float
    scale: float

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the noiseless value at x [m, d]."""
        cross = self.amplitude * _kernel(x, self.x, self.lengths)  # [m, n]
        variance = self.amplitude - np.einsum("ij,ji->i", cross, cho_solve(self.factor, cross.T))
        return self.mean + self.scale * cross @ self.weights, self.scale * np.sqrt(np.maximum(variance, 0.0))

    def difference_sd(self, x: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Standard deviation of f(x) − f(other) for x [m, d] against one other [d]."""
        both = np.vstack([x, other[None]])
        cross = self.amplitude * _kernel(both, self.x, self.lengths)
        solved = cho_solve(self.factor, cross.T)
        variance = self.amplitude - np.einsum("ij,ji->i", cross, solved)
        shared = self.amplitude * _kernel(x, other[None], self.lengths)[:, 0] - cross[:-1] @ solved[:, -1]
        return self.scale * np.sqrt(np.maximum(variance[:-1] + variance[-1] - 2 * shared, 0.0))


def fit_gp(x: np.ndarray, y: np.ndarray, *, noise: float | None = None, one_length: bool = False) -> Gp:
    """Fits y [n] over x [n, d].

    Args:
        x: Points.
        y: Values.
        noise: Known standard deviation of a value; None has it fitted.
        one_length: All dimensions share their length scale.
    """
    mean, scale = float(np.mean(y)), max(float(np.std(y)), 1e-12)
    z = (y - mean) / scale
    num_lengths = 1 if one_length else x.shape[1]
    fixed = None if noise is None else max(noise / scale, 1e-3)

    def parts(theta: np.ndarray) -> tuple[np.ndarray, float, float]:
        lengths = np.exp(theta[:num_lengths]) * np.ones(x.shape[1])
        return lengths, float(np.exp(theta[num_lengths])), fixed if fixed is not None else float(np.exp(theta[num_lengths + 1]))

    def cost(theta: np.ndarray) -> float:
        lengths, amplitude, sigma = parts(theta)
        matrix = amplitude * _kernel(x, x, lengths) + (sigma**2 + _JITTER) * np.eye(len(x))
        try:
            factor = cho_factor(matrix, lower=True)
        except np.linalg.LinAlgError:
            return 1e10
        prior = 0.5 * np.sum((theta[:num_lengths] - np.log(0.7)) ** 2)  # weak: keeps lengths near the cube's size
        return float(0.5 * z @ cho_solve(factor, z) + np.sum(np.log(np.diag(factor[0]))) + prior)

    bounds = [_BOUNDS_LENGTH] * num_lengths + [(np.log(1e-2), np.log(1e2))] + ([] if fixed else [(np.log(1e-3), np.log(1.5))])
    start = np.array([np.log(0.7)] * num_lengths + [0.0] + ([] if fixed else [np.log(0.3)]))
    best = minimize(cost, start, bounds=bounds, method="L-BFGS-B", options={"maxiter": 60})
    lengths, amplitude, sigma = parts(best.x)
    factor = cho_factor(amplitude * _kernel(x, x, lengths) + (sigma**2 + _JITTER) * np.eye(len(x)), lower=True)
    return Gp(x, cho_solve(factor, z), factor, lengths, amplitude, sigma * scale, mean, scale)


def _kernel(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    difference = (a[:, None] - b[None]) / lengths
    return np.exp(-0.5 * np.sum(difference**2, axis=-1))
