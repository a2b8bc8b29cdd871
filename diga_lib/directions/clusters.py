"""Clusters inside each target class: what a coordinate looks like when it is the spurious attribute's.

A spurious attribute splits *each* class into a large and a small cluster, in opposite proportions. That tells it from
the target, which is constant inside a class, and needs neither group labels nor an image-text model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from torch import Tensor

CLEAR = 0.02  # log-likelihood per image that two clusters a class must gain over one
LEAST_SHARE = 0.025  # of a class in its small cluster: fewer are outliers, such as the bald, and no attribute
LEAST_GAP = 2.7  # standard deviations between the clusters: an attribute's stand 2.8 to 4.9 apart


@dataclass(frozen=True)
class Clusters:
    """A mixture of two clusters inside each target class, along one coordinate.

    The gap and the spread are shared by both classes; each class has its own offset, which takes up what the target
    itself adds.

    Attributes
    ----------
    probability : array (N,)
        Posterior of the upper cluster.
    share : array (2,)
        Share of the upper cluster in class 0 and class 1; they add up to one.
    gap, spread : float
        Distance of the two clusters, and standard deviation inside one.
    offset : array (2,)
        Middle between the two clusters in each class.
    gain : float
        Log-likelihood per image over one Gaussian per class of shared spread.
    """

    probability: np.ndarray
    share: np.ndarray
    gap: float
    spread: float
    offset: np.ndarray
    gain: float

    @property
    def clear(self) -> bool:
        """Whether the clusters are distinct and large enough to stand for an attribute."""
        apart = abs(self.gap) >= LEAST_GAP * self.spread
        return bool(self.gain >= CLEAR and self.share.min() >= LEAST_SHARE and apart)


def fit_clusters(coordinate: np.ndarray, target: np.ndarray, steps: int = 200, tolerance: float = 1e-7) -> Clusters:
    """Fit `Clusters` to coordinates (N,) of images with targets (N,) by expectation-maximisation.

    The upper cluster starts as the majority of the class that lies higher; at most `steps` rounds are made, until the
    log-likelihood per image grows by less than `tolerance`.
    """
    t, y = np.asarray(coordinate, np.float64), labels(target)
    means = np.array([t[y == k].mean() for k in (0, 1)])
    single = np.sqrt(np.mean((t - means[y]) ** 2))
    top = int(means[1] > means[0])
    share = np.where(np.arange(2) == top, 0.8, 0.2)
    gap = 2.0 * single
    offset, spread = means - gap * (share - 0.5), 0.7 * single
    last = -np.inf
    for _ in range(steps):
        upper = _log_normal(t, offset[y] + gap / 2, spread) + np.log(share[y])
        lower = _log_normal(t, offset[y] - gap / 2, spread) + np.log1p(-share[y])
        q = expit(upper - lower)
        likelihood = np.logaddexp(upper, lower).mean()
        if likelihood - last < tolerance:
            break
        last = likelihood
        # Opposite proportions: what splits both classes alike (glasses, say) is no shortcut and must not win.
        major = np.clip(np.mean([q[y == top].mean(), 1 - q[y != top].mean()]), 0.55, 0.98)
        share = np.where(np.arange(2) == top, major, 1 - major)
        # Given q, offsets and gap are a least-squares problem: t = offset_y + gap (q - 1/2).
        centred_t, centred_q = t.copy(), q.copy()
        for k in (0, 1):
            centred_t[y == k] -= t[y == k].mean()
            centred_q[y == k] -= q[y == k].mean()
        gap = np.mean(centred_t * centred_q) / (np.mean(q * (1 - q)) + np.mean(centred_q**2))
        offset = np.array([t[y == k].mean() - gap * (q[y == k].mean() - 0.5) for k in (0, 1)])
        residual = q * (t - offset[y] - gap / 2) ** 2 + (1 - q) * (t - offset[y] + gap / 2) ** 2
        spread = np.sqrt(residual.mean())
    gain = likelihood - _log_normal(t, means[y], single).mean()
    return Clusters(q, share, float(gap), float(spread), offset, float(gain))


def _log_normal(t: np.ndarray, mean, spread: float) -> np.ndarray:
    return -0.5 * ((t - mean) / spread) ** 2 - np.log(spread) - 0.9189385332046727


@dataclass(frozen=True)
class Sides:
    """On which side of each of D directions every image lies: what stands for the groups that nobody told.

    Attributes
    ----------
    upper : array (N, D)
        Probability of the upper side.
    gap, middle : array (D,)
        Distance and middle of the two sides, in degrees.
    known : bool
        Whether to believe in them: words were read, or the clusters are clear.
    """

    upper: np.ndarray
    gap: np.ndarray
    middle: np.ndarray
    known: bool

    def groups(self, target: np.ndarray) -> np.ndarray:
        """Number the groups (N,) of target (N,) and sides."""
        return pseudo_groups(target, self.upper)


def pseudo_groups(target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Number the groups (N,) of target (N,) and sides (N, D): bit 0 is the target, then a bit for each side."""
    bits = np.c_[np.asarray(target), np.asarray(probability) > 0.5].astype(int)
    return bits @ (2 ** np.arange(bits.shape[1]))


class FisherReader:
    """Reads how far images lie along a shift of their codes, by one factorisation of the covariance within groups (N,).

    Its `z` are the codes as rows, float64 (N, levels * width).
    """

    def __init__(self, codes: Tensor, group: np.ndarray):
        self.z = codes.flatten(1).double().numpy()
        centred = self.z.copy()
        for k in np.unique(group):
            centred[group == k] -= self.z[group == k].mean(0)
        self.factor = cho_factor(centred.T @ centred / len(centred) + 1e-3 * np.eye(centred.shape[1]))

    def reader(self, shift: np.ndarray) -> np.ndarray:
        """Return ``covariance^-1 shift``, scaled so that ``<reader, shift> = 1``."""
        reader = cho_solve(self.factor, shift)
        return reader / (reader @ shift)


def labels(target) -> np.ndarray:
    """Return targets as int64 (N,), or raise a ValueError if they are not 0 and 1 or only one of them occurs."""
    values = np.asarray(target)
    if values.ndim != 1 or set(np.unique(values).tolist()) != {0, 1}:
        raise ValueError(f"target holds {np.unique(values).tolist()}; valid are 0 and 1, both 0 and 1 must occur.")
    return values.astype(np.int64)
