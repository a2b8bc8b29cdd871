"""Clusters inside each target class: what a coordinate looks like when it is the spurious attribute's.

A spurious attribute splits *each* class into a large and a small cluster, in opposite proportions. That tells it from
the target, which is constant inside a class, and needs neither group labels nor an image-text model.
"""

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
    """A mixture of two clusters inside each target class, along one coordinate."""

    probability: np.ndarray  #: (N,), posterior of the upper cluster
    share: np.ndarray  #: (2,), share of the upper cluster in class 0 and class 1; they add up to one
    gap: float  #: distance of the two clusters, and standard deviation inside one, in both classes
    spread: float
    offset: np.ndarray  #: (2,), middle between the two clusters in each class: takes up what the target itself adds
    gain: float  #: log-likelihood per image over one Gaussian per class of shared spread
    opposite: bool  #: whether most of one class lies in the upper cluster and most of the other in the lower one

    @property
    def clear(self) -> bool:
        """Whether the clusters are distinct and large enough to stand for an attribute."""
        apart = abs(self.gap) >= LEAST_GAP * self.spread
        return bool(self.gain >= CLEAR and self.share.min() >= LEAST_SHARE and apart and self.opposite)


def fit_clusters(coordinate: np.ndarray, target: np.ndarray) -> Clusters:
    """Fit `Clusters` to coordinates (N,) of images with targets (N,) by expectation-maximisation.

    The upper cluster starts as the majority of the class that lies higher; it ends when the
    log-likelihood per image grows by less than 1e-7, or after 200 rounds.
    """
    t, y = np.asarray(coordinate, np.float64), labels(target)
    means = np.array([t[y == k].mean() for k in (0, 1)])
    single = np.sqrt(np.mean((t - means[y]) ** 2))
    top = int(means[1] > means[0])
    share = np.where(np.arange(2) == top, 0.8, 0.2)
    gap, spread, last = 2.0 * single, 0.7 * single, -np.inf
    offset = means - gap * (share - 0.5)
    for _ in range(200):
        upper = _log_normal(t, offset[y] + gap / 2, spread) + np.log(share[y])
        lower = _log_normal(t, offset[y] - gap / 2, spread) + np.log1p(-share[y])
        q = expit(upper - lower)
        likelihood = np.logaddexp(upper, lower).mean()
        if likelihood - last < 1e-7:
            break
        last = likelihood
        # Opposite proportions: what splits both classes alike (glasses, say) is no shortcut and must not win.
        mean_q = np.array([q[y == k].mean() for k in (0, 1)])
        major = np.clip(np.mean([mean_q[top], 1 - mean_q[1 - top]]), 0.55, 0.98)
        share = np.where(np.arange(2) == top, major, 1 - major)
        # Given q, offsets and gap are a least-squares problem: t = offset_y + gap (q - 1/2).
        centred_q = q - mean_q[y]
        gap = np.mean((t - means[y]) * centred_q) / (np.mean(q * (1 - q)) + np.mean(centred_q**2))
        offset = means - gap * (mean_q - 0.5)
        residual = q * (t - offset[y] - gap / 2) ** 2 + (1 - q) * (t - offset[y] + gap / 2) ** 2
        spread = np.sqrt(residual.mean())
    gain = likelihood - _log_normal(t, means[y], single).mean()
    opposite = (q[y == 0].mean() > 0.5) != (q[y == 1].mean() > 0.5)
    return Clusters(q, share, float(gap), float(spread), offset, float(gain), bool(opposite))


def _log_normal(t: np.ndarray, mean, spread: float) -> np.ndarray:
    return -0.5 * ((t - mean) / spread) ** 2 - np.log(spread) - 0.9189385332046727


@dataclass(frozen=True)
class Sides:
    """On which side of each of D directions every image lies: what stands for the groups that nobody told."""

    upper: np.ndarray  #: (N, D), probability of the upper side
    gap: np.ndarray  #: (D,), distance and middle of the two sides, in degrees
    middle: np.ndarray
    known: bool  #: whether to believe in them: words were read, or the clusters are clear


def pseudo_groups(target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Number the groups (N,) of target (N,) and sides (N, D): bit 0 is the target, then a bit for each side."""
    bits = np.c_[np.asarray(target), np.asarray(probability) > 0.5].astype(int)
    return bits @ (2 ** np.arange(bits.shape[1]))


class FisherReader:
    """Reads how far images lie along a shift of their codes, whose covariance within groups (N,) is factorised once."""

    def __init__(self, codes: Tensor, group: np.ndarray):
        self.z = codes.flatten(1).double().numpy()  # a row for each image
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
