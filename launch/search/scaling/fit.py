"""Loss over parameters and tokens: L(N, D) = L₀ + A·N^−α + B·D^−β (MiniCPM, section 4.5), with prediction intervals."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import least_squares

from launch.search.errors import SearchError

NUM_CONSTANTS = 5
_EXPONENT_PRIOR = (0.35, 0.25)  # both exponents lie about here in every published fit; decides only where the data doesn't


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law; sizes are taken relative to the geometric middle of those that were fitted."""

    constants: np.ndarray
    """log L₀, log A, α, log B, β, A and B being losses at the middle."""
    covariance: np.ndarray
    """[5, 5] of the constants, from the curvature of the fit."""
    middle: tuple[float, float]
    residual_sd: float
    freedom: int

    def predict(self, params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return _losses(self.constants, params / self.middle[0], tokens / self.middle[1])

    def interval(self, params: float, tokens: float, *, level: float = 0.9) -> tuple[float, float]:
        """Where a new run's loss lies with this probability: uncertainty of the constants and noise of a run.

        By the delta method: the constants one by one are often badly known, but what they err by together cancels in the loss.
        """
        n, d = params / self.middle[0], tokens / self.middle[1]
        floor, a, alpha, b, beta = self.constants
        of_n, of_d = np.exp(a) * n**-alpha, np.exp(b) * d**-beta
        gradient = np.array([np.exp(floor), of_n, -of_n * np.log(n), of_d, -of_d * np.log(d)])
        centre = float(self.predict(np.array([params]), np.array([tokens]))[0])
        spread = float(np.sqrt(gradient @ self.covariance @ gradient + self.residual_sd**2))
        wide = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * spread
        return centre - wide, centre + wide


def fit(params: np.ndarray, tokens: np.ndarray, losses: np.ndarray, *, noise: float) -> ScalingLaw:
    """Least squares from several starts; raises `SearchError` for fewer points than constants.

    Args:
        params: Parameters without embeddings [n].
        tokens: Tokens trained on, decay included [n].
        losses: Held-out loss [n].
        noise: Standard deviation of a run.
    """
    freedom = len(losses) - NUM_CONSTANTS
    if freedom < 1 or len(set(params)) < 2 or len(set(tokens)) < 2:
        raise SearchError(
            f"{len(losses)} runs of {len(set(params))} sizes can't fit {NUM_CONSTANTS} constants; add --widths or --tokens"
        )
    middle = (float(np.exp(np.mean(np.log(params)))), float(np.exp(np.mean(np.log(tokens)))))
    n, d = params / middle[0], tokens / middle[1]
    sigma = max(noise, 1e-6)
    mean, spread = _EXPONENT_PRIOR

    def residuals(theta: np.ndarray) -> np.ndarray:
        return np.concatenate([(losses - _losses(theta, n, d)) / sigma, (theta[[2, 4]] - mean) / spread])

    low, high = [-10, -10, 0.01, -10, 0.01], [float(np.log(losses.min())), 5, 2, 5, 2]
    starts = [[np.log(f * losses.min()), np.log((1 - f) * losses.mean() / 2), mean, np.log((1 - f) * losses.mean() / 2), mean]
              for f in (0.3, 0.6, 0.9)]  # fmt: skip
    best = min((least_squares(residuals, start, bounds=(low, high)) for start in starts), key=lambda one: one.cost)
    left = losses - _losses(best.x, n, d)
    inflation = max(1.0, float(np.sum((left / sigma) ** 2)) / freedom)
    covariance = inflation * np.linalg.pinv(best.jac.T @ best.jac, hermitian=True)
    return ScalingLaw(best.x, covariance, middle, sigma * inflation**0.5, freedom)


def _losses(theta: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    floor, a, alpha, b, beta = theta
    return np.exp(floor) + np.exp(a) * n**-alpha + np.exp(b) * d**-beta
