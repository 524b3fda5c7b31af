"""Which mixes are tried: spread over the simplex rather than a grid of it. Points are arrays x [n, num_groups]."""

import numpy as np

from launch.search.mix.groups import Simplex


def share_line(simplex: Simplex, prior: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Points with these overall shares of instruction data, split among categories (and the rest) as the prior does."""
    sft = simplex.sft
    inside = np.where(sft, prior / prior[sft].sum(), prior / max(prior[~sft].sum(), 1e-12))
    return np.array([np.where(sft, share * inside, (1 - share) * inside) for share in shares])


def random_mixes(simplex: Simplex, count: int, *, seed: int) -> np.ndarray:
    """Uniform on the simplex and denser towards its edges, brought within the bounds."""
    rng = np.random.default_rng(seed)
    size = len(simplex.groups)
    concentrations = np.where(np.arange(count) % 2 == 0, 1.0, 0.4)
    return simplex.within(np.array([rng.dirichlet(np.full(size, a)) for a in concentrations]))


def far_apart(candidates: np.ndarray, count: int, *, beside: np.ndarray) -> np.ndarray:
    """Picks one after the other the candidate farthest from all picked ones, in √x (Hellinger's distance)."""
    roots = np.sqrt(candidates)
    nearest = np.min(np.linalg.norm(roots[:, None] - np.sqrt(beside)[None], axis=2), axis=1)
    picked = []
    for _ in range(count):
        picked.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(roots - roots[picked[-1]], axis=1))
    return candidates[picked]


def splits(simplex: Simplex, prior: np.ndarray, shares: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Mixes whose categories share an overall part near `shares` (a range) in many ways, and one without each category."""
    rng = np.random.default_rng(seed)
    sft = simplex.sft
    candidates = []
    for share, mix in zip(rng.uniform(shares.min(), shares.max(), 40 * count), random_mixes(simplex, 40 * count, seed=seed)):
        inner = np.where(sft, mix, 0.0)
        rest = np.where(sft, 0.0, prior)
        candidates.append(share * inner / max(inner.sum(), 1e-9) + (1 - share) * rest / max(rest.sum(), 1e-9))
    picked = far_apart(simplex.within(np.array(candidates)), count, beside=share_line(simplex, prior, shares))
    return np.vstack([picked, without_each(simplex, share_line(simplex, prior, np.array([shares.mean()]))[0], sft)])


def without_each(simplex: Simplex, around: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The mix with each of these groups deleted, what it had shared among its like (or all others)."""
    points = []
    for index in np.flatnonzero(which):
        x = around.copy()
        x[index] = 0.0
        alike = which & (np.arange(len(x)) != index)
        alike = alike if x[alike].sum() > 0 else np.arange(len(x)) != index
        x[alike] += (1 - x.sum()) * x[alike] / x[alike].sum()
        points.append(x)
    return simplex.within(np.array(points))
