"""Clusters inside each target class: what a direction looks like when it is the spurious attribute's.

Only coordinates, codes and targets go in. A spurious attribute splits *each* class into a large and a small cluster,
in opposite proportions. That tells it from the target, which is constant inside a class, and needs neither group
labels nor an image-text model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

CLEAR = 0.02  # log-likelihood per image that two clusters a class must gain over one
LEAST_SHARE = (
    0.05  # of a class that the small cluster must hold: fewer are outliers, such as the bald, not an attribute
)


@dataclass(frozen=True)
class Clusters:
    """Two clusters inside each target class along one coordinate, as a fitted mixture.

    The spurious attribute splits *each* class into a large and a small cluster, in opposite proportions. The gap and
    the spread are shared by both classes; each class has its own offset, which takes up what the target itself adds.

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
        return self.gain >= CLEAR and self.share.min() >= LEAST_SHARE


def fit_clusters(coordinate: np.ndarray, target: np.ndarray, steps: int = 200, tolerance: float = 1e-7) -> Clusters:
    """Fit :class:`Clusters` to coordinates (N,) by expectation-maximisation.

    The upper cluster starts as the majority of the class that lies higher.
    """
    t, y = np.asarray(coordinate, np.float64), np.asarray(target)
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
        variance_q = np.mean(q * (1 - q)) + np.mean(centred_q**2)
        gap = np.mean(centred_t * centred_q) / variance_q
        offset = np.array([t[y == k].mean() - gap * (q[y == k].mean() - 0.5) for k in (0, 1)])
        residual = q * (t - offset[y] - gap / 2) ** 2 + (1 - q) * (t - offset[y] + gap / 2) ** 2
        spread = np.sqrt(residual.mean())
    one = _log_normal(t, means[y], single).mean()
    return Clusters(q, share, float(gap), float(spread), offset, float(likelihood - one))


def _log_normal(t: np.ndarray, mean, spread: float) -> np.ndarray:
    return -0.5 * ((t - mean) / spread) ** 2 - np.log(spread) - 0.9189385332046727
